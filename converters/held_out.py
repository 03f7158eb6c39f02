"""Pictures something is measured on, kept apart from those that calibrate: by content, whatever the files are called.

A range cut from a picture fits that picture. Accuracy measured on it says nothing of the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.annotation_sets import open_annotations
from solov2_edge.runtime.annotations import read_annotated
from solov2_edge.runtime.pictures import list_pictures

__all__ = ["HeldOut", "read_held_out"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Pictures none of which calibrates.

    Attributes:
        pictures: the files, in the order of the annotations, else by name.
        images: the folder they are in.
        annotations: of them, in any form that ``annotation_sets`` reads, or None where only outputs are compared.
        sha256: over the SHA-256 of each picture's pixels, in that order.
    """

    pictures: tuple[Path, ...]
    images: Path
    annotations: Path | None
    sha256: str

    def to_manifest(self) -> dict[str, Any]:
        """Return what a manifest records of the set."""
        return {"count": len(self.pictures), "sha256": self.sha256}


def read_held_out(
    calibration: Iterable[Path], images: Path, annotations: Path | None = None, *, limit: int | None = None
) -> HeldOut:
    """Open pictures to measure on and compare them with the calibration set, pixel by pixel.

    Args:
        calibration: the calibration pictures.
        images: folder of the pictures.
        annotations: COCO instances, LabelMe or YOLO; the pictures are then the annotated ones.
        limit: take the first so many.

    Raises:
        InputError: a picture is missing or unreadable, there is none, or one of them calibrates as well.
    """
    require(limit is None or limit >= 1, f"limit must be at least 1 picture, got {limit!r}")
    require(images.is_dir(), f"{images} is no folder; expected the pictures to measure on")
    pictures = list_pictures(images) if annotations is None else _annotated(images, annotations)
    pictures = pictures[:limit]
    calibrating = {_digest(path): path for path in calibration}
    digests = [_digest(path) for path in pictures]
    pairs = zip(pictures, digests, strict=True)
    shared = [(path, calibrating[digest]) for path, digest in pairs if digest in calibrating]
    if shared:
        path, same = shared[0]
        raise InputError(
            f"{len(shared)} of the {len(pictures)} pictures to measure on calibrate as well (the first: {path}, which "
            f"is {same}), and what is measured on them does not hold for others; take them out of one of the folders"
        )
    return HeldOut(tuple(pictures), images, annotations, hashlib.sha256(b"".join(digests)).hexdigest())


def _annotated(images: Path, annotations: Path) -> Sequence[Path]:
    found = open_annotations(annotations, images)
    pictures = [found.images / str(picture["file_name"]) for picture in found.data["images"]]
    require(bool(pictures), f"{annotations} names no picture; expected annotated pictures")
    for path in pictures:
        require(path.is_file(), f"the annotations name a picture that is not there: {path}")
    return pictures


def _digest(path: Path) -> bytes:
    """Return the SHA-256 of the pixels, so that storing a picture in another format does not hide it."""
    frame = read_annotated(path)
    return hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).digest()
