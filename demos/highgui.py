"""OpenCV's window, where this OpenCV and this machine have one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require

__all__ = ["Gui", "OpenCvGui", "require_gui"]

LARGEST_SIDE = 1280  # pixels of a new window; a person makes it larger
SMALLEST_SIDE = 640
INSTEAD = "use --headless, or --serve for a web page"
# A window that cannot be opened ends the process that tries (Qt aborts), so another one tries first.
PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1); cv2.destroyAllWindows()"
PROBE_SECONDS = 20.0


class Gui(Protocol):
    """The little a live view needs of a window system."""

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a BGR uint8 (H, W, 3) picture, in a window that is opened for the first."""

    def key(self) -> int:
        """Return the code of a key that was pressed, or -1."""

    def is_open(self) -> bool:
        """Tell whether the window is still there."""

    def close(self) -> None:
        """Close the window."""


class OpenCvGui:
    """A window of OpenCV's highgui."""

    def __init__(self, title: str) -> None:
        """Name the window; it opens with the first picture."""
        self._title = title
        self._opened = False

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture."""
        if not self._opened:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            height, width = picture.shape[:2]
            longest = max(height, width)
            scale = min(LARGEST_SIDE, max(SMALLEST_SIDE, longest)) / longest
            cv2.resizeWindow(self._title, round(width * scale), round(height * scale))
            self._opened = True
        cv2.imshow(self._title, picture)

    def key(self) -> int:
        """Return a key's code, 0..255, or -1; draws what was shown."""
        code = cv2.waitKey(1)
        return -1 if code < 0 else code & 0xFF

    def is_open(self) -> bool:
        """Tell whether the window is still there, or not yet."""
        return not self._opened or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close the window."""
        if self._opened:
            self._opened = False
            cv2.destroyAllWindows()
            cv2.waitKey(1)  # where the window goes


def _probe() -> str:
    """Open a window in another process; returns what it complained of, or "" if that went well."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {PROBE_SECONDS:.0f} seconds"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else lines[0].strip() if lines else f"it ended with {done.returncode}"


def require_gui(
    build: str | None = None,
    environment: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    probe: Callable[[], str] = _probe,
) -> None:
    """Refuse a window where there can be none, before anything is opened.

    Args:
        build: what OpenCV says of its build; default: this one's.
        environment: default: this process's.
        platform: as ``sys.platform``.
        probe: opens a window somewhere else and says what went wrong.

    Raises:
        InputError: this OpenCV has no windows, this machine no screen, or opening one fails.
    """
    found = re.search(r"^\s*GUI:\s*(\S*)", cv2.getBuildInformation() if build is None else build, re.MULTILINE)
    require(
        found is not None and found.group(1) != "NONE",
        f"this OpenCV has no windows: {INSTEAD}, or install opencv-python in place of opencv-python-headless "
        "(pip uninstall opencv-python-headless, then pip install opencv-python)",
    )
    known = os.environ if environment is None else environment
    screen = platform != "linux" or known.get("DISPLAY") or known.get("WAYLAND_DISPLAY")
    require(bool(screen), f"there is no screen to open a window on (DISPLAY is not set): {INSTEAD}")
    wrong = probe()
    if wrong:
        raise InputError(f"OpenCV cannot open a window here ({wrong}): {INSTEAD}")
