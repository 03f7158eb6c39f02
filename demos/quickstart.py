"""The torch-free half of the quickstart: annotated pictures in, what the report shows of them out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.draw import draw_instances
from solov2_edge.demos.image import SHOWN_SCORE, encode_jpeg
from solov2_edge.demos.report_data import PictureFacts
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.rle import decode_rle

__all__ = ["annotated_instances", "network_ms", "picture_facts"]

SHOWN_WIDTH = 900  # pixels a picture is magnified to at least: sharp on a phone's dense screen
REPORT_QUALITY = 86  # JPEG quality of 100; keeps the page below a megabyte


def picture_facts(
    segment: Callable[[NDArray[np.uint8]], Instances],
    timings: Callable[[], dict[str, float]],
    annotations: Path,
    images: Path,
    *,
    repeat: int = 3,
) -> tuple[PictureFacts, ...]:
    """Segment annotated pictures and draw what was found, from :data:`SHOWN_SCORE` on, and what was annotated.

    Args:
        segment: BGR uint8 (H, W, 3) -> Instances.
        timings: called after each run for its stage times in milliseconds.
        annotations: COCO file with RLE masks; an image may carry a ``caption``.
        images: folder of its pictures.
        repeat: runs per picture; stage times are their medians, after one run that does not count.
    """
    document = json.loads(annotations.read_text(encoding="utf-8"))
    facts = []
    for entry in document["images"]:
        frame = read_picture(images / entry["file_name"])
        everything, times = _run(segment, timings, frame, repeat)
        instances = everything[everything.scores >= SHOWN_SCORE]
        truth = annotated_instances(document, entry)
        scale = max(1, -(-SHOWN_WIDTH // frame.shape[1]))
        found = draw_instances(frame, instances, scale=scale, labels=False)
        facts.append(
            PictureFacts(
                name=Path(entry["file_name"]).stem,
                caption=entry.get("caption", entry["file_name"]),
                width=found.shape[1],
                height=found.shape[0],
                picture=encode_jpeg(draw_instances(frame, instances[:0], scale=scale), REPORT_QUALITY),
                found=encode_jpeg(found, REPORT_QUALITY),
                annotated=encode_jpeg(draw_instances(frame, truth, scale=scale, labels=False), REPORT_QUALITY),
                found_count=len(instances),
                annotated_count=len(truth),
                timings=times,
            )
        )
    return tuple(facts)


def _run(
    segment: Callable[[NDArray[np.uint8]], Instances],
    timings: Callable[[], dict[str, float]],
    frame: NDArray[np.uint8],
    repeat: int,
) -> tuple[Instances, dict[str, float]]:
    instances = segment(frame)
    runs = []
    for _ in range(repeat):
        instances = segment(frame)
        runs.append(dict(timings()))
    return instances, {stage: median(run[stage] for run in runs) for stage in runs[0]}


def network_ms(
    segment: Callable[[NDArray[np.uint8]], Instances],
    timings: Callable[[], dict[str, float]],
    picture: Path,
    *,
    repeat: int = 3,
) -> float:
    """Return the median milliseconds of the network on one picture, after one run that does not count."""
    return _run(segment, timings, read_picture(picture), repeat)[1]["network"]


def annotated_instances(document: dict[str, Any], entry: dict[str, Any]) -> Instances:
    """Return what people annotated in one picture of a COCO document with RLE masks, each with score 1."""
    categories = [category["id"] for category in document["categories"]]
    names = [category["name"] for category in document["categories"]]
    own = [a for a in document["annotations"] if a["image_id"] == entry["id"] and not a.get("iscrowd")]
    if not own:
        return Instances.empty(entry["height"], entry["width"], names)
    masks = np.stack([decode_rle(annotation["segmentation"]) for annotation in own])
    labels = [categories.index(annotation["category_id"]) for annotation in own]
    return Instances.from_masks(masks, np.ones(len(own), np.float32), labels, names)
