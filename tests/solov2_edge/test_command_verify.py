from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from solov2_edge.cli import main
from solov2_edge.command_verify import APPLE_PICTURES, with_apple_units
from solov2_edge.converters import verify as verify_module
from solov2_edge.converters import verify_apple
from solov2_edge.converters.verification import Finding, Verification, WorstPicture


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    for name in ("m.onnx", "m.pth"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "in").mkdir()
    return {name: str(tmp_path / name) for name in ("m.onnx", "m.pth", "in")}


@pytest.fixture
def difference(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the stand-in for the comparison reports for the kernels; the bound is 1e-4."""
    reported = [1e-6]

    def verify(artefact: Path, checkpoint: Path, images: Path, **options: Any) -> Verification:
        assert options["limit"] in (None, 2)
        worst: tuple[WorstPicture, ...] = ()
        if options["worst_pictures"] is not None and reported[0] > 1e-4:
            path = str(options["worst_pictures"] / "worst-01-a.png")
            worst = (WorstPicture("a.png", path, 0.5, 1, 2, 3),) * options["worst_count"]
        findings = (
            Finding("a.png", "network", "class_scores", 2e-6, 1e-4),
            Finding("a.png", "network", "kernels", reported[0], 1e-4, note="a note"),
            Finding("a.png", "instances", "recall at 0.5", 1.0, 1.0, at_least=True),
            Finding("a.png", "instances", "mean mask IoU", 0.99, at_least=True),
        )
        return Verification(str(artefact), str(checkpoint), "fp32", "ort", 3, 5, 5, findings, worst)

    monkeypatch.setattr(verify_module, "verify", verify)
    return reported


def test_a_table_and_a_verdict(
    files: dict[str, str], difference: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", files["m.onnx"], "--against", files["m.pth"], "--images", files["in"]]
    assert main([*words, "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["network:", "class", "scores", "2e-06", "<=", "0.0001", "a.png", "ok"]
    assert lines[3].split()[:7] == ["instances:", "recall", "at", "0.5", "1", ">=", "1"]
    assert lines[-3] == "note: a note"
    assert lines[-2] == "network ok, instances ok"
    assert lines[-1] == "passed: 5 of 5 instances matched on 3 pictures"


def test_a_broken_bound_ends_with_three(
    files: dict[str, str], difference: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    difference[0] = float("nan")
    words = ["verify", files["m.onnx"], "--against", files["m.pth"], "--images", files["in"]]
    assert main(words) == 3
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert out.splitlines()[-1].startswith("failed: network kernels is nan")
    assert out.splitlines()[-2] == "network FAILED, instances ok"
    assert main([*words, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert [stage["worst"] for stage in document["stages"]][1] is None


def test_the_worst_pictures_are_named(
    files: dict[str, str], difference: list[float], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["verify", files["m.onnx"], "--against", files["m.pth"], "--images", files["in"]]
    words += ["--worst-pictures", str(tmp_path / "worst")]
    assert main(words) == 0
    assert "no overlay was written: no picture shows a disagreement" in capsys.readouterr().out
    difference[0] = 1.0
    assert main([*words, "--worst", "2"]) == 3
    out = capsys.readouterr().out
    assert out.count("worst-01-a.png: 1 only in PyTorch, 2 only in the artefact, 3 outlines apart") == 2
    assert main([*words, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert len(document["worst_pictures"]) == 5
    assert document["worst_pictures"][0]["extra"] == 2
    assert document["verdicts"] == {"network": False, "instances": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.pth", "--against", "m.onnx", "--images", "in"], "did you mean: verify"),
        (["m.pth", "--against", "m.pth", "--images", "in"], "is a checkpoint, expected a converted file"),
        (["gone.onnx", "--against", "m.pth", "--images", "in"], "no such artefact"),
        (["m.onnx", "--against", "gone.pth", "--images", "in"], "no such checkpoint"),
        (["m.onnx", "--against", "m.pth", "--images", "gone"], "no such pictures"),
        (["m.onnx", "--against", "m.pth", "--images", "in", "--limit", "0"], "--limit must be at least 1"),
        (["m.onnx", "--against", "m.pth", "--images", "in", "--worst", "3"], "needs --worst-pictures DIR"),
        (
            ["m.onnx", "--against", "m.pth", "--images", "in", "--worst-pictures", "w", "--worst", "0"],
            "--worst must be",
        ),
    ],
)
def test_bad_usage(
    files: dict[str, str],
    difference: list[float],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert main(["verify", *(files.get(word, word) for word in words)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_what_apples_runtime_says_joins_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    def compare_units(path: Path, frames: dict[str, Any]) -> tuple[Finding, ...]:
        assert path == tmp_path / "m.mlpackage"
        return tuple(Finding(name, "network", "kernels on all", 1.0, 1e-2) for name in frames)

    monkeypatch.setattr(verify_apple, "compare_units", compare_units)
    before = Verification("m.mlpackage", "m.pth", "fp16", "Core ML", 1, 1, 1, ())
    pictures = checkout / "solov2_edge" / "assets" / "calibration"
    result = with_apple_units(before, tmp_path / "m.mlpackage", pictures)
    assert before.passed
    assert not result.passed
    assert len(result.findings) == APPLE_PICTURES
