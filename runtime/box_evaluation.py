"""Boxes of masks, judged as detection: what an instance segmenter gives besides (the paper's section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from solov2_edge.errors import InputError
from solov2_edge.runtime.measured import drawn

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["box_results", "box_truth"]


def box_results(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return result entries whose area is their box's, by which COCO sorts detections into sizes."""
    return [{**entry, "area": entry["bbox"][2] * entry["bbox"][3]} for entry in results]


def box_truth(
    truth: dict[str, Any], sizes: Mapping[Any, tuple[int, ...]], annotations: str | PathLike[str]
) -> dict[str, Any]:
    """Return annotations that all have a box: their own, or where they lack one that of the drawn mask.

    An object's area stays that of its mask, as in COCO's own detection figures.

    Args:
        truth: ``images``, ``categories`` and ``annotations``.
        sizes: image id -> (H, W, ...) of the pictures that are evaluated; objects of others are left as they are.
        annotations: their file, for the message.

    Raises:
        InputError: a box that is no box, or a mask that cannot be drawn.
    """
    from pycocotools import mask as coco_mask

    objects = []
    for entry in truth["annotations"]:
        if entry["image_id"] in sizes:
            if "bbox" not in entry:
                try:
                    rle = drawn(entry["segmentation"], *sizes[entry["image_id"]][:2])
                    entry = {**entry, "bbox": coco_mask.toBbox(rle).tolist()}
                except (TypeError, ValueError, IndexError, KeyError) as error:
                    raise InputError(f"{annotations} has an annotation pycocotools cannot read: {error!r}") from error
            elif not _is_box(entry["bbox"]):
                raise InputError(
                    f"{annotations}: annotation {entry['id']} must have a bbox of x, y, width and height, got "
                    f"{str(entry['bbox'])[:60]}; mend it, or leave it out"
                )
        objects.append(entry)
    return {**truth, "annotations": objects}


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(n, int | float) for n in value)
    return numbers and all(-1e9 < n < 1e9 for n in value) and min(value[2:]) >= 0
