"""Artefacts of schema version 1 load for ever and give what they gave; ``tests/data/schema1/write.py`` wrote them."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import manifest_path, sha256_of
from solov2_edge.opening import open_artefact
from solov2_edge.runtime.artefact import read_sidecar

DATA = Path(__file__).resolve().parents[1] / "data/schema1"
PARTS = ("class_scores", "kernels", "mask_features")
TOLERANCE = 1e-4  # of an output's range: engines of other versions and machines round in another order
SUFFIXES = {"onnx": "onnx", "tflite": "tflite", "ncnn": "ncnn", "coreml": "mlpackage"}
NAMES = {name: f"tiny.fp32.{suffix}" for name, suffix in SUFFIXES.items()}
FORMATS = [pytest.param(name, marks=[pytest.mark.torch] if name == "coreml" else []) for name in NAMES]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema1")
    with zipfile.ZipFile(DATA / "artefacts.zip") as archive:
        archive.extractall(folder)
    return folder


def picture() -> np.ndarray:
    """The picture of ``write.py``, from its description there."""
    y, x = np.mgrid[:64, :96]
    frame = np.stack([2 * y, x, (x + y) % 256], axis=2).astype(np.uint8)
    frame[16:40, 24:64] = (30, 200, 90)
    return frame


@pytest.mark.parametrize("name", FORMATS)
def test_it_loads_and_gives_the_recorded_outputs(artefacts: Path, name: str) -> None:
    recorded = np.load(DATA / "outputs.npz")
    with open_artefact(artefacts / NAMES[name], threads=1) as segment:
        raw = segment.raw(picture())
        assert segment.spec.class_names == ("nut", "bolt")
    for part in PARTS:
        expected = recorded[f"{name}.{part}"]
        got = getattr(raw, part)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= TOLERANCE * np.ptp(expected)


@pytest.mark.parametrize("name", list(NAMES))
def test_its_manifest_is_of_version_1_and_belongs_to_it(artefacts: Path, name: str) -> None:
    path = artefacts / NAMES[name]
    assert json.loads(manifest_path(path).read_text())["schema_version"] == 1
    manifest = read_sidecar(path)
    assert manifest is not None
    assert manifest.sha256 == sha256_of(path)
    assert (manifest.format, manifest.precision, manifest.weights_licence) == (name, "fp32", "CC0")
    assert (manifest.input.height, manifest.input.width) == (64, 96)


@pytest.mark.parametrize("name", FORMATS)
def test_it_loads_without_the_manifest_beside_it(artefacts: Path, tmp_path: Path, name: str) -> None:
    alone = tmp_path / NAMES[name]
    with zipfile.ZipFile(DATA / "artefacts.zip") as archive:
        for entry in archive.namelist():
            if entry == alone.name or entry.startswith(f"{alone.name}/"):
                archive.extract(entry, tmp_path)
    with open_artefact(alone, threads=1) as segment:
        assert segment.spec.grids == (8, 6, 4, 3, 2)


def test_its_neighbour_does_not_belong_to_it(artefacts: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes((artefacts / NAMES["onnx"]).read_bytes())
    (tmp_path / "a.onnx.json").write_bytes((artefacts / "tiny.fp32.tflite.json").read_bytes())
    with pytest.raises(InputError, match="was written for"):
        read_sidecar(tmp_path / "a.onnx")


@pytest.mark.torch
def test_what_is_kept_is_never_written_again() -> None:
    module = _module(DATA / "write.py")
    with pytest.raises(SystemExit, match="kept for ever"):
        module.write()


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("solov2_edge_schema1_write", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
