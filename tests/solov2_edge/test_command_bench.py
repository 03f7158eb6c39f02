"""Structure, refusals, the saved file and exit codes; never a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge import bench_run
from solov2_edge.bundled import bundle
from solov2_edge.cli import main
from solov2_edge.manifest import InputContract, Manifest, sha256_of
from solov2_edge.opening import INTERPRETED
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.frame_stream import DEPTH
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.threads import ORT_CONFIG
from solov2_edge.variants import variant

Opened = list[tuple[str, dict[str, Any]]]
QUICK = ["--repeats", "2", "--warm-up", "1", "--instances", "0", "2"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Files that open as a network of nano's shape at 224x224 which finds as many discs as the name says."""
    manifest = Manifest(variant("nano"), "onnx", "fp16", InputContract("image", 224, 224))
    opened: Opened = []

    def open_segmenter(path: Path, **options: Any) -> Segmenter:
        given = {name: options.pop(name) for name in ("threads", "input_size", "engine") if name in options}
        opened.append((path.name, given))
        raw = planted_outputs(manifest.spec, fixed_geometry(60, 80, 224, 224), int(path.stem))
        session = FakeSession(manifest, raw)
        if path.suffix == ".mlpackage":
            session.engine = f"{INTERPRETED}, not Apple's runtime"
        return Segmenter(session, DecodeOptions(**options))

    monkeypatch.setattr(bench_run, "open_segmenter", open_segmenter)
    assert cv2.imwrite(str(tmp_path / "frame.png"), np.zeros((60, 80, 3), np.uint8))

    def make(*names: str) -> list[str]:
        for name in names:
            (tmp_path / name).write_bytes(name.encode())
        return [*(str(tmp_path / name) for name in names), "--source", str(tmp_path / "frame.png")]

    make.opened = opened  # type: ignore[attr-defined]
    return make


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


def bench(*words: str) -> int:
    return main(["bench", *words])


def test_two_tables(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*models("3.onnx", "7.onnx"), *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    header = lines[2].split()
    assert header[:5] == ["artefact", "threads", "frames", "found", "preprocess"]
    rows = [dict(zip(header, line.split(), strict=False)) for line in lines[3:5]]
    assert [(row["artefact"], row["threads"], row["frames"], row["found"]) for row in rows] == [
        ("3.onnx", "default", "60x80", "3"),
        ("7.onnx", "default", "60x80", "7"),
    ]
    assert rows[0]["ratio"] == "1.00"
    counts = [line.split() for line in lines[8:12]]
    assert [(c[0], c[3], c[5]) for c in counts] == [(n, k, "real") for n in ("3.onnx", "7.onnx") for k in ("0", "2")]
    assert lines[-1].startswith("2 rounds: p99 needs 100")


def test_the_document_says_all_that_was_measured(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = models("3.onnx")
    assert bench(*words, *QUICK, "--score-threshold", "0.2", "--masks", "rle", "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert "opening" in err
    assert {"cpu", "cores", "clocks", "clock_after_mhz", "memory_bytes", "system"} <= set(document["machine"])
    assert {"python", "numpy"} <= set(document["versions"])
    settings = document["settings"]
    assert (settings["masks"], settings["repeats"], settings["seconds"], settings["warm_up"]) == ("rle", 2, None, 1)
    assert "RLE" in settings["frame_includes"]
    (entry,) = document["results"]
    assert entry["sha256"] == sha256_of(words[0])
    assert (entry["name"], entry["engine"], entry["precision"], entry["meaningful"]) == ("3.onnx", "fake", "fp16", True)
    assert (entry["input_size"], entry["frame_sizes"], entry["rounds"]) == ([224, 224], [[60, 80]], 2)
    assert entry["decode_options"]["score_threshold"] == 0.2
    assert set(entry["stages_ms"]) == {"preprocess", "network", "decode", "masks", "frame", "cpu"}
    assert [count["instances"] for count in entry["counts"]] == [0, 2]


def test_every_thread_count_and_frame_size_is_a_line(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*models("3.onnx", "4.onnx"), *QUICK, "--threads", "1", "2", "--frame-size", "60x80", "120X160", "--json"]
    assert bench(*words) == 0
    entries = json.loads(capsys.readouterr().out)["results"]
    lines = [(entry["name"], entry["threads"], tuple(entry["frame_sizes"][0])) for entry in entries]
    assert lines == [
        (n, t, s) for n in ("3.onnx", "4.onnx") for t in (1, 2) for s in ((60, 80), (120, 160))
    ]  # fmt: skip
    assert models.opened == [(n, {"threads": t, "input_size": None}) for n in ("3.onnx", "4.onnx") for t in (1, 2)]


def test_every_engine_is_a_line(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*models("3.onnx"), *QUICK, "--threads", "2", "--engine", "onnxruntime", "openvino"]
    assert bench(*words, "--json") == 0
    entries = json.loads(capsys.readouterr().out)["results"]
    assert [entry["name"] for entry in entries] == ["3.onnx in onnxruntime", "3.onnx in openvino"]
    assert [given["engine"] for _, given in models.opened] == ["onnxruntime", "openvino"]
    assert bench(*models("3.onnx", "4.tflite"), *QUICK, "--engine", "openvino") == 2
    assert "--engine openvino runs no .tflite artefacts such as 4.tflite; add litert" in capsys.readouterr().err


def test_every_source_is_a_line(models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cv2.imwrite(str(tmp_path / "other.png"), np.zeros((60, 80, 3), np.uint8))
    more = (str(tmp_path / name) for name in ("other.png", "frame.png"))
    words = [*QUICK, *(word for path in more for word in ("--source", path)), *models("3.onnx")]
    assert bench(*words, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["source"] for entry in document["results"]] == ["other.png", "frame.png"], "each once"
    assert document["settings"]["source"] == [str(tmp_path / name) for name in ("other.png", "frame.png")]
    assert bench(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2:4] for line in lines[3:5]] == [["other.png", "60x80"], ["frame.png", "60x80"]]


def test_streams_on_request(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*models("3.onnx", "4.onnx"), *QUICK, "--stream"]
    assert bench(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("frames per second, and a frame's latency in a stream")
    header = lines[start + 1].split()
    assert header[:7] == ["artefact", "threads", "frames", "depth", "calls", "stream", "gain"]
    rows = [line.split() for line in lines[start + 2 : start + 4]]
    assert [(row[0], row[3]) for row in rows] == [("3.onnx", str(DEPTH)), ("4.onnx", str(DEPTH))]
    assert float(rows[0][4]) > 0
    assert bench(*words, "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["stream"]["depth"] for entry in document["results"]] == [2, 2]
    assert document["settings"]["engine_config"] == {"onnxruntime": ORT_CONFIG}
    assert bench(*words[:-1], "--json") == 0
    assert [entry["stream"] for entry in json.loads(capsys.readouterr().out)["results"]] == [None, None]


def test_an_interpreted_program_gets_its_note_and_no_ratio(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*models("3.onnx", "4.mlpackage"), *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].split()[0] == "4.mlpackage"
    assert lines[4].split()[-2:] == ["-", "-"]
    assert any(INTERPRETED in line and "interpreter times mean nothing for a phone" in line for line in lines)


def test_a_busy_machine_is_said(
    models: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0), raising=False)
    assert bench(*models("3.onnx"), *QUICK) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("load 1000.0 on ")


def test_the_bundled_model_in_both_its_forms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = bundle()
    saved = tmp_path / "a.json"
    words = [str(found.artefact), str(found.checkpoint), "--input-size", "64x64", "--threads", "1", "--frames", "1"]
    assert bench(*words, "--repeats", "1", "--warm-up", "1", "--instances", "5", "2000", "--save", str(saved)) == 2
    assert "room for at most" in capsys.readouterr().err
    assert not saved.exists()
    assert bench(*words, "--repeats", "1", "--warm-up", "1", "--instances", "0", "3", "--save", str(saved)) == 0
    onnx, checkpoint = json.loads(saved.read_text(encoding="utf-8"))["results"]
    assert (onnx["format"], onnx["input_size"]) == ("onnx", [448, 448])
    assert (checkpoint["format"], checkpoint["input_size"]) == ("checkpoint", [64, 64])
    assert checkpoint["engine"].startswith("pytorch")
    assert onnx["instances"]["p50"] > 0
    assert [count["instances"] for entry in (onnx, checkpoint) for count in entry["counts"]] == [0, 3, 0, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name an artefact"),
        (["3.onnx", "--repeats", "0"], "--repeats must be at least 1"),
        (["3.onnx", "--warm-up", "0"], "--warm-up must be at least 1"),
        (["3.onnx", "--frames", "0"], "--frames must be at least 1"),
        (["3.onnx", "--threads", "1", "0"], "--threads must be at least 1"),
        (["3.onnx", "--stream", "0"], "--stream must be at least 1"),
        (["3.onnx", "--seconds", "0"], "--seconds must be above 0"),
        (["3.onnx", "--seconds", "nan"], "--seconds must be above 0"),
        (["3.onnx", "--repeats", "1", "--seconds", "1"], "--repeats and --seconds exclude each other"),
        (["3.onnx", "--instances", "-1"], "--instances must be at least 0, got -1"),
        (["3.onnx", "--instances", "5", "--max-instances", "4"], "--instances 5 cannot come out of --max-instances 4"),
        (["3.onnx", "--frame-size", "1080"], "--frame-size must be HEIGHTxWIDTH"),
        (["3.onnx", "--frame-size", "0x10"], "--frame-size must be HEIGHTxWIDTH"),
        (["3.onnx", "--input-size", "64x64"], "--input-size is for checkpoints"),
        (["3.onnx", "--masks", "polygons"], "invalid choice: 'polygons'"),
        (["3.onnx", "--across"], "--across belongs to --compare"),
        (["3.onnx", "--save", "gone/a.json"], "the folder of --save gone/a.json does not exist"),
        (["gone.onnx"], "gone.onnx"),
        (["3.onnx", "--source", "gone.mp4"], "gone.mp4 does not exist"),
        (["3.onnx", "--compare", "a.json", "b.json"], "artefacts cannot be given with it"),
        (["--compare", "a.json", "b.json", "--save", "c.json", "--repeats", "3"], "--save, --repeats cannot be given"),
        (["--compare", "gone.json", "b.json"], "cannot read gone.json"),
    ],
)
def test_contradictions_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") <= 2, "one sentence, after at most one line of progress"


def test_saved_files_compare(models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert bench(*models("3.onnx"), *QUICK, "--save", first) == 0
    document = json.loads(Path(first).read_text(encoding="utf-8"))
    document["results"][0]["stages_ms"]["frame"]["p50"] *= 3
    document["results"][0]["sha256"] = "0" * 64
    Path(second).write_text(json.dumps(document), encoding="utf-8")
    capsys.readouterr()
    assert bench("--compare", first, second) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("differs: 3.onnx: sha256")
    frame = next(line.split() for line in lines if line.split()[2:4] == ["frames", "frame"])
    assert frame[6:9] == ["3.00", "1.00", "1.00"]

    assert bench("--compare", first, second, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparable"] is True
    assert [d["what"] for d in found["differences"]] == ["3.onnx: sha256"]
    assert {s["instances"] for s in found["stages"]} == {None, 0, 2}


def test_two_machines_are_compared_only_on_demand(
    models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert bench(*models("3.onnx"), *QUICK, "--save", first) == 0
    document = json.loads(Path(first).read_text(encoding="utf-8"))
    document["machine"]["cpu"] = "Cortex-A78AE"
    Path(second).write_text(json.dumps(document), encoding="utf-8")
    capsys.readouterr()
    assert bench("--compare", first, second) == 2
    err = capsys.readouterr().err
    assert "are not comparable (machine: cpu: " in err
    assert "against Cortex-A78AE" in err
    assert bench("--compare", first, second, "--across") == 0
    assert capsys.readouterr().out.startswith("NOT COMPARABLE: machine: cpu: ")


def test_progress_goes_to_stderr_and_quiet_stops_it(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*models("3.onnx"), *QUICK, "--quiet") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "3.onnx" in out
