"""The camera on a Jetson's CSI connector: ``csi://0?width=1280&height=720&fps=30&flip=0``."""

from __future__ import annotations

import queue
import shutil
import sys
import threading
from dataclasses import dataclass

import cv2

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_capture import Capture, open_capture
from solov2_edge.runtime.source_connection import Connection, ConnectionSource

__all__ = ["CsiCamera", "open_csi", "opencv_has_gstreamer"]

FLIPS = 8  # nvvidconv's flip-method: 0 none, 2 by 180 degrees, ...
# The camera service needs some seconds to set a sensor up.
START_SECONDS = 15.0
CURE = (
    "csi:// is for a Jetson: check the ribbon cable, that no other program uses the camera, and restart its service: "
    "sudo systemctl restart nvargus-daemon"
)


@dataclass(frozen=True, slots=True)
class CsiCamera:
    """What to ask of the camera; the sensor must have a mode that gives it.

    Attributes:
        sensor: number of the camera, from 0.
        width: of a frame in pixels.
        height: of a frame in pixels.
        fps: frames per second.
        flip: nvvidconv's ``flip-method``: 0 as it comes, 2 turned by 180 degrees, 4 and 6 mirrored; 1, 3, 5 and 7
            exchange height and width.
    """

    sensor: int = 0
    width: int = 1280
    height: int = 720
    fps: int = 30
    flip: int = 0

    def __post_init__(self) -> None:
        require(self.sensor >= 0, f"CSI cameras are counted from 0, got {self.sensor}")
        require(
            min(self.width, self.height, self.fps) >= 1,
            f"a CSI camera gives at least 1 x 1 pixels once a second, got {self.width} x {self.height} at {self.fps}",
        )
        require(0 <= self.flip < FLIPS, f"flip is 0 to {FLIPS - 1}, got {self.flip}")

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height of a frame after flipping."""
        return (self.height, self.width) if self.flip % 2 else (self.width, self.height)

    def elements(self) -> str:
        """Return the GStreamer elements from the sensor to frames in ordinary memory."""
        width, height = self.shown_size
        return (
            f"nvarguscamerasrc sensor-id={self.sensor} ! "
            f"video/x-raw(memory:NVMM),width={self.width},height={self.height},framerate={self.fps}/1 ! "
            f"nvvidconv flip-method={self.flip} ! video/x-raw,format=BGRx,width={width},height={height}"
        )


def opencv_has_gstreamer() -> bool:
    """Return whether this OpenCV was built with GStreamer and can load it; pip's is not."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def open_csi(camera: CsiCamera, *, reopen: float, timeout: float) -> ConnectionSource:
    """Open the camera through an OpenCV that has GStreamer, else through ``gst-launch-1.0``.

    Raises:
        InputError: there is neither, or the camera cannot be opened.
    """
    name = f"CSI camera {camera.sensor}"
    require(sys.platform.startswith("linux"), f"{name} cannot be opened: csi:// is for a Jetson, which runs Linux")
    from solov2_edge.runtime.source_gst import LAUNCHER, GstLaunch  # imports what other systems lack

    through_opencv = opencv_has_gstreamer()
    require(
        through_opencv or shutil.which(LAUNCHER) is not None,
        f"{name} needs GStreamer, which pip's OpenCV lacks: apt-get install gstreamer1.0-tools for {LAUNCHER}, or use "
        "the OpenCV that JetPack brings (python3-opencv, with a venv made by --system-site-packages)",
    )

    def connect() -> Connection:
        if not through_opencv:
            return GstLaunch(camera.elements(), *camera.shown_size, max(timeout, START_SECONDS))
        pipeline = f"{camera.elements()} ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
        return Capture(opener.open(pipeline), f"{name} gives no frame any more")

    opener = _Opener(f"{name} cannot be opened; {CURE}")
    return ConnectionSource(name, connect(), connect, mode=Mode.LIVE, fps=float(camera.fps), reopen=reopen, cure=CURE)


class _Opener:
    """Opens pipelines in a thread: OpenCV waits for ever for a camera that gives nothing, and cannot be woken."""

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._thread: threading.Thread | None = None

    def open(self, pipeline: str) -> cv2.VideoCapture:
        """Return an open capture.

        Raises:
            InputError: it cannot be opened, it takes longer than :data:`START_SECONDS`, or the last try still waits.
        """
        if self._thread is not None and self._thread.is_alive():
            raise InputError(self._refusal)
        answers: queue.SimpleQueue[cv2.VideoCapture | InputError] = queue.SimpleQueue()
        late = threading.Event()

        def work() -> None:
            try:
                capture = open_capture(pipeline, cv2.CAP_GSTREAMER, (), self._refusal)
            except InputError as error:
                answers.put(error)
                return
            if late.is_set():
                capture.release()
            answers.put(capture)

        self._thread = threading.Thread(target=work, name="solov2-edge opening", daemon=True)
        self._thread.start()
        try:
            answer = answers.get(timeout=START_SECONDS)
        except queue.Empty:
            late.set()
            raise InputError(self._refusal) from None
        if isinstance(answer, InputError):
            raise answer
        self._thread.join()
        return answer
