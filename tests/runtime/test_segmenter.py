from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime import DecodeOptions, RawOutputs, Segmenter, load
from solov2_edge.runtime.fake import FakeSession

MakeOnnx = Callable[..., Path]
FRAME = np.full((128, 192, 3), 100, np.uint8)


def test_a_frame_becomes_instances_in_its_own_pixels(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw))
    instances = segment(FRAME)
    assert len(instances) == 1
    mask = instances.masks[0]
    assert mask.shape == (128, 192)
    assert mask[:, :92].all()
    assert not mask[:, 100:].any()
    assert instances.scores[0] == pytest.approx(0.9, abs=1e-3)
    assert [instances.class_names[label] for label in instances.labels] == ["nut"]


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_the_network_sees_what_the_contract_says(tiny_manifest: Manifest, tiny_raw: RawOutputs, kind: str) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    def watch(batch: np.ndarray[Any, Any]) -> RawOutputs:
        seen.append(batch)
        return tiny_raw

    manifest = replace(tiny_manifest, input=InputContract(kind, 64, 96))
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[..., 2] = 255  # red, in BGR
    Segmenter(FakeSession(manifest, watch))(frame)
    red = seen[0][0, 10, 10] if kind == "image" else seen[0][0, :, 10, 10] * manifest.spec.std + manifest.spec.mean
    np.testing.assert_allclose(red, [255, 0, 0], atol=1e-4)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME[..., 0],
        np.dstack([FRAME, FRAME[..., :1]]),
        FRAME.astype(np.uint16) * 257,
        np.zeros((1, 300, 3), np.uint8),
        np.zeros((300, 1, 3), np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((40, 8000, 3), np.uint8),
    ],
    ids=["grey", "BGRA", "16 bits", "1 px high", "1 px wide", "1 px", "8000 px wide"],
)
def test_frames_of_any_kind(tiny_manifest: Manifest, tiny_raw: RawOutputs, frame: np.ndarray[Any, Any]) -> None:
    instances = Segmenter(FakeSession(tiny_manifest, tiny_raw))(frame)
    assert instances.masks.shape[1:] == frame.shape[:2]


def test_a_frame_without_instances_is_a_normal_result(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    silent = RawOutputs(np.zeros_like(tiny_raw.class_scores), tiny_raw.kernels, tiny_raw.mask_features)
    instances = Segmenter(FakeSession(tiny_manifest, silent))(FRAME)
    assert len(instances) == 0
    assert instances.masks.shape == (0, 128, 192)


def test_timings_in_milliseconds_of_every_stage(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw))
    assert segment.timings == {"preprocess": 0, "network": 0, "decode": 0}
    segment(FRAME)
    assert all(0 < value < 10_000 for value in segment.timings.values())
    assert list(segment.timings) == ["preprocess", "network", "decode"]
    assert segment.raw(FRAME) is tiny_raw
    assert segment.timings["decode"] == 0


def test_what_the_session_says_can_be_read(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    with Segmenter(FakeSession(tiny_manifest, tiny_raw), DecodeOptions(score_threshold=0.95)) as segment:
        assert segment.manifest is tiny_manifest
        assert segment.spec is tiny_manifest.spec
        assert (segment.engine, segment.providers) == ("fake", ("fake",))
        assert len(segment(FRAME)) == 0
    with pytest.raises(InputError, match="closed"):
        segment(FRAME)


def test_a_wrong_frame_is_refused(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    with pytest.raises(InputError, match="a frame must be"):
        Segmenter(FakeSession(tiny_manifest, tiny_raw))(FRAME.astype(np.float32))


def test_load_opens_an_onnx_file(make_onnx: MakeOnnx) -> None:
    path = make_onnx()
    with load(path, threads=1, providers="cpu", score_threshold=0.3, engine="onnxruntime") as segment:
        assert len(segment(FRAME)) == 1
        assert segment.options == DecodeOptions(score_threshold=0.3)
        assert segment.engine.startswith("onnxruntime ")
    assert len(load(str(path.rename(path.with_suffix(".ONNX"))), score_threshold=0.95)(FRAME)) == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("missing.onnx", {}, "does not exist"),
        ("net.pth", {}, "is a checkpoint, expected an artefact"),
        ("net.safetensors", {}, "is a checkpoint"),
        ("net.zip", {}, "ends in .zip, expected an artefact made by solov2-edge convert: .onnx, .tflite, .mlpackage"),
        ("net", {}, "ends in nothing"),
        ("net.onnx", {"engine": "litert"}, "run in engine 'onnxruntime' or 'openvino', got engine='litert'"),
        ("net.tflite", {"engine": "onnxruntime"}, "run in engine 'litert', got engine='onnxruntime'"),
        ("net.mlpackage", {"engine": "onnxruntime"}, "run in engine 'coreml'"),
        ("net.onnx", {"score_treshold": 0.3}, "unknown option 'score_treshold'; expected score_threshold$"),
        ("net.onnx", {"zzz": 1}, "unknown option 'zzz'; expected score_threshold or keep_threshold or"),
        ("net.onnx", {"score_threshold": 2}, "score_threshold"),
        ("net.onnx", {"nms_kernel": "soft"}, "nms_kernel"),
    ],
)
def test_load_refuses_in_one_sentence(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path / name, **options)
    assert "\n" not in str(caught.value)


def test_importing_the_runtime_loads_no_engine() -> None:
    code = (
        "import sys, solov2_edge.runtime as runtime\n"
        "heavy = {'onnxruntime', 'torch', 'onnx', 'tensorflow', 'coremltools', 'pycocotools'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert all(hasattr(runtime, name) for name in runtime.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
