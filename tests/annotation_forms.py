"""The same objects as COCO json, LabelMe documents and YOLO labels, for tests of what reads them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (96, 128)  # H, W
NAMES = ("cup", "plate")
# Per picture: (class, outline), in pixels; the second picture lies in a subfolder and the third has no object.
OBJECTS: tuple[tuple[str, tuple[tuple[int, list[tuple[float, float]]], ...]], ...] = (
    (
        "a.png",
        ((0, [(10, 10), (50, 12), (44, 50), (14, 44)]), (1, [(70, 20), (110, 20), (110, 60), (70, 60)])),
    ),
    ("sub/b.png", ((1, [(20.3, 30.4), (60.3, 30.4), (40.2, 80.6)]),)),
    ("c.png", ()),
)


@dataclass(frozen=True)
class Forms:
    """Where the three forms stand: what ``--annotations`` takes, and the pictures' folder (None: by the layout)."""

    coco: Path
    labelme: Path
    yolo: Path
    images: Path


def write_forms(folder: Path) -> Forms:
    """Write ``coco.json`` beside ``images``, ``labelme`` with pictures of its own, and ``yolo/{images,labels}``."""
    coco: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": NAMES[0]}, {"id": 7, "name": NAMES[1]}],
    }
    rng = np.random.default_rng(0)
    for number, (name, objects) in enumerate(OBJECTS, start=1):
        picture = rng.integers(0, 90, (*SIZE, 3), np.uint8)
        for label, points in objects:
            colour = (230, 90, 40) if label else (40, 200, 230)
            cv2.fillPoly(picture, [np.rint(np.array(points)).astype(np.int32)], colour)
        for root in ("images", "labelme", "yolo/images"):
            (folder / root / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / root / name), picture)
        coco["images"].append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        coco["annotations"] += [
            {
                "id": 10 * number + i,
                "image_id": number,
                "category_id": 7 if label else 3,
                "segmentation": [[value for point in points for value in point]],
            }
            for i, (label, points) in enumerate(objects)
        ]
        _labelme(folder / "labelme" / name, objects)
        _yolo(folder / "yolo" / "labels" / name, objects)
    (folder / "yolo" / "data.yaml").write_text(
        f"path: .\ntrain: images\nval: images\nnames:\n  0: {NAMES[0]}\n  1: {NAMES[1]}\n"
    )
    (folder / "coco.json").write_text(json.dumps(coco))
    return Forms(folder / "coco.json", folder / "labelme", folder / "yolo", folder / "images")


def document(picture: str, shapes: list[dict[str, Any]], **fields: Any) -> str:
    """Return the text of a LabelMe document."""
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    return json.dumps({"version": "5.5.0", "shapes": shapes, "imagePath": picture, "imageData": None, **size, **fields})


def shape(label: str, points: Any, kind: str = "polygon", group: int | None = None) -> dict[str, Any]:
    """Return a LabelMe shape."""
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, "flags": {}}


def _labelme(picture: Path, objects: tuple[tuple[int, list[tuple[float, float]]], ...]) -> None:
    shapes = [shape(NAMES[label], [list(point) for point in points]) for label, points in objects]
    if picture.stem == "a":  # an upright rectangle by two of its corners
        shapes[1] = shape(NAMES[1], [list(objects[1][1][0]), list(objects[1][1][2])], "rectangle")
    picture.with_suffix(".json").write_text(document(picture.name, shapes))


def _yolo(picture: Path, objects: tuple[tuple[int, list[tuple[float, float]]], ...]) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for label, points in objects:
        shares = (f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in points)
        lines.append(" ".join([str(label), *shares]))
    if lines:
        picture.with_suffix(".txt").write_text("\n".join(lines) + "\n")
