"""The bundled model reported once for all tests here; what is refused; and what a bad file does to the exit code."""

from __future__ import annotations

import copy
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from solov2_edge import report_run
from solov2_edge.bundled import bundle
from solov2_edge.cli import main
from solov2_edge.console import Console
from solov2_edge.manifest import manifest_path, sha256_of
from solov2_edge.report_facts import conversion_report

LAYERS = [{"layer": "stem", "drop": 0.4, "sqnr_db": None, "macs": 7}, {"layer": "fpn", "drop": 0.1}]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on the bundled ONNX file."""
    folder, files = tmp_path_factory.mktemp("report"), bundle()
    (folder / "layers.json").write_text(json.dumps(LAYERS), encoding="utf-8")
    words = [str(files.artefact), "--against", str(files.checkpoint), "--images", str(files.pictures)]
    words += ["--annotations", str(files.annotations), "--sensitivity", str(folder / "layers.json")]
    words += ["--verify-limit", "1", "--seconds", "0.1", "--settle", "0", "--threads", "1", "--quiet"]
    assert main(["report", *words, "-o", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture
def document(reported: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((reported / "report.json").read_text(encoding="utf-8"))
    return data


def test_the_page_stands_alone(reported: Path) -> None:
    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe")
            assert all((value or "").startswith("data:") for name, value in attrs if name in ("src", "href"))

    page = (reported / "report.html").read_text(encoding="utf-8")
    Reader().feed(page)
    for text in (
        "nano-nuclei: one file, measured",
        "Apache-2.0",
        "stem",
        "0.40 points",
        "onnxruntime",
        "none was needed",
    ):
        assert text in page


def test_the_document_is_what_the_verbs_say(document: dict[str, Any]) -> None:
    files = bundle()
    (file,) = document["files"]
    assert document["schema"] == "solov2-edge report 1"
    assert file["sha256"] == sha256_of(files.artefact)
    assert document["checkpoint"]["sha256"] == file["source_sha256"] == sha256_of(files.checkpoint)
    assert (file["format"], file["precision"]) == ("onnx", "fp32")
    assert file["eval"]["ap"] == pytest.approx(document["baseline"]["eval"]["ap"], abs=0.5)
    assert file["eval"]["drop"] == pytest.approx(document["baseline"]["eval"]["ap"] - file["eval"]["ap"])
    assert file["verify"]["passed"] is document["passed"] is True
    assert file["verify"]["pictures"] == 1
    assert {"preprocess", "network", "decode", "instances"} <= set(file["verify"]["verdicts"])
    assert file["bench"]["ratio_to_first"]["network"]["p50"] == 1.0
    assert file["bench"]["threads"] == 1
    assert document["timing"]["machine"]["cpu"]
    assert document["timing"]["settings"]["source"] == [str(files.pictures)]
    assert [layer["layer"] for layer in document["sensitivity"]] == ["stem", "fpn"]
    assert "--verify-limit 1" in document["command"]


def test_a_page_can_be_made_of_the_document(reported: Path, document: dict[str, Any]) -> None:
    report = conversion_report(document, reported)
    assert report.compared == 1
    assert report.timing is not None
    assert report.timing.reference == report.files[0].name
    assert {row.stage for row in report.files[0].stages} >= {"network", "decode"}
    document["files"][0]["calibration"] = {"count": 64, "sha256": "d" * 64}
    assert "Quantisation" not in report.files[0].provenance
    document["files"][0]["quantisation"] = {"kept_float": ["conv1", "conv2"], "kept_share": 0.031, "method": "mse"}
    document["files"][0]["bench"] = document["timing"] = None
    report = conversion_report(document, reported)
    assert report.files[0].provenance["Calibration set"] == "64 pictures"
    assert report.files[0].provenance["SHA-256 of the calibration set"] == "d" * 64
    said = "kept float: conv1, conv2, 3.1 % of the multiplications; method mse"
    assert report.files[0].provenance["Quantisation"] == said
    assert report.timing is None
    assert report.files[0].network is None


@pytest.fixture
def answers(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the other verbs say of the bundled file: a real report's figures, to be changed by a test."""
    file = document["files"][0]
    path, checkpoint = str(bundle().artefact), str(bundle().checkpoint)
    rows = [{**document["baseline"]["eval"], "model": Path(checkpoint)}, {**file["eval"], "model": Path(path)}]
    said: dict[str, Any] = {
        "bench": {**document["timing"], "results": [file["bench"]]},
        "eval": {"results": rows, "warnings": [], "passed": True},
        "verify": {**file["verify"], "findings": [], "worst_pictures": []},
        "asked": [],
    }

    def ask(verb: str, words: list[str], console: object) -> dict[str, Any]:
        said["asked"].append((verb, words))
        return copy.deepcopy(said[verb])

    monkeypatch.setattr(report_run, "ask", ask)
    return said


def report(tmp_path: Path, *words: str) -> int:
    files = bundle()
    needed = ["--against", str(files.checkpoint), "--images", str(files.pictures)]
    needed += ["--annotations", str(files.annotations), "-o", str(tmp_path / "out"), "--settle", "0"]
    return main(["report", str(files.artefact), *needed, *words])


def test_a_file_that_fails_verification_ends_with_three(
    answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers["verify"] |= {"passed": False, "verdict": "failed: kernels are off"}
    assert report(tmp_path) == 3
    assert "FAILED" in capsys.readouterr().out
    assert "failed: kernels are off" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_a_drop_beyond_the_gate_ends_with_three(
    answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers["eval"] |= {"passed": False}
    answers["eval"]["results"][1]["drop"] = 9.0
    assert report(tmp_path, "--max-drop", "0.5", "--json") == 3
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] is False
    assert data["files"][0]["eval"]["drop"] == 9.0
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "At most 0.5 points of AP may be lost: ONNX fp32 lost more." in page


def test_a_busy_machine_is_said(answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers["bench"]["machine"] |= {"load": 7.5, "usable_cores": 2}
    assert report(tmp_path) == 0
    assert "The machine was not quiet: load 7.5 on 2 cores" in capsys.readouterr().out
    assert "The machine was not quiet" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    answers["bench"]["machine"] |= {"load": 0.5}
    assert report(tmp_path) == 0
    assert "not quiet" not in capsys.readouterr().out


def test_the_verbs_are_asked_for_the_same_thing(answers: dict[str, Any], tmp_path: Path) -> None:
    assert report(tmp_path, "--limit", "2", "--threads", "1", "--max-detections", "300") == 0
    asked = dict(answers["asked"])
    assert list(asked) == ["bench", "eval", "verify"]
    size = "--input-size=448x448"
    assert size in asked["eval"]
    assert size not in asked["bench"]  # the float32 artefact is what the ratios are to
    for word in ("--limit=2", "--threads=1", "--max-detections=300", f"--baseline={bundle().checkpoint}"):
        assert word in asked["eval"]
    assert asked["bench"][-3:] == ["--instances", "--threads", "1"]
    assert not any(word.startswith("--limit") for word in asked["verify"])
    assert not any("engine" in word for words in asked.values() for word in words)


def test_all_of_them_are_asked_for_the_engine_that_was_named(
    answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, "--engine", "openvino", "--json") == 0
    asked = dict(answers["asked"])
    assert asked["bench"][-2:] == ["--engine", "openvino"]
    assert all("--engine=openvino" in asked[verb] for verb in ("eval", "verify"))
    document = json.loads(capsys.readouterr().out)
    assert document["files"][0]["engine"].startswith("openvino ")
    assert "--engine openvino" in document["command"]
    assert report(tmp_path, "--engine", "litert") == 2


def test_an_artefact_of_another_checkpoint_is_refused_at_once(
    answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"x")
    assert report(tmp_path, "--against", str(other)) == 2
    assert "was made from another checkpoint" in capsys.readouterr().err
    assert answers["asked"] == []
    assert not (tmp_path / "out/report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "0"], "--limit must be at least 1"),
        (["--verify-limit", "0"], "--verify-limit must be at least 1"),
        (["--worst", "0"], "--worst must be at least 1"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--settle", "-1"], "--settle must be at least 0"),
        (["--settle", "nan"], "--settle must be at least 0"),
        (["--max-drop", "nan"], "--max-drop must be a number"),
        (["--images", "gone"], "gone: no such folder of pictures"),
        (["--annotations", "gone"], "gone: no such annotations"),
        (["--sensitivity", "gone"], "gone: no such file"),
        (["--source", "gone"], "gone: no such file"),
        (["--baseline", "gone.onnx"], "must be one of the artefacts"),
        (["--against", str(bundle().artefact)], "must be the checkpoint"),
        (["gone.onnx"], "gone.onnx: no such artefact"),
        ([str(bundle().checkpoint)], "it goes to --against"),
    ],
)
def test_bad_usage(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = [words[0]] if not words[0].startswith("--") else []
    files = bundle()
    needed = ["--against", str(files.checkpoint), "--images", str(files.pictures)]
    needed += ["--annotations", str(files.annotations), "-o", str(tmp_path / "out")]
    assert main(["report", str(files.artefact), *first, *needed, *([] if first else words)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = bundle().artefact
    shutil.copy(artefact, tmp_path / artefact.name)
    shutil.copy(manifest_path(artefact), manifest_path(tmp_path / artefact.name))
    files = bundle()
    words = [str(artefact), str(tmp_path / artefact.name), "--against", str(files.checkpoint)]
    words += ["--images", str(files.pictures), "--annotations", str(files.annotations), "-o", str(tmp_path / "out")]
    assert main(["report", *words]) == 2
    assert "rename one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a list"),
        ("3", "must hold a list"),
        ('{"layers": {}}', "must hold a list"),
        ('[{"drop": 1}]', "must hold a list"),
        ('[{"layer": "a"}]', "neither drop nor sqnr_db"),
        ('[{"layer": "a", "drop": "x"}]', "drop of a must be a number or null, got 'x'"),
        ('[{"layer": "a", "drop": NaN}]', "must be a number"),
    ],
)
def test_a_bad_sensitivity_file_is_refused_before_any_work(
    text: str, message: str, answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "layers.json"
    path.write_text(text, encoding="utf-8")
    assert report(tmp_path, "--sensitivity", str(path)) == 2
    assert message in capsys.readouterr().err
    assert answers["asked"] == []
    path.write_text(json.dumps({"layers": LAYERS}), encoding="utf-8")
    assert report(tmp_path, "--sensitivity", str(path)) == 0


def test_waiting_for_quiet_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("solov2_edge.runtime.machine.read_machine", lambda: type("M", (), {"usable_cores": 2})())
    monkeypatch.setattr("os.getloadavg", lambda: (90.0 if len(slept) < 3 else 1.0, 0.0, 0.0), raising=False)
    report_run._settle(30.0, Console(quiet=True))
    assert len(slept) == 3
    monkeypatch.setattr("os.getloadavg", lambda: (90.0, 0.0, 0.0), raising=False)
    report_run._settle(0.0, Console(quiet=True))
    assert len(slept) == 3
