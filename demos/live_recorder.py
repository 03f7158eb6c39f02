"""Recording the overlays: a view that writes while the settings say so, at the pace of the source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_video import VideoFile, check_video_path
from solov2_edge.demos.live_view import Shown

__all__ = ["Recorder", "numbered"]

USUAL_FPS = 25.0  # of a source that does not know its own rate: frames are placed by their time
PICTURES_FPS = 1.0  # of pictures, which have no time
RATES = (0.5, 240.0)  # frames per second that are believed
LONGEST_GAP_SECONDS = 2.0  # a frame stands still for; what a camera was away for longer is cut out


class Recorder:
    """Writes the overlays to a video while ``settings.recording`` is on; off and on again begins the next file.

    A frame stands in the video for as long as it did in its source, so that a live view that drops frames plays at the
    right speed. The size is that of the first frame.

    Attributes:
        files: the finished ones.
    """

    def __init__(self, path: Path, fps: float | None, said: Callable[[str], None], *, live: bool = False) -> None:
        """Say where to; nothing is opened yet.

        Args:
            path: of the first video; the next ones are numbered.
            fps: of the source.
            live: frames come at their own pace, so that their time counts even where the rate is not known.
            said: told of every video that begins or is finished.

        Raises:
            InputError: a video cannot be written there.
        """
        check_video_path(path)
        self.files: list[Path] = []
        self._path = path
        self._fps = fps
        self._timed = live or fps is not None
        self._said = said
        self._video: VideoFile | None = None
        self._started = 0
        self._zero = 0.0  # seconds of the source at which the video begins, gaps cut out
        self._rate = 0.0
        self._last: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)

    def show(self, shown: Shown) -> None:
        """Write a frame, begin or finish a video."""
        if not shown.settings.recording:
            self._finish()
        elif not shown.repeated:
            video = self._video or self._begin(shown)
            slots = self._slots(shown, video)
            if slots > 1:
                video.write(self._last, slots - 1)
            if slots:
                video.write(shown.overlay)
            self._last = shown.overlay

    def tick(self, statistics: Statistics) -> None:
        """Nothing is to do between frames."""

    def close(self) -> None:
        """Finish the video."""
        self._finish()

    def _begin(self, shown: Shown) -> VideoFile:
        self._started += 1
        seconds = shown.frame.seconds
        usual = PICTURES_FPS if seconds is None else USUAL_FPS
        self._rate = self._fps if self._fps is not None and RATES[0] <= self._fps <= RATES[1] else usual
        self._zero = 0.0 if seconds is None else seconds
        height, width = shown.frame.image.shape[:2]
        self._video = VideoFile(numbered(self._path, self._started), self._rate, height, width)
        self._last = shown.overlay
        self._said(f"recording to {self._video.path}")
        return self._video

    def _slots(self, shown: Shown, video: VideoFile) -> int:
        """Return how many frames the video lacks to be as long as its source: the last frame stands, then this one."""
        if shown.frame.seconds is None or not self._timed:
            return 1
        due = round((shown.frame.seconds - self._zero) * self._rate) + 1 - video.frames
        most = max(1, round(LONGEST_GAP_SECONDS * self._rate))
        if due > most:
            self._zero += (due - most) / self._rate
            due = most
        return max(0, due)

    def _finish(self) -> None:
        video, self._video = self._video, None
        if video is None:
            return
        path = video.close()
        if path is not None:
            self.files.append(path)
            self._said(f"recorded {video.frames} frames to {path}")


def numbered(path: Path, number: int) -> Path:
    """Return ``path`` for 1, and ``name-2.suffix`` and so on beside it for the next."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
