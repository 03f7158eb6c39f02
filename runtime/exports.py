"""Instances in the formats others read: COCO results, LabelMe documents, supervision detections."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from solov2_edge.coco_classes import COCO_CATEGORY_IDS, COCO_CLASSES
from solov2_edge.errors import MissingDependencyError, require
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.rle import compress_all, crop_counts

if TYPE_CHECKING:  # instances.py imports this module
    from solov2_edge.runtime.instances import Instances

__all__ = ["coco_rle", "to_coco", "to_labelme", "to_supervision"]

LABELME_VERSION = "5.4.1"  # the format version the document follows


def coco_rle(masks: CroppedMasks, *, compressed: bool = True) -> list[dict[str, Any]]:
    """Return one COCO RLE per mask, ``counts`` as a compressed ASCII string or as a list of run lengths."""
    size = (masks.height, masks.width)
    runs = [crop_counts(crop, y0, x0, *size) for crop, (y0, x0) in zip(masks.crops, masks.corners, strict=True)]
    counts = compress_all(runs) if compressed else [run.tolist() for run in runs]
    return [{"size": list(size), "counts": each} for each in counts]


def to_coco(instances: Instances, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return the entries of a COCO results file (JSON-ready) for one picture.

    Args:
        instances: the instances of the picture.
        image_id: id of the picture in the annotations.
        category_ids: COCO category id per class, in class order. None: COCO's own ids where the class names are
            COCO's 80, else class index + 1.

    Returns:
        Per instance: ``image_id``, ``category_id``, ``segmentation`` (compressed RLE), ``bbox`` (x, y, width,
        height in frame pixels), ``area`` (foreground pixels) and ``score``.
    """
    names = instances.class_names
    if category_ids is None:
        category_ids = COCO_CATEGORY_IDS if names == COCO_CLASSES else range(1, len(names) + 1)
    require(
        len(category_ids) == len(names),
        f"category_ids must hold one id per class, got {len(category_ids)} ids for {len(names)} classes",
    )
    x0, y0, x1, y1 = instances.boxes.T.astype(np.float64)
    sides = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist()
    return [
        {
            "image_id": image_id,
            "category_id": int(category_ids[label]),
            "segmentation": rle,
            "bbox": box,
            "area": int(area),
            "score": float(score),
        }
        for label, rle, box, area, score in zip(
            instances.labels, instances.rle(), sides, instances.areas, instances.scores, strict=True
        )
    ]


def to_labelme(instances: Instances, image_path: str, *, tolerance: float = 1.0) -> dict[str, Any]:
    """Return a LabelMe 5 document (JSON-ready) that refers to its picture by path.

    Args:
        instances: the instances of the picture.
        image_path: path of the picture as the document shall name it, normally relative to the document.
        tolerance: how far an outline may stray when simplified, in pixels; 0 follows every pixel edge.

    Returns:
        The document. Each part of a mask is a polygon; the parts of one instance share a ``group_id`` (null where
        there is one part). Holes are not representable and are filled; an empty mask has no shape.
    """
    shapes = []
    for index, (name, score, parts) in enumerate(
        zip(instances.names, instances.scores, instances.polygons(tolerance=tolerance), strict=True)
    ):
        group = index if len(parts) > 1 else None
        for part in parts:
            shapes.append(
                {
                    "label": name,
                    "points": part.astype(np.float64).tolist(),
                    "group_id": group,
                    "description": f"score {score:.3f}",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
            )
    height, width = instances.frame_shape
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": PurePath(image_path).as_posix(),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def to_supervision(instances: Instances) -> Any:
    """Return ``supervision.Detections`` with boxes, dense masks, confidences, class ids and ``data["class_name"]``.

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    try:
        supervision = importlib.import_module("supervision")
    except ImportError as error:
        raise MissingDependencyError("supervision", "demo", "Instances.to_supervision()") from error
    return supervision.Detections(
        xyxy=instances.boxes,
        mask=instances.masks,
        confidence=instances.scores,
        class_id=instances.labels,
        data={"class_name": np.array(instances.names, dtype=np.str_)},
    )
