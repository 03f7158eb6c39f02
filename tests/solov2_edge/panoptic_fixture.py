"""A small COCO panoptic set of discs and bars on two grounds, drawn on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from solov2_edge.runtime.panoptic_annotations import encode_ids

CATEGORIES = (("disc", 1), ("sand", 0), ("bar", 1), ("water", 0))  # ids 1, 2, ...


def write_panoptic(folder: Path, count: int = 3, size: tuple[int, int] = (64, 96), seed: int = 0) -> Path:
    """Write ``images/``, ``panoptic/`` and ``panoptic.json``, whose path is returned.

    Sand above, water below, void in the last four columns; a disc and a bar, and a crowd of discs in the first picture.
    The last picture has no thing at all.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for part in ("images", "panoptic"):
        (folder / part).mkdir(parents=True)
    for number in range(1, count + 1):
        ids = np.zeros(size, np.int32)
        ids[: size[0] // 2], ids[size[0] // 2 :] = 1000, 2000
        ids[:, -4:] = 0
        categories = {1000: 2, 2000: 4}
        if number < count:
            layer = np.zeros(size, np.uint8)
            cv2.circle(layer, (25, int(rng.integers(18, 46))), 13, 1, -1)
            cv2.rectangle(layer, (52, 10), (76, 10 + int(rng.integers(20, 40))), 2, -1)
            ids[layer == 1], ids[layer == 2] = 7, 70_001
            categories |= {7: 1, 70_001: 3}
        if number == 1:
            ids[:8, :8] = 9
            categories[9] = 1
        colours = {0: 0, 1000: 90, 2000: 140, 7: 220, 70_001: 30, 9: 200}
        picture = np.vectorize(colours.get)(ids)[..., None] + rng.integers(0, 20, (*size, 3))
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture.astype(np.uint8))
        cv2.imwrite(str(folder / "panoptic" / f"{number}.png"), encode_ids(ids))
        images.append({"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
        infos = [
            {"id": i, "category_id": c, "area": int((ids == i).sum()), "bbox": [0, 0, 1, 1], "iscrowd": int(i == 9)}
            for i, c in categories.items()
        ]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
    names = [{"id": i, "name": name, "isthing": thing} for i, (name, thing) in enumerate(CATEGORIES, start=1)]
    path = folder / "panoptic.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return path
