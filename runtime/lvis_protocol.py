"""The LVIS protocol: thousands of categories, of which each picture is annotated with some (Gupta et al., CVPR 2019).

A picture says which categories it was searched for: those of its objects, those it certainly lacks
(``neg_category_ids``), and among them those of which not every object is annotated
(``not_exhaustive_category_ids``). Matching and precision are COCO's, which LVIS took over, on these terms: detections
of a category the picture was not searched for do not count, nor does one that matches nothing where annotation was
not exhaustive, and the best 300 detections of a picture count over all categories together. AP is also told over rare,
common and frequent categories: with objects in up to 10, up to 100 and more training pictures.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.coco_judge import mean_precision

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["FREQUENCIES", "MAX_DETECTIONS", "check_lvis", "frequency_ap", "ignore_unmatched", "searched", "with_names"]

MAX_DETECTIONS = 300  # of a picture, over all categories
FREQUENCIES = {"r": "ap_rare", "c": "ap_common", "f": "ap_frequent"}
_RARE, _COMMON = 10, 100  # training pictures a rare and a common category is in at most
_NEGATIVE, _UNEXHAUSTED = "neg_category_ids", "not_exhaustive_category_ids"


def with_names(images: Any) -> Any:
    """Return entries of ``images`` that name their file: LVIS gives ``coco_url``, whose last two parts say it."""
    if not isinstance(images, list):
        return images
    return [
        {**entry, "file_name": "/".join(entry["coco_url"].split("/")[-2:])}
        if isinstance(entry, dict) and "file_name" not in entry and isinstance(entry.get("coco_url"), str)
        else entry
        for entry in images
    ]


def check_lvis(truth: dict[str, Any], annotations: str | PathLike[str]) -> None:
    """Refuse annotations that do not say what the protocol asks.

    Raises:
        InputError: a picture without lists of categories, or a category without its frequency.
    """
    for entry in truth["images"]:
        for name in (_NEGATIVE, _UNEXHAUSTED):
            value = entry.get(name)
            require(
                isinstance(value, list) and all(isinstance(i, int) for i in value),
                f"{annotations}: LVIS lists {name} of every picture, and {entry['id']!r} has none; "
                "evaluate these annotations with --protocol coco",
            )
    for category in truth["categories"]:
        _frequency(category, annotations)


def searched(
    results: list[dict[str, Any]], truth: dict[str, Any], pictures: list[dict[str, Any]], max_detections: int
) -> list[dict[str, Any]]:
    """Return the detections that count: a picture's best ones, of categories it was searched for."""
    known = {picture["id"]: set(picture[_NEGATIVE]) for picture in pictures}
    for annotation in truth["annotations"]:
        if annotation["image_id"] in known:
            known[annotation["image_id"]].add(annotation["category_id"])
    per_picture: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        per_picture[result["image_id"]].append(result)
    return [
        result
        for identity, found in per_picture.items()
        for result in sorted(found, key=lambda entry: -entry["score"])[:max_detections]
        if result["category_id"] in known[identity]
    ]


def ignore_unmatched(matched: list[dict[str, Any] | None], pictures: list[dict[str, Any]]) -> None:
    """Take unmatched detections of not exhaustively annotated categories out of pycocotools' ``evalImgs``, in place."""
    unexhausted = {picture["id"]: set(picture[_UNEXHAUSTED]) for picture in pictures}
    for entry in matched:
        if entry is not None and entry["category_id"] in unexhausted[entry["image_id"]]:
            unmatched = np.asarray(entry["dtMatches"]) == 0
            entry["dtIgnore"] = np.logical_or(entry["dtIgnore"], unmatched)


def frequency_ap(
    precision: NDArray[np.float64], ids: list[int], categories: list[dict[str, Any]], annotations: str | PathLike[str]
) -> dict[str, float]:
    """Return AP in points of 100 over rare, common and frequent categories; -1 where none of them has an object.

    Args:
        precision: (IoU thresholds, recalls, categories, areas).
        ids: the categories of its third axis.
        categories: the file's ``categories``.
        annotations: the file, for the message.
    """
    kinds = {category["id"]: _frequency(category, annotations) for category in categories}
    of_ids = np.array([kinds[i] for i in ids])
    return {name: mean_precision(precision[:, :, of_ids == kind, 0]) for kind, name in FREQUENCIES.items()}


def _frequency(category: dict[str, Any], annotations: str | PathLike[str]) -> str:
    kind, count = category.get("frequency"), category.get("image_count")
    if kind in FREQUENCIES:
        return str(kind)
    if kind is None and isinstance(count, int):
        return "r" if count <= _RARE else "c" if count <= _COMMON else "f"
    raise InputError(
        f"{annotations}: the category {category['name']!r} must have a frequency of r, c or f, or an image_count, got "
        f"{kind!r}; evaluate these annotations with --protocol coco"
    )
