"""One video file, playable however its making ends.

An MP4 file has its table of contents at its end, so that one whose writer was killed cannot be played. Frames are
therefore encoded into a Matroska file beside it, which plays up to where it breaks off, and at the end its packets are
copied into the MP4 file, without decoding: milliseconds for minutes of video.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.mp4_file import Packet, write_mp4
from solov2_edge.errors import SolovEdgeError, require

__all__ = ["VIDEO_SUFFIXES", "VideoFile", "check_video_path"]

VIDEO_SUFFIXES = (".mp4", ".mkv")
WAITING = 2  # frames to be encoded; more would only be memory
CODEC = "mp4v"  # MPEG-4 Part 2: every build of OpenCV with FFmpeg encodes it, and encodes nothing better


def check_video_path(path: Path) -> None:
    """Refuse what a video cannot be written to, before anything else is opened.

    Raises:
        InputError: another suffix, a folder, or a folder that does not exist.
    """
    require(
        path.suffix.lower() in VIDEO_SUFFIXES,
        f"a recording's name must end in {' or '.join(VIDEO_SUFFIXES)}, got {path}",
    )
    require(not path.is_dir(), f"the recording {path} is a folder; name a file")
    require(path.parent.is_dir(), f"the folder of the recording {path} does not exist; make it first")


class VideoFile:
    """Frames to a video, encoded in a thread of its own; :meth:`close` puts it into place.

    Attributes:
        path: where it will be.
        aside: where it is until then; what a killed process leaves.
        frames: written so far.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int) -> None:
        """Open it.

        Args:
            path: ends in ``.mp4`` or ``.mkv``.
            fps: frames per second.
            height: H of the video; an odd one loses its last row, which the codec cannot hold.
            width: W of the video, likewise.

        Raises:
            InputError: see :func:`check_video_path`.
            SolovEdgeError: this OpenCV cannot write videos.
        """
        check_video_path(path)
        self.path = path
        self.aside = path.with_name(f"{path.stem}.recording.mkv")
        self.frames = 0
        self._wrong = "is the disk full?"
        self._fps = fps
        self._size = (width & ~1, height & ~1)
        self._writer = _writer(self.aside, fps, self._size)
        self._jobs: queue.Queue[tuple[NDArray[np.uint8], int] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._encode, name="solov2-edge video", daemon=True)
        self._thread.start()

    def write(self, image: NDArray[np.uint8], times: int = 1) -> None:
        """Add a BGR uint8 (H, W, 3) frame, which must stay as it is; waits where encoding is two frames behind.

        Args:
            image: one of another size is fitted in, with black bars.
            times: for so many frames of the video.
        """
        self.frames += times
        self._jobs.put((image, times))

    def _encode(self) -> None:
        width, height = self._size
        while (job := self._jobs.get()) is not None:
            image, times = job
            if image.shape[:2] != (height, width):
                image = _fitted(image, height, width)
            try:
                for _ in range(times):
                    self._writer.write(image)
            except cv2.error as error:  # the frames that are missing are told of in the end
                self._wrong = str(error.err)

    def close(self) -> Path | None:
        """Finish the video and put it into place; None where there was no frame, and then there is no file.

        Raises:
            SolovEdgeError: not all frames are in it, as where the disk was full; what is there stays aside.
        """
        self._jobs.put(None)
        self._thread.join()
        self._writer.release()
        if not self.frames:
            self.aside.unlink(missing_ok=True)
            return None
        ready = self.aside
        if self.path.suffix.lower() == ".mp4":
            ready = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part.mp4")
        try:
            copied = _count(self.aside) if ready == self.aside else _copy(self.aside, ready, self._fps, self._size)
            if copied < self.frames:
                raise SolovEdgeError(
                    f"{self.aside} holds only {copied} of {self.frames} frames, and is left as it is: {self._wrong}"
                )
            os.replace(ready, self.path)
        except OSError as error:
            raise SolovEdgeError(
                f"{self.path} cannot be written ({error.strerror}); what was recorded is left as {self.aside}, which "
                "players show up to its last whole frame: free some space"
            ) from error
        finally:
            if ready != self.aside:
                ready.unlink(missing_ok=True)
        self.aside.unlink(missing_ok=True)
        return self.path


def _writer(path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), fps, size)
    if not writer.isOpened():
        raise SolovEdgeError(
            f"{path} cannot be written: the disk, the folder's permissions, or an OpenCV without FFmpeg; "
            "the wheels opencv-python and opencv-python-headless have it"
        )
    return writer


def _fitted(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = image.shape[:2]
    if rows in (height, height + 1) and columns in (width, width + 1):
        return np.ascontiguousarray(image[:height, :width])
    scale = min(height / rows, width / columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def _open_packets(path: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # -1: packets as they are


def _count(path: Path) -> int:
    capture = _open_packets(path)
    try:
        return sum(1 for _ in _packets(capture))
    finally:
        capture.release()


def _copy(source: Path, target: Path, fps: float, size: tuple[int, int]) -> int:
    """Copy a Matroska file's packets into an MP4 file; returns their number."""
    capture = _open_packets(source)
    try:
        config = capture.retrieve(flag=int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))[1]
        if config is None:
            raise SolovEdgeError(f"{source} holds no frame that can be read; is the disk full? It is left as it is")
        return write_mp4(target, _packets(capture), config.tobytes(), fps, size[1], size[0])
    finally:
        capture.release()


def _packets(capture: cv2.VideoCapture) -> Iterator[Packet]:
    while True:
        came, packet = capture.read()
        if not came:
            return
        yield Packet(packet.tobytes(), bool(capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME)))
