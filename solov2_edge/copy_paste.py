"""Objects of one picture pasted into another (Ghiasi et al., Simple Copy-Paste, CVPR 2021), hard-edged as there.

What is pasted lies in front: masks beneath lose the pixels it covers, and objects that lose all of them are dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scene", "paste_objects"]


class Scene(NamedTuple):
    """A picture with its objects.

    Attributes:
        picture: (H, W, 3) uint8.
        masks: (n, H, W) uint8, 0 or 1.
        labels: n class channels.
    """

    picture: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    labels: tuple[int, ...]


def paste_objects(scene: Scene, source: Scene, rng: np.random.Generator) -> Scene:
    """Return ``scene`` with some objects of ``source`` in front, all moved by the same random offset.

    Args:
        scene: what is pasted into.
        source: of any size; each of its objects is taken with probability 1/2.
        rng: draws the objects and the offset.

    Returns:
        A new scene of the first one's size, the remaining objects first. Nothing taken, or nothing that lies inside,
        is ``scene`` itself.
    """
    chosen = np.flatnonzero(rng.random(len(source.labels)) < 0.5)
    windows = [_overlap(*sides, rng) for sides in zip(scene.picture.shape[:2], source.picture.shape[:2], strict=True)]
    (to_y, from_y), (to_x, from_x) = windows
    masks = source.masks[chosen][:, from_y, from_x]
    inside = masks.any(axis=(1, 2))
    if not inside.any():
        return scene
    front = np.zeros((int(inside.sum()), *scene.picture.shape[:2]), np.uint8)
    front[:, to_y, to_x] = masks[inside]
    covered = front.any(axis=0)
    picture = scene.picture.copy()
    moved = np.zeros_like(picture)
    moved[to_y, to_x] = source.picture[from_y, from_x]
    picture[covered] = moved[covered]
    behind = scene.masks * ~covered
    left = np.asarray(behind.any(axis=(1, 2)))
    labels = [label for label, stays in zip(scene.labels, left, strict=True) if stays]
    labels += [source.labels[i] for i in chosen[inside]]
    return Scene(picture, np.concatenate([behind[left], front]), tuple(labels))


def _overlap(length: int, other: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Return where ``other`` pixels land on ``length`` ones, and which they are; the smaller lies inside the larger."""
    offset = int(rng.integers(abs(length - other) + 1))
    inner = min(length, other)
    moved, whole = slice(offset, offset + inner), slice(0, inner)
    return (moved, whole) if other <= length else (whole, moved)
