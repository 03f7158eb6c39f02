"""COCO and LVIS mask AP of anything that segments, and its box AP, by pycocotools, in points of 100."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import MissingDependencyError, require
from solov2_edge.runtime.annotation_sets import open_annotations
from solov2_edge.runtime.annotations import category_ids, read_picture_of
from solov2_edge.runtime.box_evaluation import box_results, box_truth
from solov2_edge.runtime.class_choice import ClassChoice
from solov2_edge.runtime.coco_judge import Figures, judge
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.lvis_protocol import check_lvis, frequency_ap, ignore_unmatched, searched
from solov2_edge.runtime.matches import Matches
from solov2_edge.runtime.measured import measured

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Evaluation", "evaluate"]

PROTOCOLS = ("coco", "lvis")
_OPTIONAL = ("boxes", "frequencies")


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
        max_detections: best detections of a picture and category that count; of a picture alone under LVIS.
        boxes: the figures of the masks' boxes judged as detection, if asked for.
        frequencies: ``ap_rare``, ``ap_common`` and ``ap_frequent`` under LVIS, else None.
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
    boxes: Figures | None = None
    frequencies: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready plain data."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "matches"}
        for name in _OPTIONAL:
            if plain[name] is None:
                del plain[name]
        return plain | ({} if self.boxes is None else {"boxes": self.boxes.to_dict()})


def evaluate(
    segment: Callable[[NDArray[np.uint8]], Instances],
    annotations: str | PathLike[str],
    images: str | PathLike[str] | None = None,
    *,
    choice: ClassChoice | None = None,
    max_detections: int = 100,
    limit: int | None = None,
    boxes: bool = False,
    protocol: str = "coco",
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
        max_detections: best detections of a picture and category that count; under LVIS of a picture alone, there 300
            is usual.
        limit: evaluate the first so many pictures of the file only.
        boxes: whether to judge the boxes of the masks too.
        protocol: ``"coco"`` or ``"lvis"``, see :mod:`solov2_edge.runtime.lvis_protocol`.
        progress: called with (pictures done, pictures in all) after each picture.

    Raises:
        MissingDependencyError: pycocotools is not installed.
        InputError: the annotations cannot be read, a picture is missing or of another size than annotated, no object is
            annotated, or model and file share no class.
    """
    if importlib.util.find_spec("pycocotools") is None:  # before minutes of segmenting
        raise MissingDependencyError("pycocotools", "eval", "computing COCO mask AP")
    require(max_detections >= 1, f"max_detections must be at least 1, got {max_detections!r}")
    require(protocol in PROTOCOLS, f"the protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    require(limit is None or limit >= 1, f"limit must be at least 1 picture, got {limit!r}")

    found = open_annotations(annotations, images)
    truth = found.data if choice is None else choice.apply(found.data, str(annotations), strict=False)
    lvis = protocol == "lvis"
    if lvis:
        require(not choice, "LVIS lists the categories of each picture by id; leave the choice of classes out")
        check_lvis(truth, annotations)
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
    categories, amend = None, None
    if lvis:
        results = searched(results, truth, pictures, max_detections)
        # AP of a category without objects is undefined, and there are a thousand of them.
        categories = sorted({a["category_id"] for a in truth["annotations"] if a["image_id"] in chosen})
        amend = partial(ignore_unmatched, pictures=pictures)
    terms = partial(judge, pictures=pictures, max_detections=max_detections, annotations=annotations)
    precision, matches = terms(truth, results, categories=categories, amend=amend)
    figures, box_figures = Figures.of(precision), None
    if boxes:
        boxed = box_truth(truth, sizes, annotations)
        box_precision, _ = terms(boxed, box_results(results), kind="bbox", categories=categories, amend=amend)
        box_figures = Figures.of(box_precision)
    return Evaluation(
        **figures.to_dict(),
        pictures=len(pictures),
        instances=objects,
        detections=detections,
        max_detections=max_detections,
        matches=matches,
        boxes=box_figures,
        frequencies=frequency_ap(precision, categories, truth["categories"], annotations) if categories else None,
    )
