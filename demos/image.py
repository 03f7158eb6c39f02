"""Pictures in; overlays, one COCO file, LabelMe documents and panoptic maps out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.coco_classes import COCO_CATEGORY_IDS, COCO_CLASSES
from solov2_edge.demos.draw import draw_instances
from solov2_edge.demos.draw_panoptic import draw_panoptic
from solov2_edge.demos.panoptic_files import PANOPTIC_FILE, PanopticFiles
from solov2_edge.errors import InputError, SolovEdgeError, require
from solov2_edge.files import write_aside
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic import Panoptic
from solov2_edge.runtime.panoptic_annotations import encode_ids
from solov2_edge.runtime.pictures import list_pictures, read_picture

__all__ = [
    "SHOWN_SCORE",
    "Outputs",
    "SegmentedPicture",
    "encode_jpeg",
    "encode_png",
    "expand_pictures",
    "segment_pictures",
]

COCO_FILE = "instances.json"
SHOWN_SCORE = 0.3  # what people are shown starts here, as in mmdetection's demos; AP wants the faint ones too
JPEG_QUALITY = 92  # of 100: no ringing around outlines, a fifth of PNG's size


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to write for each picture.

    Attributes:
        overlay: ``<picture>.overlay.jpg``, or ``.png`` for a lossless source.
        labelme: ``<picture>.json``, a LabelMe document.
        coco: one ``instances.json`` for all pictures, in COCO's annotation form with a score each.
        labels: tags on the overlays.
        scale: magnify overlays by this whole number.
        shown_score: least score drawn and put into LabelMe documents, in [0, 1]; the COCO file keeps every instance.
        panoptic: in COCO's panoptic form: ``panoptic.json`` for all pictures and a PNG of segment ids for each in the
            folder ``panoptic``; and ``<picture>.panoptic.jpg`` or ``.png`` to look at, where there are overlays.
    """

    overlay: bool = True
    labelme: bool = True
    coco: bool = True
    labels: bool = True
    scale: int = 1
    shown_score: float = SHOWN_SCORE
    panoptic: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.shown_score <= 1, f"shown_score must lie between 0 and 1, got {self.shown_score!r}")


@dataclass(frozen=True, slots=True)
class SegmentedPicture:
    """What became of one picture.

    Attributes:
        path: the picture.
        error: why it could not be segmented, in one sentence; empty if it was.
        height: H in pixels; 0 with an error.
        width: W in pixels; 0 with an error.
        instances: number of instances found.
        shown: those of them that people are shown.
        timings: milliseconds of ``preprocess``, ``network`` and ``decode``.
        files: what was written for it.
    """

    path: Path
    error: str = ""
    height: int = 0
    width: int = 0
    instances: int = 0
    shown: int = 0
    timings: dict[str, float] | None = None
    files: tuple[Path, ...] = ()


def expand_pictures(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the pictures behind files and folders, in order, each once; a missing one is kept, to be reported.

    Raises:
        InputError: a folder without any picture.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        found.update(dict.fromkeys(list_pictures(path) if path.is_dir() else [path]))
    return list(found)


def encode_jpeg(picture: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Return a BGR uint8 (H, W, 3) picture as JPEG bytes."""
    return _encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a BGR uint8 (H, W, 3) picture as PNG bytes, without loss."""
    return _encode(picture, ".png", [])


def _encode(picture: NDArray[np.uint8], suffix: str, parameters: list[int]) -> bytes:
    try:
        done, data = cv2.imencode(suffix, picture, parameters)
    except cv2.error as error:
        raise SolovEdgeError(f"OpenCV cannot encode a {picture.shape} picture as {suffix}: {error.err}") from error
    if not done:
        raise SolovEdgeError(
            f"OpenCV cannot encode a {picture.shape} picture as {suffix}; try the other overlay format"
        )
    return bytes(data.tobytes())


def segment_pictures(
    segment: Callable[[NDArray[np.uint8]], Instances],
    pictures: Iterable[Path],
    folder: Path,
    outputs: Outputs,
    timings: Callable[[], dict[str, float]] = dict,
    panoptic: Callable[[NDArray[np.uint8]], Panoptic] | None = None,
) -> list[SegmentedPicture]:
    """Segment pictures and write the results; one that cannot be read is reported and the others go on.

    Args:
        segment: BGR uint8 (H, W, 3) -> Instances.
        pictures: files; two of the same name get different output names (``cell.json``, ``cell-2.json``).
        folder: existing folder the results go to.
        outputs: what to write.
        timings: called after each picture for its stage times.
        panoptic: BGR uint8 (H, W, 3) -> Panoptic, called in place of ``segment`` where panoptic maps are to be written.

    Returns:
        One entry per picture, in order.
    """
    names = _Names()
    done: list[SegmentedPicture] = []
    coco, maps = _CocoFile(), PanopticFiles(folder)
    for path in pictures:
        try:
            frame = read_picture(path)
        except InputError as error:
            done.append(SegmentedPicture(path, str(error)))
            continue
        found = panoptic(frame) if outputs.panoptic and panoptic is not None else None
        instances = segment(frame) if found is None else found.instances
        times = dict(timings())
        shown = instances[instances.scores >= outputs.shown_score]
        name = names.take(path)
        files = _write(path, frame, shown, folder, name, outputs)
        if found is not None:
            files += (write_aside(maps.add(name, _relative(path, folder), found), encode_png(encode_ids(found.ids))),)
            if outputs.overlay:
                drawn = draw_panoptic(frame, found, labels=outputs.labels, scale=outputs.scale)
                files += (_write_overlay(path, folder, f"{name}.panoptic", drawn),)
        coco.add(path, folder, instances)
        height, width = instances.frame_shape
        done.append(SegmentedPicture(path, "", height, width, len(instances), len(shown), times, files))
    if outputs.coco and any(not picture.error for picture in done):
        write_aside(folder / COCO_FILE, json.dumps(coco.document()))
    if maps.document is not None:
        write_aside(folder / PANOPTIC_FILE, json.dumps(maps.document))
    return done


def _write(
    path: Path, frame: NDArray[np.uint8], instances: Instances, folder: Path, name: str, outputs: Outputs
) -> tuple[Path, ...]:
    files = []
    if outputs.overlay:
        overlay = draw_instances(frame, instances, labels=outputs.labels, scale=outputs.scale)
        files.append(_write_overlay(path, folder, f"{name}.overlay", overlay))
    if outputs.labelme:
        document = instances.to_labelme(_relative(path, folder))
        files.append(write_aside(folder / f"{name}.json", json.dumps(document, indent=1)))
    return tuple(files)


def _write_overlay(path: Path, folder: Path, stem: str, overlay: NDArray[np.uint8]) -> Path:
    """Write a drawn picture as its source ``path`` was stored: lossy or not."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return write_aside(folder / f"{stem}.jpg", encode_jpeg(overlay))
    return write_aside(folder / f"{stem}.png", encode_png(overlay))


def _relative(path: Path, folder: Path) -> str:
    """Return how a file in ``folder`` refers to ``path``; absolute where no relative way exists (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.resolve().as_posix()


class _Names:
    """Output names, each given once whatever the file system thinks of upper and lower case."""

    def __init__(self) -> None:
        self._taken = {Path(COCO_FILE).stem, Path(PANOPTIC_FILE).stem}

    def take(self, path: Path) -> str:
        name, number = path.stem, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{path.stem}-{number}"
        self._taken.add(name.lower())
        return name


class _CocoFile:
    """Gathers one COCO annotation document; every annotation also carries a score, so that it serves as results."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._class_names: tuple[str, ...] = ()

    def add(self, path: Path, folder: Path, instances: Instances) -> None:
        image_id = len(self._images) + 1
        height, width = instances.frame_shape
        self._images.append({"id": image_id, "file_name": _relative(path, folder), "height": height, "width": width})
        first = len(self._annotations) + 1
        self._annotations += [
            {**entry, "id": first + index, "iscrowd": 0} for index, entry in enumerate(instances.to_coco(image_id))
        ]
        self._class_names = instances.class_names

    def document(self) -> dict[str, Any]:
        names = self._class_names
        ids = COCO_CATEGORY_IDS if names == COCO_CLASSES else range(1, len(names) + 1)
        categories = [{"id": category, "name": name} for category, name in zip(ids, names, strict=True)]
        return {"images": self._images, "categories": categories, "annotations": self._annotations}
