"""Annotations in any of the forms people have them in, all brought to COCO instances: which one is seen, not asked.

A COCO json is a file (or the only json of a folder); LabelMe is a folder of documents; YOLO is a ``data.yaml`` or a
folder of labels whose classes are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.annotation_faults import Report, refuse
from solov2_edge.runtime.annotations import read_annotations
from solov2_edge.runtime.labelme_files import labelme_files, read_labelme
from solov2_edge.runtime.yolo_files import find_class_list, read_yolo
from solov2_edge.runtime.yolo_names import NAME_LISTS, find_yaml

__all__ = ["AnnotationSet", "Located", "locate", "open_annotations", "read_located"]

COCO, LABELME, YOLO = "COCO json", "LabelMe", "YOLO"


@dataclass(frozen=True, slots=True)
class Located:
    """Annotations whose form is known.

    Attributes:
        form: ``"COCO json"``, ``"LabelMe"`` or ``"YOLO"``.
        path: the json, the folder, or the ``data.yaml``.
        images: folder of the pictures as given, or None: then the form says where they are.
    """

    form: str
    path: Path
    images: Path | None


@dataclass(frozen=True, slots=True)
class AnnotationSet:
    """Annotations that were read.

    Attributes:
        form: what they were read from, see :class:`Located`.
        data: ``images``, ``categories`` and ``annotations`` of COCO instances: JSON-ready, so that writing it converts
            any form to COCO json. Pictures and objects of the other forms hold their ``source``.
        images: folder that every ``file_name`` is relative to.
    """

    form: str
    data: dict[str, Any]
    images: Path


def locate(path: str | PathLike[str], images: str | PathLike[str] | None = None) -> Located:
    """Tell the form of annotations.

    Raises:
        InputError: nothing is there, or nothing that is known; a folder of two forms is refused.
    """
    place, folder = Path(path), None if images is None else Path(images)
    if not place.is_dir():
        return Located(YOLO if place.suffix.lower() in (".yaml", ".yml") else COCO, place, folder)
    documents = labelme_files(place)
    shapes = any('"shapes"' in _text(document) for document in documents)
    labels = find_yaml(place) is not None or _has_labels(place)
    require(
        not (shapes and labels),
        f"{place} holds LabelMe documents and YOLO labels; give a folder of one of them",
    )
    if shapes:
        return Located(LABELME, place, folder)
    if labels or find_class_list(place) is not None:
        return Located(YOLO, place, folder)
    if len(documents) == 1:
        return Located(COCO, documents[0], folder)
    raise InputError(
        f"{place} holds no annotations; expected LabelMe documents, YOLO labels with a data.yaml or classes.txt, or "
        "the path of a COCO json"
    )


def read_located(located: Located, *, split: str, report: Report = refuse) -> AnnotationSet:
    """Read what :func:`locate` found, COCO as evaluation needs it.

    Args:
        located: what and where.
        split: ``"train"`` or ``"val"``, where a YOLO data set has both.
        report: told of every fault of LabelMe and YOLO files; by default the first is refused.

    Raises:
        InputError: the annotations cannot be read.
    """
    if located.form == COCO:
        data, images = read_annotations(located.path), located.images or located.path.parent
    elif located.form == LABELME:
        data, images = read_labelme(located.path, located.images, report), located.images or located.path
    else:
        data, images = read_yolo(located.path, located.images, split, report)
    return AnnotationSet(located.form, data, images)


def open_annotations(
    path: str | PathLike[str], images: str | PathLike[str] | None = None, *, split: str = "val"
) -> AnnotationSet:
    """Locate and read annotations; see :func:`locate` and :func:`read_located`."""
    return read_located(locate(path, images), split=split)


def _has_labels(folder: Path) -> bool:
    """Return whether a text file below begins like YOLO labels: numbers, five or more."""
    for path in folder.rglob("*.txt"):
        words = [] if path.name in NAME_LISTS else _text(path).lstrip()[:200].split("\n", 1)[0].split()
        try:
            if len([float(word) for word in words]) >= 5:
                return True
        except ValueError:
            continue
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return ""
