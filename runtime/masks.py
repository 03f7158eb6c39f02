"""CroppedMasks: n masks of one frame, each stored as the box it lives in.

Pasting a hundred masks into 1080p canvases costs several times what computing them does, so the canvases are made
only when asked for (:meth:`CroppedMasks.dense`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["CroppedMasks"]


@dataclass(frozen=True, slots=True, eq=False)
class CroppedMasks:
    """Masks in frame pixels, cropped.

    Attributes:
        height: H of the frame in pixels.
        width: W of the frame in pixels.
        corners: (y0, x0) of each crop's top-left pixel in the frame.
        crops: (h, w) bool per instance; everything outside is background. A crop may be wider than its mask, and
            (0, 0) for an empty one.
    """

    height: int
    width: int
    corners: tuple[tuple[int, int], ...]
    crops: tuple[NDArray[np.bool_], ...]

    def __post_init__(self) -> None:
        require(
            self.height > 0 and self.width > 0,
            f"a frame must be at least 1 x 1 pixels, got {self.height} x {self.width}",
        )
        require(
            len(self.corners) == len(self.crops),
            f"every crop needs one corner, got {len(self.crops)} crops and {len(self.corners)} corners",
        )
        for (y0, x0), crop in zip(self.corners, self.crops, strict=True):
            require(
                crop.ndim == 2 and crop.dtype == np.bool_,
                f"a cropped mask must be (h, w) bool, got shape {crop.shape} {crop.dtype}",
            )
            require(
                min(y0, x0) >= 0 and y0 + crop.shape[0] <= self.height and x0 + crop.shape[1] <= self.width,
                f"a crop must lie inside its {self.height} x {self.width} frame, "
                f"got {crop.shape[0]} x {crop.shape[1]} at ({y0}, {x0})",
            )

    @classmethod
    def from_dense(cls, masks: NDArray[np.bool_]) -> CroppedMasks:
        """Crop masks (n, H, W) bool to their boxes; the crops are copies."""
        require(
            masks.ndim == 3 and masks.dtype == np.bool_,
            f"masks must be (n, H, W) bool, got shape {masks.shape} {masks.dtype}; use `masks > 0.5` on probabilities",
        )
        corners, crops = [], []
        for mask in masks:
            y0, y1, x0, x1 = _extent(mask)
            corners.append((y0, x0))
            crops.append(mask[y0:y1, x0:x1].copy())
        return cls(masks.shape[1], masks.shape[2], tuple(corners), tuple(crops))

    def __len__(self) -> int:
        return len(self.crops)

    def select(self, indices: NDArray[np.intp]) -> CroppedMasks:
        """Return the masks at ``indices`` (k,), in that order; crops are shared, not copied."""
        return CroppedMasks(
            self.height,
            self.width,
            tuple(self.corners[i] for i in indices),
            tuple(self.crops[i] for i in indices),
        )

    def dense(self) -> NDArray[np.bool_]:
        """Paste every crop into its own canvas: (n, H, W) bool, n * H * W bytes."""
        canvas = np.zeros((len(self), self.height, self.width), np.bool_)
        for target, (y0, x0), crop in zip(canvas, self.corners, self.crops, strict=True):
            target[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
        return canvas

    def areas(self) -> NDArray[np.int64]:
        """Return the foreground pixels of each mask, (n,) int64."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

    def boxes(self) -> NDArray[np.float32]:
        """Return the tight boxes (n, 4) float32, (x0, y0, x1, y1) in frame pixels.

        Pixel (row r, column c) covers [c, c+1) x [r, r+1), so x1 and y1 are one past the last foreground pixel and
        (x1 - x0) is a width. An empty mask has the box (0, 0, 0, 0).
        """
        boxes = np.zeros((len(self), 4), np.float32)
        for box, (y0, x0), crop in zip(boxes, self.corners, self.crops, strict=True):
            top, bottom, left, right = _extent(crop)
            if bottom > top:
                box[:] = (x0 + left, y0 + top, x0 + right, y0 + bottom)
        return boxes


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return (y0, y1, x0, x1) of the foreground of an (h, w) mask, ends exclusive; zeros if there is none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    return y0, y1, int(columns[0]), int(columns[-1]) + 1
