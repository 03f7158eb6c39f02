"""COCO mask AP of anything that segments, by pycocotools, in points of 100."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, require
from solov2_edge.runtime.annotation_sets import open_annotations
from solov2_edge.runtime.annotations import category_ids, read_picture_of
from solov2_edge.runtime.class_choice import ClassChoice
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.matches import Matches, read_matches
from solov2_edge.runtime.measured import measured

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Evaluation", "evaluate"]

_IOU_50, _IOU_75 = 0, 5  # indices into pycocotools' IoU thresholds 0.5, 0.55, ..., 0.95
_AREAS = ("all", "small", "medium", "large")  # pycocotools' order; bounds 32^2 and 96^2 pixels of the picture
_UNDEFINED = -1.0  # COCO's own mark for an AP over no objects


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        ap: mask AP over IoU 0.50:0.05:0.95, in points of 100, averaged over every category that has an object in the
            evaluated pictures.
        ap50: AP at IoU 0.5.
        ap75: AP at IoU 0.75.
        ap_small, ap_medium, ap_large: AP of objects below 32^2, up to 96^2 and above, in pixels of the picture;
            -1 where there is no such object.
        pictures: pictures evaluated.
        instances: annotated objects in them, crowds not counted.
        detections: instances segmented in them.
        max_detections: best detections of a picture and category that count.
        matches: which detections were right, for :mod:`solov2_edge.runtime.bootstrap`.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    pictures: int
    instances: int
    detections: int
    max_detections: int
    matches: Matches = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready plain data."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "matches"}


def evaluate(
    segment: Callable[[NDArray[np.uint8]], Instances],
    annotations: str | PathLike[str],
    images: str | PathLike[str] | None = None,
    *,
    choice: ClassChoice | None = None,
    max_detections: int = 100,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Segment annotated pictures and return the COCO mask AP.

    Classes meet by name, spaces and underscores equal. A category of the file that the model does not know counts
    with AP 0 as soon as it has an object; a class of the model that the file does not know is ignored.

    pycocotools' own summary reads AP at exactly 100 detections; here all figures come from its precision table at
    ``max_detections``, so a dense picture can be judged at more. The segmenter must return that many
    (``max_instances``), and with the default both are the same.

    Args:
        segment: BGR uint8 (H, W, 3) -> Instances; a Segmenter or the reference.
        annotations: COCO instances (JSON), a LabelMe folder or YOLO labels; see :mod:`annotation_sets`.
        images: folder that holds the pictures, by their ``file_name``; default: where the annotations say.
        choice: classes to rename, merge or keep; names the annotations lack are passed over.
        max_detections: best detections of a picture and category that count.
        limit: evaluate the first so many pictures of the file only.
        progress: called with (pictures done, pictures in all) after each picture.

    Raises:
        MissingDependencyError: pycocotools is not installed.
        InputError: the annotations cannot be read, a picture is missing or of another size than annotated, no object is
            annotated, or model and file share no class.
    """
    if importlib.util.find_spec("pycocotools") is None:  # before minutes of segmenting
        raise MissingDependencyError("pycocotools", "eval", "computing COCO mask AP")
    require(max_detections >= 1, f"max_detections must be at least 1, got {max_detections!r}")
    require(limit is None or limit >= 1, f"limit must be at least 1 picture, got {limit!r}")

    found = open_annotations(annotations, images)
    truth = found.data if choice is None else choice.apply(found.data, str(annotations), strict=False)
    pictures = truth["images"][:limit]
    chosen = {picture["id"] for picture in pictures}
    objects = sum(1 for a in truth["annotations"] if a["image_id"] in chosen and not a.get("iscrowd"))
    require(objects > 0, f"{annotations} annotates no object in the {len(pictures)} pictures to evaluate; AP needs one")

    results: list[dict[str, Any]] = []
    detections = 0
    sizes: dict[Any, tuple[int, ...]] = {}
    for done, picture in enumerate(pictures, start=1):
        frame = read_picture_of(found.images, picture)
        sizes[picture["id"]] = frame.shape[:2]
        instances = segment(frame)
        ids = category_ids(instances.class_names, truth["categories"], annotations)
        detections += len(instances)
        known = instances[np.array([ids[label] is not None for label in instances.labels], np.bool_)]
        results += known.to_coco(picture["id"], [-1 if i is None else i for i in ids])
        if progress is not None:
            progress(done, len(pictures))

    truth = measured(truth, sizes, annotations)
    precision, matches = _judge(truth, results, pictures, max_detections, annotations)
    by_area = {name: _mean(precision[:, :, :, index]) for index, name in enumerate(_AREAS)}
    return Evaluation(
        ap=by_area["all"],
        ap50=_mean(precision[_IOU_50, :, :, 0]),
        ap75=_mean(precision[_IOU_75, :, :, 0]),
        ap_small=by_area["small"],
        ap_medium=by_area["medium"],
        ap_large=by_area["large"],
        pictures=len(pictures),
        instances=objects,
        detections=detections,
        max_detections=max_detections,
        matches=matches,
    )


def _judge(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    pictures: list[dict[str, Any]],
    max_detections: int,
    annotations: str | PathLike[str],
) -> tuple[NDArray[np.float64], Matches]:
    """Return pycocotools' precision table, (IoU thresholds, recalls, categories, areas), and what it matched."""
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
            judge = COCOeval(expected, got, "segm")
            judge.params.imgIds = [picture["id"] for picture in pictures]
            judge.params.maxDets = [max_detections]
            judge.evaluate()
            judge.accumulate()
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"{annotations} has an annotation pycocotools cannot read: {error!r}") from error
    params, order = judge.params, np.asarray(judge.params.imgIds).tolist()
    matches = read_matches(judge.evalImgs, order, len(params.areaRng), params.recThrs, len(params.iouThrs))
    return np.asarray(judge.eval["precision"][..., 0]), matches


def _mean(precision: NDArray[np.float64]) -> float:
    """Return the mean over what is defined, in points; pycocotools marks categories without objects with -1."""
    defined = precision[precision > -1]
    return 100 * float(defined.mean()) if defined.size else _UNDEFINED
