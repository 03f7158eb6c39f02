"""YOLO segmentation labels as COCO instances: a text file per picture, a line ``class x1 y1 x2 y2 ...`` per object.

Coordinates are shares of the picture's width and height. Pictures lie in ``images`` where the labels lie in
``labels``, or beside them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.annotation_faults import Fault, Report
from solov2_edge.runtime.picture_shape import picture_shape
from solov2_edge.runtime.pictures import PICTURE_SUFFIXES
from solov2_edge.runtime.yolo_names import NAME_LISTS, DataYaml, find_yaml, read_names, read_yaml

__all__ = ["find_class_list", "read_yolo"]

SLACK = 0.01  # share of the picture that rounding tools overshoot by; what lies outside is never drawn
PARENTS = 2  # folders above the labels that may hold their names


def find_class_list(folder: Path) -> Path | None:
    """Return the file that names the classes of a folder of labels: in it, or in one of the folders around it."""
    for place in (folder, *list(folder.resolve().parents)[:PARENTS]):
        found = find_yaml(place) or next((place / n for n in NAME_LISTS if (place / n).is_file()), None)
        if found is None:
            found = next((place / "labels" / n for n in NAME_LISTS if (place / "labels" / n).is_file()), None)
        if found is not None:
            return found
    return None


def read_yolo(path: Path, images: Path | None, split: str, report: Report) -> tuple[dict[str, Any], Path]:
    """Read the labels of a folder, or the ones a ``data.yaml`` names for a split.

    Args:
        path: ``data.yaml``, or a folder: of the data set, of a split, or of labels.
        images: folder of the pictures, if it is not where the layout has it.
        split: ``"train"`` or ``"val"``: taken where ``path`` is a data set of several splits.
        report: told of every fault.

    Returns:
        ``images``, ``categories`` and ``annotations`` as in COCO instances, each object's ``source`` its file and
        line, and the folder of the pictures. A picture without a label file has no objects.

    Raises:
        InputError: no class names, no such split, or no pictures.
    """
    listed = path if path.is_file() else find_class_list(path)
    if listed is None:
        raise InputError(f"{path} has no data.yaml and no classes.txt; name the classes, one a line, in classes.txt")
    yaml = read_yaml(listed) if listed.suffix.lower() in (".yaml", ".yml") else None
    names = read_names(listed) if yaml is None else yaml.names
    labels, pictures = _folders(_start(path, listed, yaml, split))
    pictures = pictures if images is None else images
    require(labels.is_dir(), f"{path}: the labels should be in {labels}, which is no folder; check the layout")
    require(pictures.is_dir(), f"{path}: the pictures should be in {pictures}, which is no folder; give --images")
    data: dict[str, Any] = {
        "images": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [],
    }
    found = sorted(p for p in pictures.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.name[0] != ".")
    require(bool(found), f"{pictures} holds no picture; give the pictures' folder with --images")
    listed_labels = {p.relative_to(labels) for p in labels.rglob("*.txt") if p.name not in NAME_LISTS}
    owners: dict[Path, Path] = {}
    for picture in found:
        name = picture.relative_to(pictures)
        label = name.with_suffix(".txt")
        if label in owners and label in listed_labels:
            report(Fault(label.as_posix(), "", f"labels both {owners[label]} and {name}", "rename one of the pictures"))
            continue
        owners[label] = name
        try:
            height, width = picture_shape(picture)
        except InputError as error:
            report(Fault(str(picture), "", f"cannot be read ({error})", "replace it"))
            continue
        number = len(data["images"]) + 1
        data["images"].append({"id": number, "file_name": name.as_posix(), "height": height, "width": width})
        if label in listed_labels:
            objects = _objects(labels / label, label.as_posix(), len(names), (height, width), report)
            data["annotations"] += [{"image_id": number, **entry} for entry in objects]
    for label in sorted(listed_labels - owners.keys()):
        missing = f"labels a picture that is not there: {pictures / label.with_suffix('')}.*"
        report(Fault(label.as_posix(), "", missing, "put the picture there, or remove the labels"))
    data["annotations"] = [{"id": number, **entry} for number, entry in enumerate(data["annotations"], start=1)]
    return data, pictures


def _start(path: Path, listed: Path, yaml: DataYaml | None, split: str) -> Path:
    """Return the folder to begin at: the split's where ``path`` is the whole data set, else ``path``."""
    whole = yaml is not None and (path.is_file() or listed.parent.resolve() == path.resolve())
    if yaml is None or not whole or not yaml.splits:
        return path.parent if path.is_file() else path
    require(
        split in yaml.splits,
        f"{yaml.path} names no {split} pictures, only {', '.join(yaml.splits)}; give a folder of labels instead",
    )
    return yaml.splits[split]


def _folders(start: Path) -> tuple[Path, Path]:
    """Return (labels, pictures) for a folder of either, or of both."""
    parts = list(start.parts)
    last = next((i for i in reversed(range(len(parts))) if parts[i] in ("images", "labels")), None)
    if last is not None:
        pair = [Path(*parts[:last], name, *parts[last + 1 :]) for name in ("labels", "images")]
        return pair[0], pair[1] if pair[1].is_dir() else start
    if (start / "labels").is_dir():
        return start / "labels", start / "images" if (start / "images").is_dir() else start
    return start, start


def _objects(path: Path, file: str, classes: int, size: tuple[int, int], report: Report) -> list[dict[str, Any]]:
    """Return the objects of one label file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        report(Fault(file, "", f"cannot be read as text ({error})", "write it again"))
        return []
    found = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            label, points = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            report(Fault(file, f"line {number}", f"is not a class number and coordinates: {line[:60]}", "mend it"))
            continue
        fault, cure = _fault(label, points, classes)
        if fault:
            report(Fault(file, f"line {number}", fault, cure))
            continue
        pixels = [value * size[1 - place % 2] for place, value in enumerate(points)]
        entry = {"category_id": label, "segmentation": [pixels], "iscrowd": 0, "source": f"{file}: line {number}"}
        found.append(entry)
    return found


def _fault(label: int, points: list[float], classes: int) -> tuple[str, str]:
    if not 0 <= label < classes:
        return f"has the class {label}, of {classes} named ones", f"use 0 to {classes - 1}, or name it"
    if len(points) == 4:
        return "is a box (class x y width height), not a polygon", "export segmentation labels"
    if len(points) < 6 or len(points) % 2:
        return f"has {len(points)} coordinates, expected x y pairs of at least 3 points", "draw it again"
    if not all(math.isfinite(value) for value in points):
        return "has a coordinate that is not finite", "draw it again"
    worst = max(points, key=lambda value: abs(value - 0.5))
    if abs(worst - 0.5) > 0.5 + SLACK:
        return f"has the coordinate {worst:g}, expected shares of the picture from 0 to 1", "divide by its size"
    return "", ""
