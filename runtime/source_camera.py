"""Cameras of this machine: USB, built in, or whatever else the system has a device file for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2

from solov2_edge.errors import InputError
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_capture import Capture, open_capture
from solov2_edge.runtime.source_connection import ConnectionSource

__all__ = ["open_camera"]

DEVICES = Path("/dev")
PLAIN_SIZE = 640 * 480  # pixels; up to here USB cameras give uncompressed frames at their full rate


def open_camera(
    device: str,
    *,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
    reopen: float,
) -> ConnectionSource:
    """Open a camera of this machine.

    Args:
        device: its number, or its device file.
        width: of its frames in pixels, to ask for; a camera gives the nearest it has.
        height: likewise.
        fps: frames per second to ask for, likewise.
        reopen: seconds to look for it after it vanished.

    Raises:
        InputError: there is no such camera, it is in use, or it may not be used.
    """
    linux = sys.platform.startswith("linux")
    path = str(DEVICES / f"video{device}") if linux and device.isdecimal() else device
    name = f"camera {path}"

    def connect() -> Capture:
        if linux:
            _check_device(path)
        target = int(path) if path.isdecimal() else path
        refusal = f"{name} cannot be opened; close the program that uses it, or give another camera"
        capture = open_capture(target, cv2.CAP_V4L2 if linux else cv2.CAP_ANY, (), refusal)
        if width and height and width * height > PLAIN_SIZE:
            # Uncompressed, USB 2 carries a few large frames per second; one without Motion JPEG keeps what it has.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        wanted = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FPS: fps}
        for which, value in wanted.items():
            if value is not None:
                capture.set(which, value)
        return Capture(capture, f"{name} gives no frame any more; is it unplugged?")

    first = connect()
    cure = "it may be no camera but a camera's second device file; give another one"
    return ConnectionSource(name, first, connect, mode=Mode.LIVE, fps=first.fps(), reopen=reopen, cure=cure)


def _check_device(path: str) -> None:
    """Raise an InputError where the device file is missing or closed to this user."""
    if not Path(path).exists():
        devices = sorted(str(device) for device in DEVICES.glob("video[0-9]*"))
        there = f"there are {', '.join(devices)}" if devices else "this machine has none; try test:// for moving shapes"
        raise InputError(f"there is no camera {path}; {there}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise InputError(
            f"camera {path} may not be used by this user; add the user to the group video and log in again"
        )
