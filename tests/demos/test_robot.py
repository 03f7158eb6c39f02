from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solov2_edge.demos.robot import LATEST_MS, STOP, decide, follow
from solov2_edge.demos.tracks import Tracker
from solov2_edge.runtime import Frame, Instances, StreamResult, load, open_source
from solov2_edge.runtime.masks import CroppedMasks

MOST_LINES = 60


def seen(*boxes: tuple[int, int, int, int], index: int = 0, latency: float = 20.0) -> StreamResult:
    """Whole rectangles (x0, y0, x1, y1) found in a frame of 100 x 200."""
    crops = tuple(np.ones((y1 - y0, x1 - x0), np.bool_) for x0, y0, x1, y1 in boxes)
    masks = CroppedMasks(100, 200, tuple((y0, x0) for x0, y0, _, _ in boxes), crops)
    scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
    instances = Instances(scores, np.zeros(len(boxes), np.int64), ("nut",), masks)
    return StreamResult(Frame(np.zeros((100, 200, 3), np.uint8), index, 0.0), instances, {}, latency, 0)


def test_it_turns_to_the_largest_object_and_goes_there() -> None:
    command = decide(seen((0, 40, 10, 50), (150, 20, 190, 60)), Tracker(), None)
    assert command == {"turn": pytest.approx(0.7), "forward": pytest.approx(1 - 1600 / 5000), "target": 2, "valid": 0.5}
    assert decide(seen((0, 0, 20, 20)), Tracker(), None)["turn"] == pytest.approx(-0.9)


def test_it_keeps_its_target_while_that_is_in_sight() -> None:
    tracker = Tracker()
    first = decide(seen((0, 40, 20, 60)), tracker, None)
    second = decide(seen((2, 40, 22, 60), (100, 0, 180, 80), index=1), tracker, first["target"])
    assert second["target"] == first["target"]
    third = decide(seen((100, 0, 180, 80), index=2), tracker, second["target"])
    assert third["target"] not in (None, second["target"])


def test_it_stops_in_front_of_it_and_when_nothing_is_there_or_all_is_old() -> None:
    assert decide(seen((0, 0, 100, 100)), Tracker(), None)["forward"] == 0.0
    assert decide(seen(), Tracker(), 1) == STOP
    assert decide(seen((0, 0, 50, 50), latency=LATEST_MS + 1), Tracker(), 1) == STOP


def test_the_last_command_is_to_stop_however_it_ends(checkout: Path) -> None:
    commands: list[dict[str, Any]] = []

    def motors(command: dict[str, Any]) -> None:
        commands.append(command)
        if len(commands) == 3:
            raise KeyboardInterrupt

    with load(checkout / "solov2_edge/assets/nano-nuclei.fp32.onnx", threads=1) as segment:
        source = open_source(checkout / "tests/data/nuclei_val/images")
        with pytest.raises(KeyboardInterrupt):
            follow(segment, source, motors)
    assert len(commands) == 4
    assert commands[-1] == STOP
    assert source.status().state == "closed"


def robot(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "solov2_edge.demos.robot", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=checkout)


def test_it_runs_as_it_is(checkout: Path) -> None:
    done = robot(checkout, "solov2_edge/assets/nano-nuclei.fp32.onnx", "test://160x120?fps=0&frames=5")
    assert done.returncode == 0, done.stderr
    commands = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(commands) == 6, "one for each frame, and one to stop"
    assert commands[-1] == STOP
    assert all(set(command) == set(STOP) and -1 <= command["turn"] <= 1 for command in commands)


def test_the_end_of_its_service_stops_it(checkout: Path) -> None:
    words = ("solov2_edge/assets/nano-nuclei.fp32.onnx", "test://160x120")
    command = [sys.executable, "-m", "solov2_edge.demos.robot", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((first + rest).splitlines()[-1]) == STOP


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected an artefact and a source"),
        (("missing.onnx", "test://"), "missing.onnx does not exist"),
        (("solov2_edge/assets/nano-nuclei.fp32.onnx", "nowhere.mp4"), "nowhere.mp4"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(checkout: Path, words: tuple[str, ...], message: str) -> None:
    done = robot(checkout, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("robot: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_it_stays_short_enough_to_be_read(checkout: Path) -> None:
    assert len((checkout / "demos/robot.py").read_text(encoding="utf-8").splitlines()) < MOST_LINES
