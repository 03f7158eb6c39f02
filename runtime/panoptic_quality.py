"""Panoptic quality of anything that makes panoptic maps, by hotcoco, in points of 100.

PQ = SQ x RQ: the mean IoU of matched segments times the F1 of matching, where segments of one category match if their
IoU is above 0.5 (Kirillov et al., Panoptic Segmentation, CVPR 2019, equation 1); averaged over categories. hotcoco has
the rules and the numbers of COCO's panopticapi, which is on no package index.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, require
from solov2_edge.runtime.annotations import read_picture_of
from solov2_edge.runtime.panoptic import Panoptic
from solov2_edge.runtime.panoptic_annotations import PanopticAnnotations, encode_ids, read_panoptic, read_segment_ids
from solov2_edge.runtime.panoptic_coco import panoptic_annotation

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["PanopticQuality", "Quality", "panoptic_quality"]


@dataclass(frozen=True, slots=True)
class Quality:
    """PQ, SQ and RQ in points of 100, averaged over ``categories``; all 0 where that is none."""

    pq: float
    sq: float
    rq: float
    categories: int


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """What one evaluation found.

    Attributes:
        all, things, stuff: over every category with a segment in the truth or in the prediction, and over its kinds.
        by_name: category name -> its PQ, SQ and RQ in points of 100, and matched (``tp``), wrong (``fp``) and missed
            (``fn``) segments.
        pictures: pictures evaluated.
    """

    all: Quality
    things: Quality
    stuff: Quality
    by_name: dict[str, dict[str, float]]
    pictures: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready plain data."""
        return asdict(self)


def panoptic_quality(
    panoptic: Callable[[NDArray[np.uint8]], Panoptic],
    annotations: str | PathLike[str],
    pngs: str | PathLike[str],
    images: str | PathLike[str],
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PanopticQuality:
    """Segment the pictures of a COCO panoptic file and return their panoptic quality.

    Categories meet by name and kind, spaces and underscores equal. Segments of a label the file lacks count as void.

    Args:
        panoptic: BGR uint8 (H, W, 3) -> Panoptic; ``panoptic`` of a Segmenter or of the reference.
        annotations: COCO panoptic JSON.
        pngs: folder of its PNGs of segment ids.
        images: folder of the pictures, by the file's ``file_name``.
        limit: evaluate the first so many pictures only.
        progress: called with (pictures done, pictures in all) after each picture.

    Raises:
        MissingDependencyError: hotcoco is not installed.
        InputError: the file is not COCO panoptic, a picture or PNG is missing or of another size than annotated, or
            model and file share no category.
    """
    if importlib.util.find_spec("hotcoco") is None:  # before minutes of segmenting
        raise MissingDependencyError("hotcoco", "eval", "computing panoptic quality")
    require(limit is None or limit >= 1, f"limit must be at least 1 picture, got {limit!r}")
    truth = read_panoptic(annotations)
    pictures = truth.pictures[:limit]
    require(bool(pictures), f"{annotations} annotates no picture; panoptic quality needs one")
    with tempfile.TemporaryDirectory(prefix="solov2-edge-panoptic-") as folder:
        found = []
        for done, (image, annotation) in enumerate(pictures, start=1):
            read_segment_ids(Path(pngs), image, annotation)  # hotcoco would stop without a word on what to mend
            result = panoptic(read_picture_of(Path(images), image))
            ids = _category_ids(result, truth)
            name = f"{done}.png"
            cv2.imwrite(str(Path(folder) / name), encode_ids(_known(result, ids).astype(np.int32)))
            entry = panoptic_annotation(result, image["id"], name, [-1 if i is None else i for i in ids])
            entry["segments_info"] = [info for info in entry["segments_info"] if info["category_id"] >= 0]
            found.append(entry)
            if progress is not None:
                progress(done, len(pictures))
        return _judge(truth, pictures, found, Path(pngs), Path(folder))


def _category_ids(result: Panoptic, truth: PanopticAnnotations) -> list[int | None]:
    """Return the file's category id per label, None where the file lacks it."""
    ids = {(_key(str(c["name"])), bool(c["isthing"])): int(c["id"]) for c in truth.categories}
    things = len(result.instances.class_names)
    found = [ids.get((_key(name), label < things)) for label, name in enumerate(result.names)]
    if all(i is None for i in found):
        raise InputError(
            f"none of the model's things and stuff ({', '.join(result.names[:8])}) is a category of its kind in "
            f"{truth.path}; rename the categories or take another file"
        )
    return found


def _key(name: str) -> str:
    return name.replace("_", " ").strip()


def _known(result: Panoptic, ids: list[int | None]) -> NDArray[np.integer[Any]]:
    """Return the (H, W) id map with segments the file has no category for made void."""
    kept = np.array([0, *(s.id if ids[s.label] is not None else 0 for s in result.segments)])
    return np.asarray(kept[result.ids])


def _judge(
    truth: PanopticAnnotations,
    pictures: tuple[tuple[dict[str, Any], dict[str, Any]], ...],
    found: list[dict[str, Any]],
    pngs: Path,
    folder: Path,
) -> PanopticQuality:
    from hotcoco.panoptic import PanopticEval

    shared = {"images": [image for image, _ in pictures], "categories": list(truth.categories)}
    expected = [annotation for _, annotation in pictures]
    (folder / "truth.json").write_text(json.dumps({**shared, "annotations": expected}), encoding="utf-8")
    (folder / "found.json").write_text(json.dumps({**shared, "annotations": found}), encoding="utf-8")
    try:
        judge = PanopticEval(
            str(folder / "truth.json"), str(folder / "found.json"), gt_folder=str(pngs), pred_folder=str(folder)
        )
        judge.evaluate()
        results = judge.results()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{truth.path} cannot be evaluated: {error}") from error
    names = {int(category["id"]): str(category["name"]) for category in truth.categories}
    by_name = {
        names[int(key)]: {
            **{figure: 100 * float(row[figure]) for figure in ("pq", "sq", "rq")},
            **{count: int(row[count]) for count in ("tp", "fp", "fn")},
        }
        for key, row in results["per_class"].items()
    }
    kinds = [_quality(results[kind]) for kind in ("All", "Things", "Stuff")]
    return PanopticQuality(kinds[0], kinds[1], kinds[2], by_name, len(pictures))


def _quality(row: dict[str, Any]) -> Quality:
    pq, sq, rq = (100 * float(row[figure]) for figure in ("pq", "sq", "rq"))
    return Quality(pq, sq, rq, int(row["n"]))
