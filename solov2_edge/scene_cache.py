"""Decoded pictures and masks, kept between epochs: in memory that the workers share, or in files named by content.

What is kept is exactly what decoding gives, so that a run with a cache draws the samples of one without.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import multiprocessing
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.files import write_aside

__all__ = ["DiskScenes", "RamScenes", "SceneCache", "pack_scene", "unpack_scene"]

FORM = b"solov2-edge scene 1"  # of a blob; another one makes every file of an older form unknown
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # picture (H, W, 3) and masks (n, H, W), 0 or 1


class SceneCache(Protocol):
    """Keeps scenes by the index of their picture."""

    def find(self, index: int) -> Arrays | None:
        """Return the picture and its masks, writable and the caller's own, or None if they are not kept."""
        ...

    def keep(self, index: int, picture: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """Keep a scene, if there is room."""
        ...


def pack_scene(picture: NDArray[np.uint8], masks: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 3) and masks (n, H, W) as bytes; of each mask its bounding box alone."""
    boxes = [cv2.boundingRect(mask) for mask in masks]
    crops = [mask[y : y + h, x : x + w].tobytes() for mask, (x, y, w, h) in zip(masks, boxes, strict=True)]
    head = np.array([*picture.shape[:2], len(masks), *(v for box in boxes for v in box)], "<i4").tobytes()
    return b"".join([head, picture.tobytes(), *crops])


def unpack_scene(blob: NDArray[np.uint8]) -> Arrays:
    """Return what :func:`pack_scene` packed; the picture is a view of ``blob`` (bytes,) uint8.

    Raises:
        ValueError: the blob is cut short or damaged.
    """
    height, width, count = struct.unpack_from("<3i", blob[:12].tobytes())
    if min(height, width, count) < 0 or len(blob) < 12 + 16 * count + 3 * height * width:
        raise ValueError("a scene is cut short")
    boxes = blob[12 : 12 + 16 * count].view("<i4").reshape(count, 4)
    at = 12 + 16 * count
    picture = blob[at : at + 3 * height * width].reshape(height, width, 3)
    at += picture.size
    masks = np.zeros((count, height, width), np.uint8)
    for mask, (x, y, w, h) in zip(masks, boxes.tolist(), strict=True):
        mask[y : y + h, x : x + w] = blob[at : at + w * h].reshape(h, w)
        at += w * h
    if at != len(blob):
        raise ValueError("a scene has another length than its head says")
    return picture, masks


class RamScenes:
    """Scenes in one stretch of memory, which worker processes that are forked share: each picture is decoded once.

    Where processes are spawned instead, each has a stretch of its own. Memory is taken as it is filled.

    Args:
        count: number of pictures.
        capacity: bytes; scenes beyond are not kept.
    """

    def __init__(self, count: int, capacity: int) -> None:
        self.count, self.capacity = count, capacity
        self._arena = mmap.mmap(-1, max(capacity, mmap.PAGESIZE))
        # Offset and length of each scene (length 0: not kept), then the bytes in use.
        self._table = np.frombuffer(mmap.mmap(-1, 16 * count + 8), np.int64)
        self._lock = multiprocessing.get_context().Lock()

    def __reduce__(self) -> tuple[type[RamScenes], tuple[int, int]]:
        return RamScenes, (self.count, self.capacity)

    def find(self, index: int) -> Arrays | None:
        """See :class:`SceneCache`."""
        with self._lock:  # also orders the writer's bytes before its entry in the table
            offset, length = self._table[2 * index : 2 * index + 2].tolist()
        if not length:
            return None
        return unpack_scene(np.frombuffer(self._arena, np.uint8, length, offset).copy())

    def keep(self, index: int, picture: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """See :class:`SceneCache`."""
        blob = pack_scene(picture, masks)
        with self._lock:
            used = int(self._table[-1])
            if self._table[2 * index + 1] or used + len(blob) > self.capacity:
                return
            self._arena[used : used + len(blob)] = blob
            self._table[2 * index : 2 * index + 2] = used, len(blob)
            self._table[-1] = used + len(blob)


class DiskScenes:
    """Scenes in files whose names are the SHA-256 of the picture's file and its annotations: never stale.

    The picture's file is read and hashed each time, which takes a fraction of decoding it: one that is replaced is
    decoded anew, also in the middle of a run.

    Args:
        folder: of the cache, made if missing; runs may share it, and it may be deleted at any time.
        files: path per picture.
        annotations: what the masks of each picture are decoded from, JSON-ready.
    """

    def __init__(self, folder: Path, files: Sequence[Path], annotations: Sequence[Any]) -> None:
        self.folder, self.files, self.annotations = folder, files, annotations
        self._digests: dict[int, bytes] = {}

    def find(self, index: int) -> Arrays | None:
        """See :class:`SceneCache`."""
        try:
            return unpack_scene(np.fromfile(self._path(index), np.uint8))
        except (OSError, ValueError, struct.error):  # not there, or damaged: then it is written anew
            return None

    def keep(self, index: int, picture: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """See :class:`SceneCache`.

        Raises:
            InputError: the folder cannot be written.
        """
        path = self._path(index)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_aside(path, pack_scene(picture, masks))
        except OSError as error:
            raise InputError(
                f"cannot write the cache {self.folder}: {error.strerror}; free space there, or train with --cache off"
            ) from error

    def _path(self, index: int) -> Path:
        if index not in self._digests:
            text = json.dumps(self.annotations[index], sort_keys=True)
            self._digests[index] = hashlib.sha256(text.encode()).digest()
        try:
            data = self.files[index].read_bytes()
        except OSError as error:
            raise InputError(f"{self.files[index]} cannot be read ({error.strerror}); expected a picture") from error
        name = hashlib.sha256(FORM + self._digests[index] + data).hexdigest()
        return self.folder / name[:2] / name[2:]
