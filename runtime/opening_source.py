"""From what a user writes to a source of frames."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.source import Source

__all__ = ["TIMEOUT_SECONDS", "open_source"]

TIMEOUT_SECONDS = 5.0
KINDS = (
    "a camera (0 or /dev/video0), a video file, a picture, a folder, a pattern such as 'shots/*.png', rtsp://..., "
    "http://... with Motion JPEG, csi://0 on a Jetson, or test://640x480?fps=30 for moving shapes"
)
CSI_FORM = "csi://0?width=1280&height=720&fps=30&flip=0"
TEST_FORM = "test://640x480?fps=30&frames=100&shapes=5"


def open_source(
    text: str | os.PathLike[str],
    *,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
    reopen: float = math.inf,
    timeout: float = TIMEOUT_SECONDS,
) -> Source:
    """Open a source of frames.

    Args:
        text: one of

            - ``0`` or ``/dev/video0``: a camera of this machine;
            - a video file;
            - a picture, a folder of pictures, or a pattern such as ``shots/**/*.png``;
            - ``rtsp://name:password@camera/stream``;
            - ``http://camera/video``, Motion JPEG, or what else FFmpeg reads from an address;
            - ``csi://0?width=1280&height=720&fps=30&flip=0``: the camera on a Jetson's connector;
            - ``test://640x480?fps=30&frames=100&shapes=5``: moving shapes, at a camera's pace; with ``fps=0`` as fast
              as they are asked for.
        width: of a camera's frames in pixels, to ask for; the camera gives the nearest it has.
        height: likewise.
        fps: frames per second to ask a camera for, likewise.
        reopen: seconds to look for a camera or stream that vanished, with growing pauses, before that is its end; 0
            for not at all.
        timeout: seconds to wait for a stream to answer, and for each of its frames.

    Raises:
        InputError: nothing is there, it cannot be opened, it is none of these, or a size is asked of what is no camera.
    """
    text = os.fspath(text)
    require(text.strip() != "", f"a source has no name; expected {KINDS}")
    require(reopen >= 0, f"a source is looked for during 0 seconds or more, got {reopen:g}")
    require(0 < timeout < 3600, f"a source's time-out is more than 0 and less than 3600 seconds, got {timeout:g}")
    wanted = {name: value for name, value in (("width", width), ("height", height), ("fps", fps)) if value is not None}
    for name, value in wanted.items():
        require(0 < value < math.inf, f"a camera's {name} is more than 0, got {value:g}")
    if _is_number(text) or Path(text).is_char_device() or text.startswith("/dev/video"):
        from solov2_edge.runtime.source_camera import open_camera

        return open_camera(text, width=width, height=height, fps=fps, reopen=reopen)
    scheme, mark, _ = text.partition("://")
    scheme = scheme.lower() if mark else "file"
    if mark:
        try:
            urlsplit(text).port  # noqa: B018 - what it raises is what is wanted
        except ValueError as error:
            raise InputError(f"{text} is no address ({error}); expected {KINDS}") from error
    if scheme == "csi":
        return _csi(text, wanted, reopen, timeout)
    require(
        not wanted,
        f"{' and '.join(wanted)} can be asked of a camera (0, /dev/video0, csi://0) only, and {text} is none; "
        "leave it out",
    )
    if scheme in ("rtsp", "rtsps"):
        from solov2_edge.runtime.source_http import without_secrets
        from solov2_edge.runtime.source_video import open_network

        return open_network(text, without_secrets(text), reopen=reopen, timeout=timeout)
    if scheme in ("http", "https"):
        from solov2_edge.runtime.source_http import open_http

        return open_http(text, reopen=reopen, timeout=timeout)
    if scheme == "test":
        return _shapes(text)
    require(not mark, f"{scheme}:// is no source known here; expected {KINDS}")
    return _file(text)


def _file(text: str) -> Source:
    from solov2_edge.runtime.picture_headers import SNIFF_BYTES, picture_format
    from solov2_edge.runtime.source_pictures import PictureSource, matching_pictures
    from solov2_edge.runtime.source_video import open_video

    path = Path(text)
    require(path.exists() or glob.has_magic(text), f"{text} does not exist; expected {KINDS}")
    if path.is_file():
        try:
            with path.open("rb") as stream:
                start = stream.read(SNIFF_BYTES)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); expected {KINDS}") from error
        if start and picture_format(start) is None:
            return open_video(path)
    return PictureSource(text, matching_pictures(text))


def _csi(text: str, wanted: Mapping[str, float], reopen: float, timeout: float) -> Source:
    from solov2_edge.runtime.source_csi import CsiCamera, open_csi

    numbers = _numbers(text, {"width": int, "height": int, "fps": int, "flip": int}, CSI_FORM)
    twice = sorted(set(numbers) & set(wanted))
    require(not twice, f"{' and '.join(twice)} is given in {text} and beside it; leave one out")
    sensor = urlsplit(text).netloc or "0"
    require(_is_number(sensor), f"{text}: a CSI camera has a number; expected {CSI_FORM}")
    given = {name: int(value) for name, value in wanted.items()}
    return open_csi(CsiCamera(int(sensor), **numbers, **given), reopen=reopen, timeout=timeout)


def _shapes(text: str) -> Source:
    from solov2_edge.runtime.source_shapes import ShapeSource

    numbers = _numbers(text, {"fps": float, "frames": int, "shapes": int}, TEST_FORM)
    size = urlsplit(text).netloc
    if size:
        width, _, height = size.partition("x")
        require(_is_number(width) and _is_number(height), f"{text}: {size} is no size; expected {TEST_FORM}")
        numbers |= {"width": int(width), "height": int(height)}
    return ShapeSource(**numbers)


def _numbers(text: str, kinds: Mapping[str, type], form: str) -> dict[str, Any]:
    """Return the numbers behind the question mark of an address."""
    parts = urlsplit(text)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    good = not parts.path.strip("/") and len(dict(pairs)) == len(pairs) and set(dict(pairs)) <= set(kinds)
    require(good, f"{text} is not understood; expected {form}, each part behind the ? once or not at all")
    try:
        return {name: _number(kinds[name], value) for name, value in pairs}
    except ValueError:
        raise InputError(f"{text} holds something that is not a number; expected {form}") from None


def _number(kind: type, text: str) -> Any:
    """Return a number; Python's own readers also take other scripts' digits, spaces, and 1_0 for 10."""
    if not re.fullmatch(r"[-+.0-9A-Za-z]+", text):
        raise ValueError(text)
    return kind(text)


def _is_number(text: str) -> bool:
    """Return whether a text is digits 0 to 9 alone; ``str.isdecimal`` takes other scripts' digits too."""
    return text.isascii() and text.isdecimal()
