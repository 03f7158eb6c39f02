"""A converted network in LiteRT, against what PyTorch made of the same picture: files of tests/data/tflite."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from solov2_edge.runtime import load
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.litert import LitertSession
from solov2_edge.runtime.session import RawOutputs

OUTPUTS = ("class_scores", "kernels", "mask_features")


@pytest.fixture
def recorded(checkout: Path) -> tuple[np.ndarray, RawOutputs]:
    with np.load(checkout / "tests/data/tflite/narrow.npz") as arrays:
        return arrays["image"], RawOutputs(*(arrays[name] for name in OUTPUTS))


@pytest.fixture
def unpack(checkout: Path, tmp_path: Path) -> object:
    def unpacked(precision: str) -> Path:
        path = tmp_path / f"narrow.{precision}.tflite"
        path.write_bytes(gzip.decompress((checkout / f"tests/data/tflite/{path.name}.gz").read_bytes()))
        return path

    return unpacked


def differences(raw: RawOutputs, expected: RawOutputs) -> list[float]:
    """Return the largest difference of each output, relative to its range."""
    return [
        float(np.abs(getattr(raw, name) - getattr(expected, name)).max() / np.ptp(getattr(expected, name)))
        for name in OUTPUTS
    ]


@pytest.mark.parametrize("providers", ["xnnpack", "builtin", "cpu-reference"])
@pytest.mark.parametrize("threads", [1, 2])
def test_float32_is_pytorchs(unpack, recorded, providers: str, threads: int) -> None:
    image, expected = recorded
    with LitertSession(unpack("fp32"), threads=threads, providers=providers) as session:
        assert max(differences(undecoded(session.run(image)), expected)) < 1e-4
        assert (session.manifest.precision, session.manifest.format) == ("fp32", "tflite")


def test_xnnpack_runs_nearly_all_of_it(unpack) -> None:
    first = LitertSession(unpack("fp32")).providers[0]
    taken, nodes = (int(word) for word in first.partition("(")[2].replace(" nodes)", "").split(" of "))
    assert first.startswith("XNNPACK (")
    assert taken > 0.9 * nodes


def test_dynamic_int8_is_near(unpack, recorded) -> None:
    image, expected = recorded
    with LitertSession(unpack("int8-dynamic"), threads=1) as session:
        raw = undecoded(session.run(image))
        assert 1e-4 < max(differences(raw, expected)) < 0.15
        assert session.manifest.precision == "int8-dynamic"
    for name in OUTPUTS:
        correlation = np.corrcoef(getattr(raw, name).ravel(), getattr(expected, name).ravel())[0, 1]
        assert correlation > 0.99, name


def test_load_finds_the_engine_by_the_suffix(unpack, recorded) -> None:
    image, expected = recorded
    with load(unpack("fp32"), threads=1, providers="cpu", score_threshold=0.1) as segment:
        instances = segment(image[0, ..., ::-1])
        np.testing.assert_allclose(segment.raw(image[0, ..., ::-1]).kernels, expected.kernels, atol=1e-3)
        assert segment.engine.startswith("ai-edge-litert")
    assert len(instances) > 0
    assert set(instances.labels) <= {0, 1, 2}
