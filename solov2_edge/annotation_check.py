"""Annotations looked through to the end: every fault named, the good objects counted by class and by level.

Nothing is decoded but masks, so that a set is checked in the time it takes to read its files once.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.mask_faults import Extent, mask_fault, measure_mask
from solov2_edge.runtime.annotation_faults import Fault
from solov2_edge.runtime.annotation_sets import COCO, Located, read_located
from solov2_edge.runtime.annotations import read_annotated
from solov2_edge.runtime.class_choice import ClassChoice
from solov2_edge.runtime.lvis_protocol import with_names
from solov2_edge.runtime.picture_shape import picture_shape
from solov2_edge.runtime.pictures import MAX_PIXELS

__all__ = ["Checked", "check_annotations"]

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Checked:
    """What a check found.

    Attributes:
        form: of the annotations.
        faults: every one, in the order of the files.
        pictures: those listed that can be read.
        crowds: objects marked as crowds, which train nothing.
        objects: (class name, picture, its (H, W), extent, where it is) of every good object that is no crowd.
        class_names: in channel order, after the choice.
    """

    form: str
    faults: list[Fault] = field(default_factory=list)
    pictures: int = 0
    crowds: int = 0
    objects: list[tuple[str, str, tuple[int, int], Extent, str]] = field(default_factory=list)
    class_names: tuple[str, ...] = ()


def check_annotations(located: Located, split: str, choice: ClassChoice, progress: Progress) -> Checked:
    """Check annotations and their pictures.

    Args:
        located: what and where.
        split: ``"train"`` or ``"val"``, where a YOLO data set has both.
        choice: classes that count.
        progress: called with (done, total) pictures and objects.

    Raises:
        InputError: the annotations cannot be read at all, or a class that was chosen does not exist.
    """
    found = Checked(located.form)
    if located.form == COCO:
        data, folder = _parsed(located.path), located.images or located.path.parent
        require(folder.is_dir(), f"{folder} is no folder; give the pictures' with --images")
    else:
        annotations = read_located(located, split=split, report=found.faults.append)
        data, folder = annotations.data, annotations.images
    file = str(located.path)
    total = len(data["images"]) + len(data["annotations"])
    categories = _categories(data["categories"], file, found)
    chosen = choice.apply({**data, "categories": categories, "annotations": []}, file, strict=split == "train")
    found.class_names = tuple(category["name"] for category in sorted(chosen["categories"], key=lambda c: c["id"]))
    sizes = _pictures(data["images"], folder, file, found, lambda done: progress(done, total))
    _objects(data, {c["id"]: c["name"] for c in categories}, sizes, choice, file, found, progress)
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read annotations {path}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a COCO json ({error}); see cocodataset.org") from error
    for key in ("images", "categories", "annotations"):
        good = isinstance(data, dict) and isinstance(data.get(key), list)
        require(good, f"{path} is not a COCO json: it has no list {key!r}; see cocodataset.org")
    result: dict[str, Any] = {**data, "images": with_names(data["images"])}
    return result


def _categories(entries: list[Any], file: str, found: Checked) -> list[dict[str, Any]]:
    good: dict[int, dict[str, Any]] = {}
    for place, entry in enumerate(entries, start=1):
        number = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"category {number}" if isinstance(number, int) else f"the category at place {place}"
        if not isinstance(number, int):
            found.faults.append(Fault(file, where, f"has the id {number!r}", "give it a whole number"))
        elif not isinstance(name, str) or not name:
            found.faults.append(Fault(file, where, f"has the name {name!r}", "name it"))
        elif number in good:
            found.faults.append(Fault(file, where, "is there twice", "give each category its own id"))
        else:
            if name in (other["name"] for other in good.values()):
                found.faults.append(Fault(file, where, f"has the name {name} of another", "give it its own name"))
            good[number] = {"id": number, "name": name}
    return list(good.values())


def _pictures(
    entries: list[Any], folder: Path, file: str, found: Checked, progress: Callable[[int], None]
) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return id -> (file name, (H, W)) of the pictures whose masks can be judged."""
    good: dict[str, tuple[str, tuple[int, int]]] = {}
    names: Counter[str] = Counter()
    for place, entry in enumerate(entries, start=1):
        progress(place)
        number = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        where = f"picture {number} ({name})" if isinstance(number, int | str) else f"the picture at place {place}"
        if not isinstance(number, int | str):
            found.faults.append(Fault(file, where, f"has the id {number!r}", "give it a number"))
            continue
        if not isinstance(name, str) or not name:
            found.faults.append(Fault(file, where, f"has the file_name {name!r}", "name its file"))
            continue
        if str(number) in good:
            found.faults.append(Fault(file, where, "has the id of another", "give each picture its own id"))
            continue
        names[name] += 1
        if names[name] == 2:
            found.faults.append(Fault(file, where, "is listed twice", "put its objects under one entry"))
        shape = _shape(entry, folder / name, where, str(entry.get("source", file)), found)
        if shape is not None:
            good[str(number)] = name, shape
    return good


def _shape(entry: dict[str, Any], path: Path, where: str, file: str, found: Checked) -> tuple[int, int] | None:
    """Return the (H, W) that masks of a picture must have: the annotated one, else the file's."""
    given = entry.get("height"), entry.get("width")
    stated = _size(given)
    if stated is None and given != (None, None):
        what = f"is given as {str(given[0])[:60]} x {str(given[1])[:60]} (H x W)"
        found.faults.append(Fault(file, where, what, "write its size in pixels, or leave it out"))
    shape: tuple[int, int] | None = None
    try:
        if not path.is_file():
            found.faults.append(Fault(file, where, f"is not there: {path}", "put it there, or check --images"))
        elif path.suffix.lower() == ".json":
            height, width = read_annotated(path).shape[:2]
            shape = height, width
        else:
            shape = picture_shape(path)
    except (InputError, OSError, ValueError) as error:
        found.faults.append(Fault(file, where, f"cannot be read ({error})", "replace it"))
    if shape is not None:
        found.pictures += 1
        if stated is not None and shape != stated:
            what = f"is given as {stated[0]} x {stated[1]} (H x W) and its file is {shape[0]} x {shape[1]}"
            found.faults.append(Fault(file, where, what, "put the annotated picture back, or annotate this one"))
    return stated or shape


def _size(given: tuple[Any, Any]) -> tuple[int, int] | None:
    """Return a size (H, W) if it is one of a picture that can be read."""
    height, width = given
    whole = isinstance(height, int) and isinstance(width, int) and min(height, width) > 0
    return (height, width) if whole and height * width <= MAX_PIXELS else None


def _objects(
    data: dict[str, Any],
    names: dict[int, str],
    sizes: dict[str, tuple[str, tuple[int, int]]],
    choice: ClassChoice,
    file: str,
    found: Checked,
    progress: Progress,
) -> None:
    """Look through the annotations; those of classes that were not chosen are checked and not counted."""
    renamed, kept = dict(choice.renames), set(found.class_names)
    listed = {str(entry.get("id")) for entry in data["images"] if isinstance(entry, dict)}
    seen: set[Any] = set()
    before = len(data["images"])
    for place, entry in enumerate(data["annotations"], start=1):
        if place % 256 == 0 or place == len(data["annotations"]):
            progress(before + place, before + len(data["annotations"]))
        if not isinstance(entry, dict):
            found.faults.append(Fault(file, f"the annotation at place {place}", "is no object", "remove it"))
            continue
        at = _place(entry, place, file)
        fault = _entry_fault(entry, names, listed, sizes, seen)
        if isinstance(entry.get("id"), int | str):
            seen.add(entry["id"])
        if fault is not None:
            found.faults.append(Fault(*at, *fault))
            continue
        picture = sizes.get(str(entry["image_id"]))
        if picture is None:
            continue  # the picture has its own fault, and says nothing of the mask's size
        name, size = picture
        fault = mask_fault(entry.get("segmentation"), size)
        extent = measure_mask(entry["segmentation"], size) if fault is None else None
        if extent is None or not extent.area:
            found.faults.append(Fault(*at, *(fault or ("covers no pixel", "draw it again, or remove it"))))
        elif (label := renamed.get(names[entry["category_id"]], names[entry["category_id"]])) not in kept:
            continue
        elif entry.get("iscrowd"):
            found.crowds += 1
        else:
            found.objects.append((label, name, size, extent, at[1] if at[0] == file else ": ".join(at)))


def _place(entry: dict[str, Any], place: int, file: str) -> tuple[str, str]:
    """Return the file an annotation is in and its place there."""
    if "source" in entry:
        own, _, where = str(entry["source"]).rpartition(": ")
        return own, where
    number = entry.get("id")
    return file, f"annotation {number}" if isinstance(number, int | str) else f"the annotation at place {place}"


def _entry_fault(
    entry: dict[str, Any],
    names: dict[int, str],
    listed: set[str],
    sizes: dict[str, tuple[str, tuple[int, int]]],
    seen: set[Any],
) -> tuple[str, str] | None:
    """Return what is wrong with an annotation besides its mask, and the cure."""
    number, picture, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
    if number is not None and not isinstance(number, int | str):
        return f"has the id {str(number)[:60]}", "give it a number"
    if number is not None and number in seen:
        return "has the id of another", "give each annotation its own id"
    if not isinstance(picture, int | str) or str(picture) not in listed:
        return f"is of picture {str(picture)[:60]}, which is not listed", "list the picture, or remove it"
    if not isinstance(category, int) or category not in names:
        there = ", ".join(str(number) for number in list(names)[:20])
        return f"is of category {str(category)[:60]}, which is not listed", f"use one of {there or 'those you list'}"
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"has the crowd flag {str(entry['iscrowd'])[:60]}", "write 0 or 1"
    for key in ("area", "bbox"):
        values = entry.get(key, 0)
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(v, int | float) and math.isfinite(v) and (key == "bbox" or v >= 0) for v in values):
            return f"has the {key} {str(entry[key])[:60]}", "write finite numbers, or leave it out"
    return None
