from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.cli import main
from solov2_edge.demos import highgui
from solov2_edge.runtime.rle import decode_rle

BRIEF = "test://96x64?fps=0&frames=4"
ENDLESS = "test://96x64?fps=20"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frames_of(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def test_lines_video_and_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["live", "--source", BRIEF, "--headless", "--record", "a.mp4", "--json-lines", "a.jsonl", "--json"]
    assert main([*words, "--score-threshold", "0.05"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["frames"], summary["mode"], summary["dropped"]) == (4, "video", 0)
    assert summary["recordings"] == ["a.mp4"]
    assert summary["json_lines"] == "a.jsonl"
    assert set(summary["latency_ms"]) == {"p50", "p95"}
    assert "finds nuclei" in err
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    instances = [instance for line in lines for instance in line["instances"]]
    assert instances
    for instance in instances:
        rows, columns = np.nonzero(decode_rle(instance["rle"]))
        assert instance["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert instance["score"] >= 0.05
        assert instance["label"] == "nucleus"
        assert instance["track"] >= 1
    assert frames_of(folder / "a.mp4") == 4
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "a.mp4"]


def test_lines_on_stdout_are_all_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["live", "--source", BRIEF, "--headless", "--json-lines", "--frames", "2", "--classes", "nucleus"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0, 1]
    assert "2 frames" in err


def test_a_window_with_keys(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class FakeGui:
        shown = 0

        def __init__(self, title: str) -> None:
            assert "test source" in title
            self.keys = iter("rs")

        def show(self, picture: NDArray[np.uint8]) -> None:
            FakeGui.shown += picture.shape[1] == 96  # not the window that waits for a frame

        def key(self) -> int:
            return ord(next(self.keys, "x")) if FakeGui.shown else -1

        def is_open(self) -> bool:
            return True

        def close(self) -> None:
            pass

    monkeypatch.setattr(highgui, "require_gui", lambda: None)
    monkeypatch.setattr(highgui, "OpenCvGui", FakeGui)
    assert main(["live", "--source", "test://96x64?fps=0&frames=6"]) == 0
    assert FakeGui.shown >= 6
    names = sorted(path.suffixes[-1] for path in folder.iterdir())
    assert names == [".json", ".mp4", ".png", ".png"]
    assert "recorded live-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json-lines", "--json"], "both want stdout"),
        (["--frames", "0"], "--frames must be at least 1"),
        (["--score-threshold", "1.5"], "score_threshold must lie between 0 and 1"),
        (["--classes", "nuclei"], "did you mean 'nucleus'?"),
        (["--source", "nowhere.mp4"], "nowhere.mp4"),
        (["--source", "test://a"], "a is no size"),
        (["--record", "a.gif"], ".mp4 or .mkv"),
        (["--record", "gone/a.mp4"], "does not exist"),
        (["--json-lines", "gone/a.jsonl"], "does not exist"),
        (["--save-to", "gone"], "must be a folder that exists"),
        (["--token", "abc"], "--token belongs to --serve"),
        (["--host", "0.0.0.0"], "--host belongs to --serve"),
        (["--mode", "slow"], "invalid choice"),
        (["gone.onnx"], "gone.onnx"),
        (["a.pth"], "a.pth is a checkpoint"),
        (["--width", "640"], "width can be asked of a camera"),
    ],
)
def test_contradictions_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    source = [] if "--source" in words else ["--source", BRIEF]
    assert main(["live", "--headless", *source, *words]) == 2
    out, err = capsys.readouterr()
    assert message in out + err
    assert "Traceback" not in out + err
    assert not list(folder.iterdir())


def test_no_window_is_one_sentence_before_anything_is_opened(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:        NONE\n")
    assert main(["live", "gone.onnx", "--source", "nowhere"]) == 2
    err = capsys.readouterr().err
    assert "use --headless, or --serve" in err
    assert err.count("\n") == 1


def test_it_is_served(folder: Path) -> None:
    pytest.importorskip("websockets")
    from urllib.request import urlopen

    with started("--serve", "0", "--quiet", source=ENDLESS) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = line.split()[1]
        assert url.startswith("http://")
        with urlopen(url, timeout=20) as page:
            assert b"<html" in page.read().lower()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def started(*words: str, source: str = ENDLESS) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "solov2_edge", "live", "--source", source, "--threads", "1", *words]

    def heed() -> None:  # also where the tests themselves run in the background
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def first_line(path: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.02)
    raise AssertionError("no frame came")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "times", "code"), [("SIGINT", 2, 130), ("SIGTERM", 1, 143), ("SIGHUP", 1, 129)])
def test_a_signal_ends_it_with_everything_whole(folder: Path, number: str, times: int, code: int) -> None:
    words = ["--headless", "--json", "--json-lines", "a.jsonl", "--record", "a.mp4"]
    with started(*words) as process:
        first_line(folder / "a.jsonl")
        for _ in range(times):
            process.send_signal(getattr(signal, number))
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    summary = json.loads(out)
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert len(lines) == summary["frames"] >= 1
    assert frames_of(folder / "a.mp4") >= len(lines)
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "a.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_goes_ends_it(folder: Path) -> None:
    with started("--headless", "--json-lines", "--record", "a.mp4") as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert frames_of(folder / "a.mp4") >= 1
