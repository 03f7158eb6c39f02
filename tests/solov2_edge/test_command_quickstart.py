from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from solov2_edge import bundled, command_quickstart
from solov2_edge.bundled import Bundle
from solov2_edge.checkpoint import load_model, save_checkpoint
from solov2_edge.cli import main
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.errors import InputError
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec

ASSETS = Path(__file__).resolve().parents[2] / "solov2_edge" / "assets"


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec) -> Bundle:
    """The shipped pictures with an untrained network of a few hundred kilobytes, at 64 x 64."""
    folder = tmp_path_factory.mktemp("bundle")
    spec = replace(tiny_spec, class_names=("nucleus",), resize_box=(64, 64))
    checkpoint = folder / "tiny.safetensors"
    save_checkpoint(checkpoint, spec, SOLOv2(spec).state_dict(), licence="CC0 1.0")
    model, source = load_model(checkpoint)
    artefact = folder / "tiny.fp32.onnx"
    export_onnx(model, artefact, height=64, width=64, source_sha256=source.sha256, weights_licence="CC0 1.0")
    return Bundle(
        checkpoint, artefact, ASSETS / "pictures.json", ASSETS / "pictures", ASSETS / "calibration", "nucleus", "nuclei"
    )


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, small_bundle: Bundle) -> Bundle:
    monkeypatch.setattr(command_quickstart, "bundle", lambda: small_bundle)
    return small_bundle


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make packages look as if they were not installed."""
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in packages else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.slow
def test_the_whole_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # With the real weights: integers and float16 are judged by instances, which an untrained network has none of.
    assert main(["quickstart", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"open {tmp_path.resolve() / 'report.html'}"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    artefacts = ("fp32.onnx", "fp16.onnx", "fp32.tflite", "int8.tflite", "fp16.mlpackage")
    for text in (
        *(f"nano-nuclei.{name}" for name in artefacts),
        "nano-nuclei.safetensors",
        "Does it still compute the same?",
        "CC0",
    ):
        assert text in page
    assert page.count('<span class="good">passed</span>') == len(artefacts)
    names = {p.name for p in (tmp_path / "masks").iterdir()}
    assert {"fluorescence.overlay.jpg", "purple-stain.json", "instances.json"} <= names
    assert (tmp_path / "nano-nuclei.fp16.onnx.json").exists()


def test_without_pytorch_the_shipped_file_does_it(
    tmp_path: Path, shipped: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "torch", "pycocotools")
    assert main(["quickstart", "-o", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert [artefact["name"] for artefact in document["artefacts"]] == ["tiny.fp32.onnx"]
    assert document["artefacts"][0]["ap"] is None
    assert "pip install 'solov2-edge[convert]'" in document["notes"][0]
    assert "pip install 'solov2-edge[eval]'" in document["notes"][1]
    assert "Conversion and verification were left out" in err
    assert not list(tmp_path.glob("*.onnx"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Conversion and verification were left out" in page
    assert "Does it still compute the same?" not in page


def test_a_format_without_its_toolchain_is_left_out_and_named(
    tmp_path: Path, shipped: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "litert_torch", "coremltools")
    assert main(["quickstart", "-o", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [a["name"] for a in document["artefacts"]] == ["tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.safetensors"]
    assert document["notes"] == [
        "TFLite was left out: it needs litert_torch (pip install 'solov2-edge[convert-tflite]').",
        "Core ML was left out: it needs coremltools (pip install 'solov2-edge[convert-coreml]').",
    ]


def test_an_incomplete_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nano-nuclei.safetensors").write_bytes(b"x")
    monkeypatch.setattr(bundled, "bundled_path", lambda: tmp_path / "nano-nuclei.safetensors")
    with pytest.raises(InputError, match=r"nano-nuclei\.fp32\.onnx is missing from this installation"):
        bundled.bundle()
