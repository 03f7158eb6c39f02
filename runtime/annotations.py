"""COCO annotation files, checked before anyone relies on them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.lvis_protocol import with_names
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.rle import rle_runs

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["category_ids", "is_segmentation", "read_annotated", "read_annotations", "read_picture_of"]

MAX_COORDINATE = 1e6  # pixels; pycocotools draws every pixel of an outline

_FIELDS: dict[str, dict[str, Any]] = {
    "images": {"id": int | str, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {
        "id": int,
        "image_id": int | str,
        "category_id": int,
        "segmentation": list | dict,
    },
}


def read_annotations(path: Path) -> dict[str, Any]:
    """Return the lists ``images``, ``categories`` and ``annotations`` of a COCO instances file.

    Raises:
        InputError: the file cannot be read, is not JSON, or lacks what evaluation needs.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the annotations {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); give a COCO instances file") from error
    if isinstance(data, dict):
        data["images"] = with_names(data.get("images"))
    for key, types in _FIELDS.items():
        entries = data.get(key) if isinstance(data, dict) else None
        good = isinstance(entries, list) and all(
            isinstance(e, dict) and all(isinstance(e.get(field), kind) for field, kind in types.items())
            for e in entries
        )
        require(good, f"{path} must be COCO instances with a list {key!r} of objects holding {', '.join(types)}")
    broken = next((a for a in data["annotations"] if not is_segmentation(a["segmentation"])), None)
    if broken is not None:
        raise InputError(
            f"{path}: annotation {broken['id']} must have polygons of at least 3 points or an RLE with size and counts "
            f"as its segmentation, got {str(broken['segmentation'])[:60]}"
        )
    sizes = {picture["id"]: [picture.get("height"), picture.get("width")] for picture in data["images"]}
    for annotation in data["annotations"]:
        mask, size = annotation["segmentation"], sizes.get(annotation["image_id"], [None, None])
        require(
            isinstance(mask, list) or None in size or list(mask["size"]) == size,
            f"{path}: annotation {annotation['id']} has an RLE of another size than its picture's {size}; mend it",
        )
    areas = (annotation.get("area", 0) for annotation in data["annotations"])
    good = all(isinstance(area, float | int) and 0 <= area < math.inf for area in areas)
    require(good, f"{path}: an area must be 0 or more pixels; mend it, or leave it out")
    for key in _FIELDS:
        _require_unique(data[key], key, path)
    # Some hand-made files leave iscrowd out; pycocotools insists on it.
    crowds = [{"iscrowd": 0, **annotation} for annotation in data["annotations"]]
    return {"images": data["images"], "categories": data["categories"], "annotations": crowds}


def is_segmentation(value: Any) -> bool:
    """Return whether a ``segmentation`` can be drawn: polygons of finite points, or an RLE that adds up.

    pycocotools checks neither: it loops without an end on some runs, and reads beyond them on others.
    """
    if isinstance(value, dict):
        try:
            rle_runs(value)
        except InputError:
            return False
        return True
    return isinstance(value, list) and bool(value) and all(map(_is_polygon, value))


def _is_polygon(points: Any) -> bool:
    good = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return good and all(isinstance(n, int | float) and -MAX_COORDINATE < n < MAX_COORDINATE for n in points)


def _require_unique(entries: list[dict[str, Any]], what: str, path: Path) -> None:
    seen: set[Any] = set()
    for entry in entries:
        require(entry["id"] not in seen, f"{path}: two {what} have the id {entry['id']!r}; give each its own")
        seen.add(entry["id"])


def read_picture_of(folder: Path, picture: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the picture of an entry of ``images`` as BGR uint8 (H, W, 3).

    Raises:
        InputError: it is missing, unreadable, or of another size than annotated, which its masks rely on.
    """
    path = folder / picture["file_name"]
    if "coco_url" in picture and not path.is_file():  # LVIS is of two splits of COCO; the folder may be one of them
        path = folder / path.name
    require(path.is_file(), f"the annotations name a picture that is not there: {path}")
    frame = read_annotated(path)
    given = picture.get("height"), picture.get("width")
    height, width = frame.shape[:2] if given == (None, None) else given
    require(
        frame.shape[:2] == (height, width),
        f"{path} is {frame.shape[0]} x {frame.shape[1]} pixels but annotated as {height} x {width}; "
        "annotations and picture do not belong together",
    )
    return frame


def read_annotated(path: Path) -> NDArray[np.uint8]:
    """Return an annotated picture as BGR uint8 (H, W, 3): the file, or the one a LabelMe document carries.

    Raises:
        InputError: it cannot be read.
    """
    if path.suffix.lower() == ".json":
        from solov2_edge.runtime.labelme_files import embedded_picture

        return embedded_picture(path)
    return read_picture(path)


def category_ids(
    class_names: Sequence[str], categories: list[dict[str, Any]], annotations: str | PathLike[str]
) -> list[int | None]:
    """Return the file's category id per class of the model, None where the file lacks the class.

    Names meet with spaces and underscores equal.

    Args:
        class_names: the model's classes.
        categories: the file's ``categories``.
        annotations: the file, for the message.

    Raises:
        InputError: the file has none of the classes; the message shows both sides.
    """
    ids = {_key(category["name"]): category["id"] for category in categories}
    found = [ids.get(_key(name)) for name in class_names]
    if all(i is None for i in found):
        raise InputError(
            f"none of the model's classes ({_list(class_names)}) is a category of {annotations} "
            f"({_list([str(category['name']) for category in categories])}); rename the categories or take another file"
        )
    return found


def _key(name: str) -> str:
    return str(name).replace("_", " ").strip()


def _list(names: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
