from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.live_controls import Settings
from solov2_edge.demos.live_recorder import Recorder
from solov2_edge.demos.live_video import VideoFile
from solov2_edge.demos.live_view import Shown
from solov2_edge.errors import InputError, SolovEdgeError

ON = Settings(recording=True)


STEP = 8  # pixels: the codec's blocks are as wide


def bar(index: int) -> NDArray[np.uint8]:
    """A frame of 48 x 256 with a bright bar whose place tells its number, 0..31."""
    frame = np.full((48, 256, 3), 20, np.uint8)
    frame[:, STEP * index : STEP * (index + 1)] = 230
    return frame


def number(frame: NDArray[np.uint8]) -> int:
    columns = frame.mean(axis=(0, 2)).reshape(-1, STEP).mean(axis=1)
    return int(columns.argmax())


def read(path: Path) -> tuple[list[NDArray[np.uint8]], float]:
    """Return the frames and the rate."""
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while (answer := capture.read())[0]:
        frames.append(np.asarray(answer[1], np.uint8))
    capture.release()
    return frames, rate


def numbers(path: Path) -> list[int]:
    return [number(frame) for frame in read(path)[0]]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".MP4"])
def test_frames_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    video = VideoFile(path, 30000 / 1001, 48, 256)
    for index in range(25):
        video.write(bar(index))
    assert not path.exists()
    assert video.close() == path
    assert numbers(path) == list(range(25))
    assert read(path)[1] == pytest.approx(30000 / 1001, abs=0.01)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_reader_can_jump_into_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    video = VideoFile(path, 10, 48, 256)
    for index in range(28):
        video.write(bar(index))
    video.close()
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 28
    for wanted in (17, 3, 26):
        capture.set(cv2.CAP_PROP_POS_FRAMES, wanted)
        frame = capture.read()[1]
        assert number(np.asarray(frame, np.uint8)) == wanted
    capture.release()


def test_odd_and_other_sizes_are_fitted_in(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "a.mp4", 10, 49, 257)
    for height, width in ((49, 257), (200, 100), (10, 300)):
        video.write(np.full((height, width, 3), 200, np.uint8))
    video.close()
    frames, _ = read(tmp_path / "a.mp4")
    assert {frame.shape for frame in frames} == {(48, 256, 3)}
    bright = [frame.mean(axis=2) > 100 for frame in frames]
    assert [mask.mean() for mask in bright] == pytest.approx([1, 24 / 256, 9 / 48], abs=0.06)
    assert [bool(mask[24, 128]) for mask in bright] == [True, True, True]


def test_no_frame_no_file(tmp_path: Path) -> None:
    assert VideoFile(tmp_path / "a.mp4", 10, 48, 256).close() is None
    assert not list(tmp_path.iterdir())


def test_a_video_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    video = VideoFile(path, 10, 48, 256)
    video.write(bar(1))
    assert path.read_bytes() == b"old"
    video.close()
    assert numbers(path) == [1]


def test_frames_that_were_lost_are_said(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "a.mp4", 10, 48, 256)
    for index in range(9):
        video.write(bar(index))
    video.frames = 12  # as if the disk had been full for the last three
    with pytest.raises(SolovEdgeError, match="holds only 9 of 12 frames"):
        video.close()
    assert numbers(tmp_path / "a.recording.mkv") == list(range(9))
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_process_wrote_can_be_played(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; import numpy as np; from pathlib import Path\n"
        "from solov2_edge.demos.live_video import VideoFile\n"
        "video = VideoFile(Path(sys.argv[1]), 10, 240, 320); noise = np.random.default_rng(0)\n"
        "for index in range(150): video.write(noise.integers(0, 255, (240, 320, 3), np.uint8))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.mp4")], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == ["a.recording.mkv"]
    assert len(read(tmp_path / "a.recording.mkv")[0]) > 20


@pytest.mark.parametrize(
    ("name", "message"), [("a.webm", r"\.mp4 or \.mkv"), ("gone/a.mp4", "does not exist"), ("d.mp4", "is a folder")]
)
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "d.mp4").mkdir()
    with pytest.raises(InputError, match=message):
        Recorder(tmp_path / name, 25, print)


def recorded(show: Callable[..., Shown], recorder: Recorder, places: list[tuple[int, float | None]]) -> None:
    for index, seconds in places:
        recorder.show(show(index, boxes=[], width=256, image=bar(index), seconds=seconds, settings=ON))


def test_every_frame_of_a_file_once(tmp_path: Path, show: Callable[..., Shown]) -> None:
    said: list[str] = []
    recorder = Recorder(tmp_path / "a.mp4", 10, said.append)
    recorded(show, recorder, [(index, index / 10) for index in range(8)])
    recorder.close()
    recorder.close()
    assert numbers(tmp_path / "a.mp4") == list(range(8))
    assert read(tmp_path / "a.mp4")[1] == 10
    assert recorder.files == [tmp_path / "a.mp4"]
    assert said == [f"recording to {tmp_path / 'a.mp4'}", f"recorded 8 frames to {tmp_path / 'a.mp4'}"]


def test_a_frame_stands_for_those_that_were_dropped_after_it(tmp_path: Path, show: Callable[..., Shown]) -> None:
    recorder = Recorder(tmp_path / "a.mp4", 10, lambda text: None, live=True)
    recorded(show, recorder, [(0, 5.0), (3, 5.31), (4, 5.38), (9, 5.92)])
    recorder.close()
    # Each tenth of a second holds the newest frame there was.
    assert numbers(tmp_path / "a.mp4") == [0, 0, 0, 3, 4, 4, 4, 4, 4, 9]


def test_what_a_camera_was_away_for_is_cut_out(tmp_path: Path, show: Callable[..., Shown]) -> None:
    recorder = Recorder(tmp_path / "a.mp4", 10, lambda text: None, live=True)
    recorded(show, recorder, [(0, 0.0), (1, 3600.0), (2, 3600.1)])
    recorder.close()
    assert numbers(tmp_path / "a.mp4") == [0] * 20 + [1, 2]


@pytest.mark.parametrize("fps", [None, 1000.0])
def test_a_rate_that_is_not_known_or_not_believed(
    tmp_path: Path, show: Callable[..., Shown], fps: float | None
) -> None:
    recorder = Recorder(tmp_path / "a.mp4", fps, lambda text: None, live=True)
    recorded(show, recorder, [(0, 0.0), (1, 0.2)])
    recorder.close()
    assert read(tmp_path / "a.mp4")[1] == 25
    assert numbers(tmp_path / "a.mp4") == [0] * 5 + [1]


def test_pictures_stand_for_a_second_each(tmp_path: Path, show: Callable[..., Shown]) -> None:
    recorder = Recorder(tmp_path / "a.mp4", None, lambda text: None)
    recorded(show, recorder, [(0, None), (1, None), (2, None)])
    recorder.close()
    assert numbers(tmp_path / "a.mp4") == [0, 1, 2]
    assert read(tmp_path / "a.mp4")[1] == 1


def test_off_and_on_again_begins_the_next_file(tmp_path: Path, show: Callable[..., Shown]) -> None:
    recorder = Recorder(tmp_path / "a.mp4", 10, lambda text: None)
    recorder.show(show(0, boxes=[], width=256, image=bar(0)))  # not recording yet
    recorded(show, recorder, [(1, 0.1), (2, 0.2)])
    recorder.show(show(3, boxes=[], width=256, image=bar(3)))
    assert numbers(tmp_path / "a.mp4") == [1, 2]
    recorded(show, recorder, [(4, 0.4)])
    recorder.show(show(4, boxes=[], width=256, image=bar(9), settings=ON, repeated=True))  # not written again
    recorder.close()
    assert numbers(tmp_path / "a-2.mp4") == [4]
    assert recorder.files == [tmp_path / "a.mp4", tmp_path / "a-2.mp4"]


def test_overlays_are_recorded(tmp_path: Path, show: Callable[..., Shown]) -> None:
    recorder = Recorder(tmp_path / "a.mp4", 10, lambda text: None)
    shown = show(0, settings=ON)
    recorder.show(shown)
    recorder.close()
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    frame = capture.read()[1]
    capture.release()
    difference = np.abs(frame.astype(int) - shown.overlay.astype(int)).mean()
    assert difference < 8
    assert np.abs(frame.astype(int) - shown.frame.image.astype(int)).mean() > difference
