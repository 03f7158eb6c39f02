"""Video files: every frame, what is damaged skipped and counted, an end that is no error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Mode

pytestmark = pytest.mark.usefixtures("nothing_left")
WriteVideo = Callable[..., Path]


@pytest.fixture
def write_video(tmp_path: Path) -> WriteVideo:
    """Write a video of 40 frames, each brighter than the one before it."""

    def write(name: str = "clip.mp4", code: str = "mp4v") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 20, (160, 120))
        noise = np.random.default_rng(0).integers(0, 50, (120, 160, 3), np.uint8)
        for index in range(40):
            writer.write(np.roll(noise, 7 * index, axis=1) + np.uint8(5 * index))
        writer.release()
        return path

    return write


def brightness(image: np.ndarray[Any, Any]) -> int:
    """The number of the frame, from its mean."""
    return round((float(image.mean()) - 24.5) / 5)


@pytest.mark.parametrize(("name", "code"), [("clip.mp4", "mp4v"), ("clip.avi", "MJPG")])
def test_every_frame_in_order(write_video: WriteVideo, name: str, code: str) -> None:
    path = write_video(name, code)
    with open_source(path) as source:
        assert (source.description, source.mode, source.fps) == (str(path), Mode.VIDEO, 20)
        frames = list(source)
        assert [frame.index for frame in frames] == list(range(40))
        assert [brightness(frame.image) for frame in frames] == pytest.approx(list(range(40)), abs=1)
        assert [frame.seconds for frame in frames] == [index / 20 for index in range(40)]
        assert len({id(frame.image) for frame in frames}) == 40, "each has memory of its own"
        status = source.status()
        assert (status.state, status.corrupt, status.message) == ("ended", 0, "")


def test_frames_that_are_damaged_are_skipped_and_counted(write_video: WriteVideo) -> None:
    path = write_video()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 8] = bytes(len(data) // 8)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
        assert source.status().corrupt > 0
        assert len(frames) + source.status().corrupt == pytest.approx(40, abs=1)
        assert frames[-1].index == pytest.approx(39, abs=1)
        assert brightness(frames[-1].image) == pytest.approx(39, abs=1), "it goes on behind the damage"
        assert source.status().state == "ended"


def test_a_file_that_is_cut_short_says_so(write_video: WriteVideo) -> None:
    path = write_video("clip.avi", "MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_source(path) as source:
        count = len(list(source))
        assert 10 < count < 30
        assert source.status().state == "ended"
        assert source.status().message == f"it ends after {count} of 40 frames; it was cut short or is damaged"


def test_what_is_no_video_is_an_error(write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video()
    path.write_bytes(path.read_bytes()[:5000])
    for wrong in (path, tmp_path / "notes.txt"):
        if wrong != path:
            wrong.write_text("none")
        with pytest.raises(InputError, match=r"is neither a picture nor a video that OpenCV .*; save it as MP4"):
            open_source(wrong)


def test_leaving_in_the_middle_lets_go_of_the_file(write_video: WriteVideo) -> None:
    with open_source(write_video()) as source:
        frames = iter(source)
        next(frames)
    assert list(frames) == []
    assert source.status().state == "closed"
