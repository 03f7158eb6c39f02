"""From what a user writes to a source of frames."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.source import Source

__all__ = ["open_source"]

KINDS = "a picture, a folder, a pattern such as 'shots/*.png', a video file, or test://640x480?fps=30"


def open_source(text: str | os.PathLike[str]) -> Source:
    """Open a source of frames.

    Args:
        text: a picture, a folder of pictures, a pattern such as ``shots/*.png``, a video file, or
            ``test://640x480?fps=30&frames=100&shapes=5``.

    Raises:
        InputError: nothing is there, or it is none of these.
    """
    text = os.fspath(text)
    scheme, mark, _ = text.partition("://")
    if mark:
        require(scheme == "test", f"{scheme}:// is no source known here; expected {KINDS}")
        return _shapes(text)
    return _file(text)


def _file(text: str) -> Source:
    # Imported here, because a program that reads a camera needs none of it and import time is bounded.
    from solov2_edge.runtime.picture_headers import SNIFF_BYTES, picture_format
    from solov2_edge.runtime.source_capture import open_video
    from solov2_edge.runtime.source_pictures import PictureSource, matching_pictures

    path = Path(text)
    if path.is_file():
        try:
            with path.open("rb") as stream:
                start = stream.read(SNIFF_BYTES)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); expected {KINDS}") from error
        if start and picture_format(start) is None:
            return open_video(path)
    return PictureSource(text, matching_pictures(text))


def _shapes(text: str) -> Source:
    from solov2_edge.runtime.source_shapes import ShapeSource

    parts = urlsplit(text)
    values: dict[str, str] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.netloc:
        values["width"], _, values["height"] = parts.netloc.partition("x")
    wanted = "expected test://640x480?fps=30&frames=100&shapes=5, each part optional"
    require(set(values) <= {"width", "height", "fps", "frames", "shapes"} and not parts.path, f"{text}: {wanted}")
    try:
        numbers = {name: float(value) if name == "fps" else int(value) for name, value in values.items()}
    except ValueError:
        raise InputError(f"{text} holds something that is not a number; {wanted}") from None
    return ShapeSource(**numbers)  # type: ignore[arg-type]
