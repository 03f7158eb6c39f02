"""Instances drawn over their picture: tinted masks, thin outlines, tags where they fit.

Works on the cropped masks, so that a hundred instances of a large picture cost what their pixels cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.colours import colour, shade
from solov2_edge.demos.labels import Tag, draw_tag, place_tag, text_scale
from solov2_edge.errors import require
from solov2_edge.runtime.instances import Instances

__all__ = ["draw_instances", "scaled_mask"]

LEVELS = np.arange(256, dtype=np.float32)[:, None]  # (256, 1)
LEAST_KEPT = 0.8  # share of its area a magnified mask keeps when its staircase is rounded


def draw_instances(
    frame: NDArray[np.uint8],
    instances: Instances,
    *,
    alpha: float = 0.38,
    labels: bool = True,
    scores: bool = True,
    numbers: Sequence[int] | None = None,
    scale: int = 1,
) -> NDArray[np.uint8]:
    """Return a copy of ``frame`` with the instances drawn over it.

    Args:
        frame: BGR uint8 (H, W, 3), the frame the instances were found in.
        instances: what to draw; none at all gives a plain copy.
        alpha: opacity of the tint, 0 (outline only) to 1 (solid).
        labels: draw a tag with class name and score where one fits without hiding its instance.
        scores: put the score on the tag.
        numbers: one number per instance that picks its colour (a track's identity, a class); default: its rank.
        scale: magnify the picture by this whole number first; outlines of small pictures come out smooth.

    Returns:
        BGR uint8 (H * scale, W * scale, 3).

    Raises:
        InputError: the frame is not the one the instances belong to, or an option is out of range.
    """
    masks = instances.cropped
    height, width = frame.shape[:2]
    require(
        frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8,
        f"a frame must be BGR uint8 (H, W, 3), got {frame.dtype} {frame.shape}",
    )
    require(
        (masks.height, masks.width) == (height, width),
        f"these instances belong to a {masks.height} x {masks.width} frame, got one of {height} x {width}",
    )
    require(0.0 <= alpha <= 1.0, f"alpha must be between 0 and 1, got {alpha}")
    require(isinstance(scale, int) and scale >= 1, f"scale must be a whole number of at least 1, got {scale!r}")
    require(
        numbers is None or len(numbers) == len(instances),
        f"numbers must hold one per instance, got {0 if numbers is None else len(numbers)} for {len(instances)}",
    )
    canvas = frame.copy() if scale == 1 else _magnify(frame, scale)
    colours = [colour(rank if numbers is None else int(numbers[rank])) for rank in range(len(instances))]
    line = max(1, round(min(canvas.shape[:2]) / 500))
    # Large instances first, so that a small one on top of a large one stays visible.
    for rank in np.argsort(-masks.areas(), kind="stable"):
        crop, corner = scaled_mask(masks.crops[rank], masks.corners[rank], scale)
        _paint(canvas, crop, corner, colours[rank], alpha, line)
    if labels:
        _draw_tags(canvas, instances, colours, scores, scale)
    return canvas


def _magnify(frame: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    size = (frame.shape[1] * scale, frame.shape[0] * scale)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def scaled_mask(
    crop: NDArray[np.bool_], corner: tuple[int, int], scale: int
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Magnify a cropped mask with rounded steps; returns the crop and its (y0, x0), which may be negative."""
    if scale == 1 or crop.size == 0:
        return crop, corner
    padded = np.pad(crop, 1).astype(np.float32)
    size = (padded.shape[1] * scale, padded.shape[0] * scale)
    soft = cv2.resize(padded, size, interpolation=cv2.INTER_LINEAR)
    # Half a source pixel of blur turns the staircase of the source mask into a curve and keeps its area.
    soft = cv2.GaussianBlur(soft, (0, 0), 0.5 * scale)
    smooth = soft > 0.5
    if np.count_nonzero(smooth) < LEAST_KEPT * scale * scale * np.count_nonzero(crop):
        # A mask one or two pixels thin would blur away; its pixels are shown as they are.
        smooth = padded.astype(np.bool_).repeat(scale, axis=0).repeat(scale, axis=1)
    return smooth, ((corner[0] - 1) * scale, (corner[1] - 1) * scale)


def _paint(
    canvas: NDArray[np.uint8],
    crop: NDArray[np.bool_],
    corner: tuple[int, int],
    bgr: tuple[int, int, int],
    alpha: float,
    line: int,
) -> None:
    y0, x0 = max(corner[0], 0), max(corner[1], 0)
    y1, x1 = min(corner[0] + crop.shape[0], canvas.shape[0]), min(corner[1] + crop.shape[1], canvas.shape[1])
    crop = crop[y0 - corner[0] : y1 - corner[0], x0 - corner[1] : x1 - corner[1]]
    if not crop.any():
        return
    mask = crop.astype(np.uint8)
    region = canvas[y0:y1, x0:x1]
    # A tint maps each of a channel's 256 levels to one, so that a look-up replaces arithmetic on gathered pixels.
    tinted = np.rint(LEVELS + alpha * (np.array(bgr, np.float32) - LEVELS)).astype(np.uint8)
    cv2.copyTo(cv2.LUT(region, tinted[None]), mask, region)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A dark line under a light one: the outline shows on bright and on dark ground, and between touching instances.
    cv2.drawContours(canvas, contours, -1, shade(bgr, 0, 0.7), line + 1, cv2.LINE_AA, offset=(x0, y0))
    cv2.drawContours(canvas, contours, -1, shade(bgr, 255, 0.3), line, cv2.LINE_AA, offset=(x0, y0))


def _draw_tags(
    canvas: NDArray[np.uint8], instances: Instances, colours: list[tuple[int, int, int]], scores: bool, scale: int
) -> None:
    height, width = canvas.shape[:2]
    font = text_scale(height, width)
    placed: list[Tag] = []
    # Scores fall with the rank, so the surest instances get the best places.
    for rank, box in enumerate(instances.boxes * scale):
        name = instances.class_names[int(instances.labels[rank])]
        text = f"{name} {instances.scores[rank]:.2f}" if scores else name
        x0, y0, x1, y1 = (float(value) for value in box)
        anchor = _top_x(instances, rank) * scale
        tag = place_tag(text, (x0, y0, x1, y1), (height, width), placed, font, anchor)
        if tag is not None:
            placed.append(tag)
            draw_tag(canvas, tag, colours[rank])


def _top_x(instances: Instances, rank: int) -> float:
    """Return the mean x, in frame pixels, of the highest row of a mask; 0 for an empty one."""
    crop, (_, x0) = instances.cropped.crops[rank], instances.cropped.corners[rank]
    rows = np.flatnonzero(crop.any(axis=1))
    return x0 + float(np.flatnonzero(crop[rows[0]]).mean()) + 0.5 if len(rows) else 0.0
