"""What COCO instances may leave out and pycocotools insists on: sizes of pictures, areas of objects, crowd flags."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from solov2_edge.errors import InputError

__all__ = ["drawn", "measured"]


def drawn(segmentation: list[Any] | dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return pycocotools' compressed RLE of polygons, of an RLE or of a compressed one, checked before as masks."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str | bytes):
        return segmentation
    drawn_parts: Any = coco_mask.frPyObjects(segmentation, height, width)
    merged: dict[str, Any] = coco_mask.merge(drawn_parts) if isinstance(drawn_parts, list) else drawn_parts
    return merged


def measured(
    data: dict[str, Any], sizes: Mapping[Any, tuple[int, ...]], annotations: str | PathLike[str]
) -> dict[str, Any]:
    """Return instances whose pictures have their size and whose objects have their area, that of the drawn mask.

    Args:
        data: ``images``, ``categories`` and ``annotations``.
        sizes: image id -> (H, W, ...) of the pictures that are evaluated; objects of others are left as they are.
        annotations: their file, for the message.

    Raises:
        InputError: a mask cannot be drawn.
    """
    from pycocotools import mask as coco_mask

    images = [
        {**entry, "height": sizes[entry["id"]][0], "width": sizes[entry["id"]][1]} if entry["id"] in sizes else entry
        for entry in data["images"]
    ]
    objects = []
    for entry in data["annotations"]:
        if "area" not in entry and entry["image_id"] in sizes:
            height, width = sizes[entry["image_id"]][:2]
            try:
                area = coco_mask.area(drawn(entry["segmentation"], height, width))
            except (TypeError, ValueError, IndexError, KeyError) as error:
                raise InputError(f"{annotations} has an annotation pycocotools cannot read: {error!r}") from error
            entry = {**entry, "area": float(area)}
        objects.append(entry)
    return {**data, "images": images, "annotations": objects}
