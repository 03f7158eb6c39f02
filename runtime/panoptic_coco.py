"""A panoptic map in COCO's panoptic form: entries of segments, and the picture of their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from solov2_edge.runtime.panoptic import Panoptic

__all__ = ["panoptic_annotation"]


def panoptic_annotation(
    panoptic: Panoptic, image_id: int | str, file_name: str, category_ids: Sequence[int]
) -> dict[str, Any]:
    """Return an entry of ``annotations`` of a COCO panoptic document, a score for each thing added.

    Args:
        panoptic: the map of one picture.
        image_id: the picture's.
        file_name: of the PNG that holds the ids, see :func:`~solov2_edge.runtime.panoptic_annotations.encode_ids`.
        category_ids: per label.
    """
    infos: list[dict[str, Any]] = []
    for segment in panoptic.segments:
        box = cv2.boundingRect(panoptic.mask(segment).view(np.uint8))
        info: dict[str, Any] = {
            "id": segment.id,
            "category_id": category_ids[segment.label],
            "area": segment.area,
            "bbox": [int(side) for side in box],
            "iscrowd": 0,
        }
        infos.append(info if segment.score is None else {**info, "score": round(segment.score, 5)})
    return {"image_id": image_id, "file_name": file_name, "segments_info": infos}
