from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solov2_edge import report_table
from solov2_edge.bundled import bundle
from solov2_edge.choices import CALIBRATED, TARGETS
from solov2_edge.console import Console
from solov2_edge.errors import GateError, InputError, MissingDependencyError


def file(name: str, **changes: Any) -> dict[str, Any]:
    format_, precision = name.split()
    stages = [
        {"stage": "network", "quantity": "kernels", "worst": 3e-6, "bound": 1e-4},
        {"stage": "network", "quantity": "class_scores", "worst": 2e-6, "bound": 1e-4},
        {"stage": "network", "quantity": "noise of kernels", "worst": 0.5, "bound": None},
        {"stage": "instances", "quantity": "score", "worst": 0.9, "bound": 1.0},
    ]
    return {
        "name": f"nano.{precision}.file",
        "format": format_,
        "precision": precision,
        "size_bytes": 6_540_000,
        "input": {"height": 448, "width": 448},
        "eval": {"ap": 53.64, "drop": -0.001, "drop_interval": [-0.02, 0.031]},
        "bench": {"ratio_to_first": {"network": {"p50": 0.254}}, "threads": 2, "rounds": 50},
        "verify": {"passed": True, "matched": 90, "expected": 91, "pictures": 22, "stages": stages},
        **changes,
    }


def document(*files: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "nano",
        "files": list(files),
        "baseline": {"name": "nano.pth", "eval": {"ap": 53.6, "pictures": 54}},
        "timing": {"machine": {"cpu": "A processor", "usable_cores": 2}},
        "reference": "nano.fp32.onnx",
        "warnings": [],
        "passed": True,
    }


def test_a_row_holds_what_was_measured() -> None:
    lines = report_table.markdown(document(file("onnx fp32"))).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "ONNX fp32", "6.5 MB", "53.6", "0.00 (-0.02 to 0.03)", "largest 3e-06", "90 of 91", "0.25 x",
    ]  # fmt: skip
    assert "54 pictures" in lines[-1]
    assert "distance from PyTorch on 22" in lines[-1]
    assert "50 rounds, 2 threads, A processor, 2 cores, which were quiet." in lines[-1]
    assert "interpreted" not in lines[-1]


def test_a_file_for_another_engine_is_called_so() -> None:
    text = report_table.markdown(document(file("onnx int8"), {**file("onnx int8"), "name": "nano.int8-tensorrt.onnx"}))
    assert "| ONNX int8 |" in text
    assert "| ONNX int8 for TensorRT |" in text


def test_noise_failure_and_missing_times_are_said() -> None:
    noisy = file("coreml int8", bench=None)
    noisy["verify"] |= {
        "passed": False,
        "stages": [{"stage": "network", "quantity": "noise of kernels", "worst": 0.31, "bound": 0.25}],
    }
    noisy["eval"] |= {"drop_interval": None}
    text = report_table.markdown({**document(file("onnx fp32"), noisy), "warnings": ["not quiet"]})
    assert "| Core ML int8 | 6.5 MB | 53.6 | 0.00 | noise 0.3, FAILED | 90 of 91 | - |" in text
    assert "not quiet" in text
    assert "interpreted" in text
    noisy["verify"]["stages"][0]["worst"] = None
    assert "not finite" in report_table.markdown({**document(noisy), "timing": None})


def test_every_precision_that_is_offered_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(verb: str, words: list[str], console: Console) -> dict[str, Any]:
        asked.append(words)
        if "palette4" in words:
            raise GateError("parity is lost")
        if "coreml" in words and "fp16" in words:
            raise MissingDependencyError("coremltools", "convert-coreml", "Core ML")
        return {}

    monkeypatch.setattr(report_table, "ask", ask)
    paths, notes, refused = report_table.convert_all(bundle(), tmp_path, Console(quiet=True), keep=True)
    assert len(asked) == sum(map(len, TARGETS.values())) + 1, "int8 ONNX is a file for CPUs and one for TensorRT"
    assert [words[-1] for words in asked if "--for" in words] == ["cpu", "tensorrt"]
    assert len(set(paths)) == len(paths)
    assert len(paths) == len(asked) - 2
    assert refused
    assert [note.split(" is missing: ")[0] for note in notes] == ["Core ML fp16", "Core ML palette4"]
    assert all(("--calibrate" in words) == ((words[2], words[4]) in CALIBRATED) for words in asked)
    for path in paths:
        path.write_bytes(b"x")
    asked.clear()
    report_table.convert_all(bundle(), tmp_path, Console(quiet=True), keep=True)
    assert len(asked) == 2
    asked.clear()
    report_table.convert_all(bundle(), tmp_path, Console(quiet=True), keep=False, formats=["tflite"])
    assert {words[2] for words in asked} == {"tflite"}


def test_the_table_is_printed_and_a_refused_precision_ends_with_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[str] = []

    def ask(verb: str, given: list[str], console: Console) -> dict[str, Any]:
        words[:] = given
        return {**document(file("onnx fp32")), "report": tmp_path / "report.html"}

    monkeypatch.setattr(report_table, "ask", ask)
    outcome: tuple[list[Path], list[str], bool] = ([tmp_path / "a.onnx"], [], False)
    monkeypatch.setattr(report_table, "convert_all", lambda *args, **options: outcome)
    line = ["-o", str(tmp_path), "--images", "i", "--annotations", "a.json", "--seconds", "3", "--quiet"]
    assert report_table.main(line) == 0
    assert capsys.readouterr().out.startswith("| format, precision |")
    assert words[-2:] == ["--seconds", "3"]
    outcome = ([], ["Core ML int4 is missing: lost"], True)
    assert report_table.main(line) == 3
    assert "Core ML int4 is missing: lost" in capsys.readouterr().out

    def refuse(*args: Any) -> dict[str, Any]:
        raise InputError("no such folder")

    monkeypatch.setattr(report_table, "ask", refuse)
    assert report_table.main(line) == 2
    assert capsys.readouterr().err == "solov2-edge: no such folder\n"
