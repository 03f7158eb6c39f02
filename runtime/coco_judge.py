"""pycocotools' matching and precision, by masks or by boxes, with what other protocols change in between."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.matches import Matches, read_matches

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Figures", "judge", "mean_precision"]

_IOU_50, _IOU_75 = 0, 5  # indices into pycocotools' IoU thresholds 0.5, 0.55, ..., 0.95
_UNDEFINED = -1.0  # COCO's own mark for an AP over no objects


@dataclass(frozen=True, slots=True)
class Figures:
    """COCO's figures of AP, in points of 100; -1 where there is no such object.

    Attributes:
        ap: AP over IoU 0.50:0.05:0.95, averaged over every category with an object.
        ap50: AP at IoU 0.5.
        ap75: AP at IoU 0.75.
        ap_small, ap_medium, ap_large: AP of objects below 32^2, up to 96^2 and above, in pixels of the picture.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float

    @classmethod
    def of(cls, precision: NDArray[np.float64]) -> Figures:
        """Read the figures off a precision table (IoU thresholds, recalls, categories, areas)."""
        return cls(
            mean_precision(precision[..., 0]),
            mean_precision(precision[_IOU_50, ..., 0]),
            mean_precision(precision[_IOU_75, ..., 0]),
            *(mean_precision(precision[..., area]) for area in (1, 2, 3)),
        )

    def to_dict(self) -> dict[str, float]:
        """Return the figures as JSON-ready plain data."""
        return asdict(self)


def judge(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    pictures: list[dict[str, Any]],
    max_detections: int,
    annotations: str | PathLike[str],
    *,
    kind: str = "segm",
    categories: Iterable[int] | None = None,
    amend: Callable[[list[dict[str, Any] | None]], None] | None = None,
) -> tuple[NDArray[np.float64], Matches]:
    """Match detections with annotations and return precision.

    Args:
        truth: ``images``, ``categories`` and ``annotations``, whole.
        results: COCO result entries with ``area``.
        pictures: entries of ``images`` to evaluate.
        max_detections: best detections of a picture and category that count.
        annotations: their file, for the message.
        kind: ``"segm"`` or ``"bbox"``.
        categories: ids to evaluate, rising; None: all of ``truth``.
        amend: called with pycocotools' matches (``evalImgs``) before precision is computed of them.

    Returns:
        the precision table, (IoU thresholds, recalls, categories, areas), -1 where a category has no objects, and
        what was matched.

    Raises:
        InputError: an annotation that pycocotools cannot read.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        expected, got = COCO(), COCO()
        # pycocotools marks a detection that is right with its object's id, so that an object of id 0 is never found.
        objects = [{**a, "id": i} for i, a in enumerate(truth["annotations"], start=1)]
        expected.dataset = {**truth, "annotations": objects}
        got.dataset = {
            "images": truth["images"],
            "categories": truth["categories"],
            "annotations": [{**r, "id": i, "iscrowd": 0} for i, r in enumerate(results, start=1)],
        }
        try:
            expected.createIndex()
            got.createIndex()
            coco = COCOeval(expected, got, kind)
            coco.params.imgIds = [picture["id"] for picture in pictures]
            coco.params.maxDets = [max_detections]
            if categories is not None:
                coco.params.catIds = list(categories)
            coco.evaluate()
            if amend is not None:
                amend(coco.evalImgs)
            coco.accumulate()
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"{annotations} has an annotation pycocotools cannot read: {error!r}") from error
    params, order = coco.params, np.asarray(coco.params.imgIds).tolist()
    matches = read_matches(coco.evalImgs, order, len(params.areaRng), params.recThrs, len(params.iouThrs))
    return np.asarray(coco.eval["precision"][..., 0]), matches


def mean_precision(precision: NDArray[np.float64]) -> float:
    """Return the mean over what is defined, in points; pycocotools marks categories without objects with -1."""
    defined = precision[precision > -1]
    return 100 * float(defined.mean()) if defined.size else _UNDEFINED
