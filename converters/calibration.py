"""Calibration pictures: the set static quantisation takes its ranges from, prepared as the runtime prepares frames."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.manifest import InputContract
from solov2_edge.runtime.pictures import list_pictures, read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.spec import ModelSpec

__all__ = ["MIN_PICTURES", "Calibration", "read_calibration"]

MIN_PICTURES = 32  # with fewer, one unusual picture decides a range


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration set, checked to be readable.

    Attributes:
        pictures: the files, sorted by name.
        sha256: over the SHA-256 of each file's contents, in that order; names and dates do not count.
    """

    pictures: tuple[Path, ...]
    sha256: str

    def batches(self, spec: ModelSpec, contract: InputContract) -> Iterator[NDArray[Any]]:
        """Give one network input per picture, one in memory at a time.

        Args:
            spec: mean, std and channel order.
            contract: the artefact's input.

        Yields:
            (1, H, W, 3) uint8 or (1, 3, H, W) float32, exactly what the runtime would feed for that picture.

        Raises:
            InputError: a picture can no longer be read.
        """
        for path in self.pictures:
            frame = read_picture(path)
            geometry = fixed_geometry(frame.shape[0], frame.shape[1], contract.height, contract.width)
            yield preprocess(frame, geometry, contract.kind, spec)

    def to_manifest(self) -> dict[str, Any]:
        """Return what the manifest records of the set."""
        return {"count": len(self.pictures), "sha256": self.sha256}


def read_calibration(
    folder: str | os.PathLike[str], *, limit: int | None = None, allow_small: bool = False
) -> Calibration:
    """Open the pictures of a folder as a calibration set.

    Every picture is decoded once, so that a damaged one is named now and not after minutes of conversion.

    Args:
        folder: holds the pictures, directly.
        limit: take so many, spread evenly over the sorted names (neighbouring names are often neighbouring frames of
            a film); default: all.
        allow_small: accept fewer than :data:`MIN_PICTURES` different pictures.

    Raises:
        InputError: nothing is there, a picture cannot be read, or there are too few different ones.
    """
    require(
        limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1),
        f"the number of calibration pictures must be a positive integer, got {limit!r}",
    )
    require(
        not Path(folder).is_file(),
        f"{folder} is a file; expected a folder of {MIN_PICTURES} or more calibration pictures",
    )
    pictures = list_pictures(folder)
    if limit is not None and limit < len(pictures):
        pictures = [pictures[i * len(pictures) // limit] for i in range(limit)]
    digests = []
    for path in pictures:
        read_picture(path)
        digests.append(hashlib.sha256(path.read_bytes()).digest())
    different = len(set(digests))
    require(
        allow_small or different >= MIN_PICTURES,
        f"calibration needs at least {MIN_PICTURES} different pictures, got {different} from {folder}: ranges taken "
        "from so few are accidental; add pictures of the kind the network will see, or pass --allow-small to try",
    )
    return Calibration(tuple(pictures), hashlib.sha256(b"".join(digests)).hexdigest())
