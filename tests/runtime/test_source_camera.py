"""Cameras of this machine, played by a stand-in for OpenCV's capture: what is asked of it, what is said without it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import source_camera, source_connection
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_camera import open_camera

pytestmark = pytest.mark.usefixtures("nothing_left")


class Webcam:
    """Gives three frames, one of them damaged, then is unplugged."""

    opened: list[Webcam]
    plugged = True

    def __init__(self, target: str | int, backend: int, settings: Sequence[int]) -> None:
        self.target, self.backend = target, backend
        self.asked: list[tuple[int, float]] = []
        self.given = 0
        self.released = False
        self.opened.append(self)

    def isOpened(self) -> bool:
        return self.plugged

    def set(self, which: int, value: float) -> bool:
        self.asked.append((which, value))
        return False

    def get(self, which: int) -> float:
        return 30.0 if which == cv2.CAP_PROP_FPS else 0.0

    def grab(self) -> bool:
        self.given += 1
        return self.given <= 3

    def retrieve(self) -> tuple[bool, np.ndarray[Any, Any] | None]:
        return (False, None) if self.given == 2 else (True, np.full((48, 64, 3), self.given, np.uint8))

    def release(self) -> None:
        self.released = True


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one camera, /dev/video0."""
    (tmp_path / "video0").touch()
    Webcam.opened = []
    monkeypatch.setattr(source_camera, "DEVICES", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    monkeypatch.setattr(source_connection, "FIRST_PAUSE_SECONDS", 0.001)
    return tmp_path


def test_it_is_read_reopened_and_let_go(devices: Path) -> None:
    with open_source("0") as source:
        assert (source.mode, source.fps) == (Mode.LIVE, 30)
        assert source.description == f"camera {devices / 'video0'}"
        frames = iter(source)
        got = [next(frames) for _ in range(4)]
        assert [(frame.index, int(frame.image.max())) for frame in got] == [(0, 1), (2, 3), (3, 1), (5, 3)]
        status = source.status()
        assert (status.state, status.corrupt, status.reopened) == ("open", 2, 1)
        assert "unplugged" in status.message
    assert [(cam.target, cam.backend, cam.released) for cam in Webcam.opened] == [
        (str(devices / "video0"), cv2.CAP_V4L2, True)
    ] * 2


def test_the_size_and_rate_are_asked_for_each_time_it_is_opened(devices: Path) -> None:
    with open_source("0", width=1280, height=720, fps=60) as source:
        frames = iter(source)
        for _ in range(3):
            next(frames)
    jpeg = cv2.VideoWriter.fourcc(*"MJPG")
    wanted = [
        (cv2.CAP_PROP_FOURCC, jpeg),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 60),
    ]
    assert [cam.asked for cam in Webcam.opened] == [wanted, wanted]


def test_a_small_or_unasked_size_leaves_the_format_alone(devices: Path) -> None:
    open_source("0", width=640, height=480).close()
    open_source("0").close()
    assert [[which for which, _ in cam.asked] for cam in Webcam.opened] == [
        [cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT],
        [],
    ]


def test_what_is_not_there_is_an_error_that_tells_what_is(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no camera .*video7; there are .*video0$"):
        open_source("7")
    monkeypatch.setattr(Webcam, "plugged", False)
    with pytest.raises(InputError, match=r"video0 cannot be opened; close the program that uses it"):
        open_source("0")
    assert [cam.released for cam in Webcam.opened] == [True]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="group video"):
        open_source("0")
    (devices / "video0").unlink()
    with pytest.raises(InputError, match="this machine has none; try test://"):
        open_source("0")


def test_elsewhere_it_has_a_number_only(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    open_camera("3", reopen=math.inf).close()
    assert [(cam.target, cam.backend) for cam in Webcam.opened] == [(3, cv2.CAP_ANY)]


def test_a_device_that_gives_nothing_is_an_error(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Webcam, "grab", lambda self: False)
    with open_source("0") as source, pytest.raises(InputError, match=r"gives no frame .*second device file"):
        next(iter(source))
    assert Webcam.opened[0].released
