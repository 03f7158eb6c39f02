"""Keeping one frame of a live view: the frame itself, what was found in it as a LabelMe document, and the overlay."""

from __future__ import annotations

import json
import time
from pathlib import Path

from solov2_edge.demos.image import encode_png
from solov2_edge.demos.live_view import Shown
from solov2_edge.files import write_aside

__all__ = ["run_name", "save_shown"]


def run_name() -> str:
    """Return a name for what a run leaves behind that sorts by time: ``live-20260131-235959``."""
    return time.strftime("live-%Y%m%d-%H%M%S")


def save_shown(shown: Shown, folder: Path, name: str) -> tuple[Path, ...]:
    """Write ``<name>-<index>.png``, ``.json`` and ``.overlay.png``; returns the files.

    The document and the frame are what LabelMe opens: corrected there, they are training data.

    Raises:
        OSError: the folder cannot be written.
    """
    stem = f"{name}-{shown.frame.index:06d}"
    picture = write_aside(folder / f"{stem}.png", encode_png(shown.frame.image))
    document = shown.instances.to_labelme(picture.name)
    return (
        picture,
        write_aside(folder / f"{stem}.json", json.dumps(document, indent=1)),
        write_aside(folder / f"{stem}.overlay.png", encode_png(shown.overlay)),
    )
