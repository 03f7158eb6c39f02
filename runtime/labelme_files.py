"""LabelMe folders as COCO instances: one json per picture, whose shapes are polygons, rectangles and circles."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.annotation_faults import Fault, Report
from solov2_edge.runtime.pictures import decode_picture, read_picture

__all__ = ["embedded_picture", "is_labelme", "labelme_files", "read_labelme"]

MAX_COORDINATE = 1e6  # pixels, as of COCO polygons
SAGITTA = 0.05  # pixels a circle's polygon may lie inside the circle


def labelme_files(folder: Path) -> list[Path]:
    """Return the json files below a folder by name, hidden ones left out."""
    found = (path for path in folder.rglob("*.json") if not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def is_labelme(document: Any) -> bool:
    """Return whether a parsed json is a LabelMe document."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def embedded_picture(path: Path) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) BGR uint8 that a LabelMe document carries as ``imageData``.

    Raises:
        InputError: the file is no such document, or its picture cannot be decoded.
    """
    try:
        data = base64.b64decode(json.loads(path.read_text(encoding="utf-8"))["imageData"], validate=True)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} holds no picture as imageData ({type(error).__name__}); put the file back") from error
    return decode_picture(data, f"imageData of {path}")


def read_labelme(folder: Path, images: Path | None, report: Report) -> dict[str, Any]:
    """Read every document below a folder.

    A picture is the file that ``imagePath`` names, inside the folder; with ``images``, the file of that bare name
    there; without a file, the document's own ``imageData``. COCO files beside the documents are passed over. Shapes of
    one label and one ``group_id`` are one object. Classes are the labels in alphabetical order.

    Args:
        folder: of the documents.
        images: folder of the pictures, if it is another.
        report: told of every fault.

    Returns:
        ``images``, ``categories`` and ``annotations`` as in COCO instances. ``file_name`` is relative to ``images``
        (default ``folder``), or the document itself, as an absolute path, where that carries the picture; ``source``
        says where an entry comes from.
    """
    root = folder if images is None else images
    pictures: list[dict[str, Any]] = []
    objects: list[tuple[str, dict[str, Any]]] = []
    for path in labelme_files(folder):
        file = str(path.relative_to(folder))
        document = _document(path, file, report)
        name = None if document is None else _picture_name(document, path, folder, images, report)
        if document is None or name is None:
            continue
        size = document.get("imageHeight"), document.get("imageWidth")
        if not all(isinstance(side, int) and side > 0 for side in size):
            try:
                size = (embedded_picture(path) if name == str(path.resolve()) else read_picture(root / name)).shape[:2]
            except InputError as error:
                report(Fault(file, "", f"names a picture that cannot be read ({error})", "replace the picture"))
                continue
        entry = {"id": len(pictures) + 1, "file_name": name, "height": size[0], "width": size[1], "source": file}
        pictures.append(entry)
        for label, parts, shapes in _objects(document["shapes"], file, report):
            source = f"{file}: shape {', '.join(str(number) for number in shapes)}"
            objects.append((label, {"image_id": entry["id"], "segmentation": parts, "iscrowd": 0, "source": source}))
    names = sorted({label for label, _ in objects})
    ids = {name: number for number, name in enumerate(names, start=1)}
    return {
        "images": pictures,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            {"id": number, "category_id": ids[label], **entry} for number, (label, entry) in enumerate(objects, start=1)
        ],
    }


def _document(path: Path, file: str, report: Report) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        report(Fault(file, "", f"is not readable JSON ({error})", "save it from LabelMe again"))
        return None
    if isinstance(document, list) or (isinstance(document, dict) and "annotations" in document):
        return None  # COCO results or instances, as the segment verb writes them beside its documents
    if not is_labelme(document):
        report(Fault(file, "", "is no LabelMe document: it has no list 'shapes'", "take it out of the folder"))
        return None
    assert isinstance(document, dict)
    return document


def _picture_name(
    document: dict[str, Any], path: Path, folder: Path, images: Path | None, report: Report
) -> str | None:
    """Return the picture's path relative to its folder, or the document's own absolute path."""
    file = str(path.relative_to(folder))
    given = document.get("imagePath")
    if not isinstance(given, str) or not given or "\0" in given:
        report(Fault(file, "", f"has the imagePath {given!r}", "write the picture's file name there"))
        return None
    named = PurePosixPath(given.replace("\\", "/"))  # LabelMe on Windows writes backslashes
    below = path.parent.relative_to(folder)
    if images is None:
        place = (path.parent / named).resolve()
        if not place.is_relative_to(folder.resolve()):
            report(
                Fault(
                    file,
                    "",
                    f"has the imagePath {given}, which leads out of the folder",
                    "give the pictures' folder with --images, where they are found by their bare names",
                )
            )
            return None
        candidates = [place.relative_to(folder.resolve())]
    else:
        candidates = [below / named.name, Path(named.name)]
    root = folder if images is None else images
    for candidate in candidates:
        if _is_file(root / candidate):
            return candidate.as_posix()
    if isinstance(document.get("imageData"), str) and document["imageData"]:
        return _checked_embedded(document["imageData"], path, file, report)
    report(Fault(file, "", f"names a picture that is not there: {root / candidates[0]}", "put the picture there"))
    return None


def _checked_embedded(data: str, path: Path, file: str, report: Report) -> str | None:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        report(Fault(file, "", "has imageData that is not base64, and its picture's file is missing", "add the file"))
        return None
    return str(path.resolve())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name no file system takes
        return False


def _objects(shapes: list[Any], file: str, report: Report) -> Iterator[tuple[str, list[list[float]], list[int]]]:
    """Yield (label, polygons, numbers of its shapes from 1) of each object, in the order of their first shapes."""
    joined: dict[Any, tuple[str, list[list[float]], list[int]]] = {}
    for number, shape in enumerate(shapes, start=1):
        fault, cure = _fault(shape)
        if fault:
            report(Fault(file, f"shape {number}", fault, cure))
            continue
        group = shape.get("group_id")
        key = ("shape", number) if group is None else (shape["label"], group)
        _, parts, numbers = joined.setdefault(key, (shape["label"], [], []))
        parts.append(_polygon(shape))
        numbers.append(number)
    yield from joined.values()


def _fault(shape: Any) -> tuple[str, str]:
    """Return what is wrong with a shape and its cure; empty if nothing is."""
    if not isinstance(shape, dict):
        return "is no object", "remove it"
    label, kind = shape.get("label"), shape.get("shape_type", "polygon")
    points: Any = shape.get("points")
    if not isinstance(label, str) or not label.strip():
        return f"has the label {label!r}", "name its class"
    if kind not in ("polygon", "rectangle", "circle"):
        return f"is a {kind}, which has no area of its own here", "draw a polygon, rectangle or circle, or remove it"
    good = isinstance(points, list) and all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(v, int | float) and math.isfinite(v) for v in p)
        for p in points
    )
    if not good:
        return f"has points that are no [x, y] pairs of finite numbers: {str(points)[:60]}", "draw it again"
    if any(abs(value) >= MAX_COORDINATE for point in points for value in point):
        return f"has a point beyond {MAX_COORDINATE:.0f} pixels", "draw it again"
    if kind == "polygon" and len(points) < 3:
        return f"is a polygon of {len(points)} points", "draw at least 3, or remove it"
    if (kind == "rectangle" and len(points) not in (2, 4)) or (kind == "circle" and len(points) != 2):
        return f"is a {kind} of {len(points)} points, expected 2", "draw it again"
    if kind != "polygon" and points[0] == points[1]:
        return f"is a {kind} without extent", "remove it"
    group = shape.get("group_id")
    if group is not None and not isinstance(group, int | str):
        return f"has the group_id {group!r}", "give it a number, or null"
    return "", ""


def _polygon(shape: dict[str, Any]) -> list[float]:
    """Return a good shape's outline as x, y, x, y, ... in pixels of the picture."""
    kind, points = shape.get("shape_type", "polygon"), np.array(shape["points"], np.float64)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif kind == "circle":
        centre, radius = points[0], float(np.hypot(*(points[1] - points[0])))
        steps = math.ceil(math.pi / math.acos(1 - min(SAGITTA / radius, 0.02)))
        angles = np.arange(steps) * (2 * math.pi / steps)
        points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    flat: list[float] = points.reshape(-1).tolist()
    return flat
