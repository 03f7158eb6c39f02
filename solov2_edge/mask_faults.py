"""What can be wrong with one annotation's mask, each with its cure."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from solov2_edge.errors import InputError
from solov2_edge.runtime.annotations import MAX_COORDINATE, is_segmentation
from solov2_edge.runtime.measured import drawn
from solov2_edge.runtime.rle import rle_runs

__all__ = ["Extent", "mask_fault", "measure_mask"]

OUTSIDE = 1.0  # pixels an outline may lie beyond the picture: tools differ by half a pixel
LEAST_AREA = 0.5  # pixels a polygon must enclose


class Extent(NamedTuple):
    """How large a mask is, in pixels of its picture."""

    area: float
    width: float
    height: float


def mask_fault(segmentation: Any, size: tuple[int, int]) -> tuple[str, str] | None:
    """Return what is wrong with a segmentation of a picture of ``size`` (H, W) and the cure, or None."""
    if segmentation is None or segmentation == [] or segmentation == {}:
        return "has no segmentation", "draw its outline: a box alone trains no mask"
    if isinstance(segmentation, list):
        faults = (_polygon_fault(points, size) for points in segmentation)
        fault = next((found for found in faults if found is not None), None)
        if fault is None and not is_segmentation(segmentation):
            fault = f"has a segmentation that cannot be drawn: {str(segmentation)[:60]}", "draw it again"
        return fault
    if isinstance(segmentation, dict):
        try:
            height, width, _ = rle_runs(segmentation)
        except InputError as error:
            return f"has a broken RLE ({error})", "encode the mask again"
        if (height, width) != size:
            return (
                f"has an RLE of {height} x {width} (H x W) pixels on a picture of {size[0]} x {size[1]}",
                "encode the mask at the picture's size",
            )
        return None
    return f"has a segmentation that is neither polygons nor an RLE: {str(segmentation)[:60]}", "draw it again"


def _polygon_fault(points: Any, size: tuple[int, int]) -> tuple[str, str] | None:
    numbers = isinstance(points, list) and all(isinstance(value, int | float) for value in points)
    if not numbers:
        return f"has a polygon that is no list of numbers: {str(points)[:60]}", "write x, y, x, y, ..."
    if not all(math.isfinite(value) for value in points):
        return "has a polygon with NaN or infinity in it", "draw it again"
    if len(points) % 2:
        return f"has a polygon of {len(points)} numbers, not x y pairs", "draw it again"
    if len(points) < 6:
        return f"has a polygon of {len(points) // 2} points", "draw at least 3, or remove it"
    xs, ys = points[::2], points[1::2]
    beyond = max(-min(xs), -min(ys), max(xs) - size[1], max(ys) - size[0])
    if beyond > OUTSIDE or beyond >= MAX_COORDINATE:
        return (
            f"reaches {beyond:.4g} pixels outside its picture of {size[0]} x {size[1]} (H x W)",
            "clip it, or check that the picture is the one that was annotated",
        )
    area = abs(sum(x * ys[i - 1] - xs[i - 1] * y for i, (x, y) in enumerate(zip(xs, ys, strict=True)))) / 2
    if area < LEAST_AREA:
        return f"has a degenerate polygon that encloses {area:.2g} pixels", "draw it again, or remove it"
    return None


def measure_mask(segmentation: Any, size: tuple[int, int]) -> Extent:
    """Return the extent of a good mask, drawn as COCO draws it."""
    from pycocotools import mask as coco_mask

    rle = drawn(segmentation, *size)
    _, _, width, height = (float(value) for value in coco_mask.toBbox(rle))
    return Extent(float(coco_mask.area(rle)), width, height)
