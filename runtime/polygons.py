"""Outlines of masks as polygons along pixel edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["outline"]

# Corners of a pixel counterclockwise on the screen, from the upper left. Steps from pixel to pixel are numbered
# 3 * dy + dx + 4, so even ones are diagonal: 0 is to the upper left, 7 down.
_CORNERS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
_MET_AT = np.array([2, 2, 1, 3, 0, 1, 3, 0, 0])  # the corner at which the outline meets a pixel come to by a step
_LEFT_AT = np.array([0, 3, 3, 0, 0, 2, 1, 1, 2])  # the corner at which it leaves one for a step
# Corners it passes from the one to the other, by both steps. No way at all is a full turn where a pixel hangs on one
# corner only: there it is met, and left, diagonally.
_TURN = (_LEFT_AT[None] - _MET_AT[:, None]) % 4
_TURN[::2][_TURN[::2] == 0] = 4


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
    if not crop.size:
        return []
    contours, _ = cv2.findContours(np.ascontiguousarray(crop).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in contours:
        points = _pixel_edges(np.asarray(contour, np.int32).reshape(-1, 2)).astype(np.float32)
        if tolerance > 0:
            simple = np.asarray(cv2.approxPolyDP(points.reshape(-1, 1, 2), tolerance, True), np.float32).reshape(-1, 2)
            points = simple if len(simple) >= 3 else points
        parts.append(points + np.array((x0, y0), np.float32))
    return parts


def _pixel_edges(pixels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the corners of the outline around a chain of border pixels, from the first pixel's upper left one.

    Args:
        pixels: (m, 2) xy, each a neighbour of the one before, the first of the last; counterclockwise on the screen,
            as OpenCV follows an outer border from its first pixel in reading order.

    Returns:
        (k, 2) xy corners of pixels where the outline turns.
    """
    if len(pixels) == 1:
        return np.asarray(pixels + _CORNERS, np.int64)
    x, y = pixels.astype(np.int64).T
    width = int(x.max()) + 2
    at = y * width + x  # one number per place, which halves the work
    number = np.empty(2 * width + 3, np.intp)
    number[_steps(width) + width + 1] = np.arange(9)
    leaving = number[_shifted(at, 1) - at + width + 1]
    coming = _shifted(leaving, -1)
    turn = _TURN[coming, leaving]
    owner = np.repeat(np.arange(len(at)), turn)
    first = _MET_AT[coming] - (np.cumsum(turn) - turn)
    corner = (np.arange(len(owner)) + first[owner]) % 4
    points = _shifted(at[owner] + np.array((0, width, width + 1, 1))[corner], int(-_MET_AT[coming[0]] % 4))
    ahead = _shifted(points, 1) - points
    points = points[ahead != _shifted(ahead, -1)]
    return np.stack((points % width, points // width), axis=1)


def _steps(width: int) -> NDArray[np.int64]:
    """Return what each of the nine steps adds to a place's number."""
    return np.array([down + across for down in (-width, 0, width) for across in (-1, 0, 1)])


def _shifted(values: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    """Return the values of a closed chain from the one at ``by`` on; np.roll is several times as slow on short ones."""
    return np.concatenate((values[by:], values[:by]))
