"""Outlines of masks as polygons along pixel edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["outline"]


def outline(crop: NDArray[np.bool_], y0: int, x0: int, tolerance: float = 0.0) -> list[NDArray[np.float32]]:
    """Return the outer contours of one mask, holes ignored.

    Pixel (row r, column c) covers the square [c, c+1) x [r, r+1), as in :meth:`CroppedMasks.boxes`. Vertices are
    corners of pixels, so a mask of one pixel is a unit square, and the area of the polygons is the area of the mask
    with its holes filled. (OpenCV's own contours run through pixel centres and lose half a pixel on every side.)
    Pixels that touch at a corner belong to one contour, which then touches itself there.

    Args:
        crop: (h, w) bool.
        y0: row of the crop's top-left pixel in the frame.
        x0: column of the crop's top-left pixel in the frame.
        tolerance: 0 keeps every corner; otherwise the farthest a simplified outline may stray from the exact one, in
            pixels (Douglas-Peucker). A part that would shrink to fewer than 3 points stays exact.

    Returns:
        One (k, 2) float32 array of (x, y) in frame pixels per part, k >= 4 when exact; an empty list for an empty mask.
    """
    require(tolerance >= 0, f"tolerance must be 0 or more pixels, got {tolerance!r}")
    # On the doubled mask a contour vertex says on which half of its pixel it lies; rounding it to the next even
    # number and halving gives the pixel's edge, on convex and on concave corners alike.
    doubled = np.repeat(np.repeat(crop.astype(np.uint8), 2, axis=0), 2, axis=1)
    if not doubled.size:
        return []
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = []
    for contour in contours:
        points = _corners_only((np.asarray(contour, np.int64).reshape(-1, 2) + 1) // 2).astype(np.float32)
        if tolerance > 0:
            simple = np.asarray(cv2.approxPolyDP(points.reshape(-1, 1, 2), tolerance, True), np.float32).reshape(-1, 2)
            points = simple if len(simple) >= 3 else points
        parts.append(points + np.array((x0, y0), np.float32))
    return parts


def _corners_only(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop repeated vertices, then those on a straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(axis=1) > 0)
    corners: NDArray[np.int64] = points[~straight]
    return corners
