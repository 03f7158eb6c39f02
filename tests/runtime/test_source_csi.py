"""The Jetson's CSI camera: the pipeline, and what runs it. A Jetson's own elements are stood in for."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import source_csi
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_csi import CsiCamera
from solov2_edge.runtime.source_gst import LAUNCHER

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_the_pipeline() -> None:
    assert CsiCamera(1, 1920, 1080, 60, 2).elements() == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx,width=1920,height=1080"
    )
    turned = CsiCamera(0, 1280, 720, 30, 1)
    assert turned.shown_size == (720, 1280)
    assert turned.elements().endswith("flip-method=1 ! video/x-raw,format=BGRx,width=720,height=1280")


def test_through_an_opencv_that_has_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Capture:
        def __init__(self, target: str, backend: int, settings: Sequence[int]) -> None:
            opened.append((target, backend))

        def isOpened(self) -> bool:
            return True

        def grab(self) -> bool:
            return True

        def retrieve(self) -> tuple[bool, np.ndarray[Any, Any]]:
            return True, np.full((48, 64, 3), 7, np.uint8)

        def release(self) -> None:
            opened.append("released")

    monkeypatch.setattr(source_csi, "opencv_has_gstreamer", lambda: True)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    with open_source("csi://1?width=640&height=480", fps=15) as source:
        assert (source.description, source.mode, source.fps) == ("CSI camera 1", Mode.LIVE, 15)
        assert int(next(iter(source)).image.max()) == 7
    (pipeline, backend), released = opened
    assert pipeline.startswith(CsiCamera(1, 640, 480, 15).elements())
    assert pipeline.endswith("format=BGR ! appsink drop=true max-buffers=1")
    assert (backend, released) == (cv2.CAP_GSTREAMER, "released")


def test_an_opencv_that_waits_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenCV 4.6 does where the camera gives nothing."""
    answer = threading.Event()
    opened: list[str] = []

    class Stuck:
        def __init__(self, target: str, backend: int, settings: Sequence[int]) -> None:
            opened.append("opening")
            assert answer.wait(20)

        def isOpened(self) -> bool:
            return True

        def release(self) -> None:
            opened.append("released")

    monkeypatch.setattr(source_csi, "opencv_has_gstreamer", lambda: True)
    monkeypatch.setattr(source_csi, "START_SECONDS", 0.05)
    monkeypatch.setattr(cv2, "VideoCapture", Stuck)
    opener = source_csi._Opener("it cannot be opened")
    for _ in range(2):
        with pytest.raises(InputError, match="it cannot be opened"):
            opener.open("pipeline")
    assert opened == ["opening"], "not a second time while the first still waits"
    (waiting,) = [thread for thread in threading.enumerate() if thread.name == "solov2-edge opening"]
    answer.set()
    waiting.join(10)
    assert opened == ["opening", "released"]


@pytest.mark.skipif(shutil.which(LAUNCHER) is None, reason=f"{LAUNCHER} is not installed")
def test_through_a_process_where_opencv_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_csi, "opencv_has_gstreamer", lambda: False)
    test_elements = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=30/1"
    monkeypatch.setattr(CsiCamera, "elements", lambda self: test_elements)
    with open_source("csi://0?width=64&height=48") as source:
        frames = iter(source)
        images = [next(frames).image for _ in range(3)]
        assert [image.shape for image in images] == [(48, 64, 3)] * 3
        assert images[0].max() > 200
        assert source.status().state == "open"


@pytest.mark.skipif(shutil.which(LAUNCHER) is None, reason=f"{LAUNCHER} is not installed")
def test_on_another_machine_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_csi, "opencv_has_gstreamer", lambda: False)
    wanted = r'^CSI camera 0 gives no frame \(.*no element "nvarguscamerasrc"\); csi:// is for a Jetson'
    with open_source("csi://0") as source, pytest.raises(InputError, match=wanted):
        next(iter(source))


def test_without_gstreamer_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_csi, "opencv_has_gstreamer", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        InputError, match=r"apt-get install gstreamer1\.0-tools .*or use the OpenCV that JetPack brings"
    ):
        open_source("csi://0")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="is for a Jetson, which runs Linux"):
        open_source("csi://0")


@pytest.mark.parametrize(
    ("numbers", "said"),
    [({"sensor": -1}, "from 0"), ({"width": 0}, "0 x 720"), ({"fps": 0}, "at 0"), ({"flip": 8}, "0 to 7")],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CsiCamera(**numbers)
