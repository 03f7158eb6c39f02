from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from solov2_edge import checkpoint, command_convert
from solov2_edge.choices import TARGETS
from solov2_edge.cli import main
from solov2_edge.converters import to_onnx
from solov2_edge.errors import GateError
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec

Calls = list[dict[str, Any]]


@pytest.fixture
def weights(tmp_path: Path, tiny_spec: ModelSpec) -> str:
    path = tmp_path / "mine.safetensors"
    checkpoint.save_checkpoint(path, tiny_spec, SOLOv2(tiny_spec).state_dict(), licence="CC0 1.0")
    return str(path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stands in for the exporter, which has its own tests, and records what it was asked for."""
    recorded: Calls = []

    def export_onnx(model: SOLOv2, path: Path, **options: Any) -> Manifest:
        recorded.append({"path": path, **options})
        path.write_bytes(b"onnx")
        contract = InputContract(options["input_kind"], options["height"], options["width"])
        parity = {"class_scores": 1e-6, "kernels": 2e-6, "mask_features": 3e-6}
        return Manifest(model.spec, "onnx", options["precision"], contract, parity=parity, size_bytes=1_500_000)

    monkeypatch.setattr(to_onnx, "export_onnx", export_onnx)
    return recorded


def test_one_file_per_precision(tmp_path: Path, weights: str, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["convert", weights, "--to", "onnx", "--precision", "fp32", "fp16", "-o", str(out)]) == 0
    assert [call["path"].name for call in calls] == ["mine.fp32.onnx", "mine.fp16.onnx"]
    assert {(c["height"], c["width"], c["input_kind"]) for c in calls} == {(448, 768, "image")}
    assert all(c["weights_licence"] == "CC0 1.0" and len(c["source_sha256"]) == 64 for c in calls)
    assert not {"opset", "dcn", "deployment_target", "calibration"} & set(calls[0])
    assert "mine.fp16.onnx  1.5 MB  parity 3.0e-06 of range" in capsys.readouterr().out


def test_options_reach_the_exporter(
    tmp_path: Path, weights: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--input-size", "64x96", "--input", "tensor", "--dcn", "lowered", "--opset", "20", "--name", "other"]
    assert main(["convert", weights, "-o", str(tmp_path), *options, "--json"]) == 0
    (call,) = calls
    assert (call["height"], call["width"], call["input_kind"], call["dcn"]) == (64, 96, "tensor", "lowered")
    assert (call["opset"], call["path"].name) == (20, "other.fp32.onnx")
    document = json.loads(capsys.readouterr().out)
    assert document["variant"] == "custom"
    assert document["artefacts"][0]["input"] == {"kind": "tensor", "height": 64, "width": 96}


def test_calibration_reaches_the_precision_that_needs_it_and_no_other(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    recorded: Calls = []

    def export(model: SOLOv2, path: Path, **options: Any) -> Manifest:
        recorded.append({"path": path, **options})
        contract = InputContract(options["input_kind"], options["height"], options["width"])
        return Manifest(model.spec, "tflite", options["precision"], contract)

    monkeypatch.setattr(command_convert, "exporter", lambda format_: export)
    pictures = str(checkout / "solov2_edge" / "assets" / "calibration")
    options = ["--to", "tflite", "--precision", "fp32", "int8", "--calibrate", pictures, "--input-size", "64x64"]
    assert main(["convert", weights, "-o", str(tmp_path), *options, "--quiet"]) == 0
    assert [call["path"].name for call in recorded] == ["mine.fp32.tflite", "mine.int8.tflite"]
    assert "calibration" not in recorded[0]
    assert recorded[1]["calibration"].to_manifest()["count"] == 64


def test_float_layers_reach_int8_and_no_other_precision(
    tmp_path: Path, weights: str, calls: Calls, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, data = checkout / "solov2_edge" / "assets" / "calibration", checkout / "tests" / "data" / "nuclei_val"
    words = ["convert", weights, "--precision", "fp32", "int8", "--calibrate", str(pictures), "--input-size", "64x64"]
    words += ["-o", str(tmp_path), "--quiet"]
    assert main([*words, "--keep-float", "neck.fpn_convs.0", "mask_head.conv_cls"]) == 0
    assert "keep_float" not in calls[0]
    assert calls[1]["keep_float"] == {"neck.fpn_convs.0", "mask_head.conv_cls"}
    validation = ["--val-annotations", str(data / "instances.json"), "--val-images", str(data / "images")]
    assert main([*words, "--max-drop", "0.5", *validation]) == 0
    assert "choose" not in calls[2]
    assert calls[3]["choose"].max_drop == 0.5
    assert len(calls[3]["choose"].held_out.pictures) == 54
    capsys.readouterr()
    words[words.index(str(pictures))] = str(data / "images")
    assert main([*words, "--max-drop", "0.5", *validation]) == 2
    assert "54 of the 54 pictures to measure on calibrate as well" in capsys.readouterr().err
    assert len(calls) == 4


@pytest.mark.parametrize("engine", ["tensorrt", "openvino"])
def test_the_file_for_another_engine_has_a_name_of_its_own(
    engine: str, tmp_path: Path, weights: str, calls: Calls, checkout: Path
) -> None:
    pictures = str(checkout / "solov2_edge" / "assets" / "calibration")
    options = ["--precision", "fp32", "int8", "--for", engine, "--calibrate", pictures, "--input-size", "64x64"]
    assert main(["convert", weights, "-o", str(tmp_path), *options, "--quiet"]) == 0
    assert [call["path"].name for call in calls] == ["mine.fp32.onnx", f"mine.int8-{engine}.onnx"]
    assert [call.get("target") for call in calls] == [None, engine]


def test_every_format_has_an_exporter_and_a_suffix() -> None:
    from solov2_edge.conversions import EXPORTERS, SUFFIXES

    assert set(EXPORTERS) == set(SUFFIXES) == set(TARGETS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "tflit"], "did you mean tflite?"),
        (["--precision", "palette6"], "--precision palette6 cannot be written as onnx, which takes fp32, fp16"),
        (["--to", "tflite", "--precision", "int8"], "tflite int8 needs calibration pictures; add --calibrate DIR"),
        (["--calibrate", "."], "--calibrate and --allow-small are for precisions with integer activations"),
        (["--allow-small"], "none of which was asked"),
        (["--deployment-target", "iOS16"], "--deployment-target is for --to coreml, which was not asked"),
        (["--to", "tflite", "--opset", "18"], "--opset is for --to onnx, which was not asked"),
        (["--for", "tensorrt"], "--for is for --to onnx --precision int8, which was not asked"),
        (["--max-drop", "0.5"], "--max-drop is for --to onnx or tflite with --precision int8, which was not asked"),
        (["--precision", "int8", "--max-drop", "0.5"], "add --val-annotations JSON and --val-images DIR"),
        (["--precision", "half"], "did you mean fp16?"),
        (["--input-size", "450x768"], "the next is 480x768"),
        (["--name", "a/b"], "--name must be a bare file name"),
        (["--opset", "3"], "opset must be 18..22, got 3"),
        (["--to", "coreml", "--deployment-target", "iOS9"], "one of iOS16, iOS17, iOS18"),
        (["--decode", "graph", "--max-candidates", "1000000000"], "--max-candidates must be at most 10000"),
        (["--name", ""], "--name must be a bare file name"),
        (["--name", "n" * 300], "--name must be at most 180 bytes long, got 300"),
        (["--variant", "nnano"], "nano"),
    ],
)
def test_what_is_refused_before_any_work(
    tmp_path: Path, weights: str, calls: Calls, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["convert", weights, "-o", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not calls
    assert not (tmp_path / "out").exists()


def test_a_missing_or_foreign_checkpoint_is_one_sentence(
    tmp_path: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.pth").write_text("not a checkpoint", encoding="utf-8")
    for name in ("gone.pth", "notes.pth"):
        assert main(["convert", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert name in err
        assert err.count("\n") == 1
    assert not calls


def test_lost_parity_ends_with_three(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export_onnx(*args: Any, **options: Any) -> Manifest:
        raise GateError("parity with PyTorch is lost")

    monkeypatch.setattr(to_onnx, "export_onnx", export_onnx)
    assert main(["convert", weights, "-o", str(tmp_path / "out"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["exit_code"] == 3
