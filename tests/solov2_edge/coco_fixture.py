"""A small COCO data set of discs on noise, drawn on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np


def write_discs(folder: Path, count: int = 4, size: tuple[int, int] = (96, 128), seed: int = 0) -> Path:
    """Write ``count`` pictures and ``annotations.json`` (polygon and RLE masks, one crowd) and return its path."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for i in range(1, count + 1):
        picture = rng.integers(0, 60, (*size, 3), np.uint8)
        images.append({"id": i, "file_name": f"{i}.png", "height": size[0], "width": size[1]})
        for k, x in enumerate((30, 64, 98)):
            centre, radius = (x, int(rng.integers(25, size[0] - 25))), int(rng.integers(9, 15))
            mask = np.zeros(size, np.uint8)
            cv2.circle(mask, centre, radius, 1, -1)
            picture[mask > 0] = (40, 200, 230) if k % 2 else (230, 90, 40)
            annotations.append(_annotation(len(annotations) + 1, i, 5 if k % 2 else 2, mask, polygon=k == 0))
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    annotations.append({**annotations[0], "id": len(annotations) + 1, "iscrowd": 1})
    categories = [{"id": 5, "name": "odd"}, {"id": 2, "name": "even"}]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _annotation(number: int, image: int, category: int, mask: np.ndarray, polygon: bool) -> dict[str, object]:
    x, y, w, h = cv2.boundingRect(mask)
    if polygon:
        contour = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        segmentation: object = [(contour.reshape(-1) + 0.5).tolist()]
    else:
        flat = mask.T.reshape(-1)  # column-major, runs starting with background
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
        segmentation = {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "bbox": [x, y, w, h],
        "area": int(mask.sum()),
        "iscrowd": 0,
    }
