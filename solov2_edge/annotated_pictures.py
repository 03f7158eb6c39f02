"""Annotated pictures as training takes them: from COCO json, LabelMe or YOLO, with the classes that were chosen."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.copy_paste import Scene
from solov2_edge.errors import InputError, MissingDependencyError, require
from solov2_edge.runtime.annotation_sets import COCO, Located, locate, read_located
from solov2_edge.runtime.annotations import is_segmentation, read_annotated
from solov2_edge.runtime.class_choice import ClassChoice
from solov2_edge.runtime.lvis_protocol import with_names
from solov2_edge.runtime.picture_shape import picture_shape
from solov2_edge.runtime.rle import decode_rle
from solov2_edge.scene_cache import SceneCache

__all__ = ["CocoPictures", "decode_mask", "read_pictures", "read_scene"]

MOST_SIDE = 1 << 20  # pixels of a picture; OpenCV's decoders refuse more
ANY_CLASS = ClassChoice()


@dataclass(frozen=True, slots=True)
class CocoPictures:
    """Annotated pictures, as COCO has them.

    Attributes:
        class_names: category names in ascending id order, or as they were chosen.
        files: path per picture; a LabelMe document where that carries the picture.
        annotations: per picture, (class channel, segmentation, height, width) of each object that is no crowd.
        scenes: keeps decoded pictures and masks, if any is to.
    """

    class_names: tuple[str, ...]
    files: tuple[Path, ...]
    annotations: tuple[tuple[tuple[int, Any, int, int], ...], ...]
    scenes: SceneCache | None = field(default=None, kw_only=True, compare=False, repr=False)


def read_pictures(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    choice: ClassChoice = ANY_CLASS,
) -> CocoPictures:
    """Read annotations in any form; crowds and pictures without objects are dropped, as the paper's recipe does.

    Args:
        annotations: a COCO json, a LabelMe folder, or YOLO labels; see ``runtime.annotation_sets``.
        images: folder of the pictures; default: where the annotations say.
        choice: classes to rename, merge or keep.

    Raises:
        InputError: not readable, none of these forms, a picture is missing, a class is unknown, or nothing is left.
    """
    located = locate(annotations, images)
    if located.form == COCO:
        return _from_coco(located, choice)
    found = read_located(located, split="train")
    return _pictures(choice.apply(found.data, str(annotations)), found.images, Path(annotations))


def _from_coco(located: Located, choice: ClassChoice) -> CocoPictures:
    """Read a COCO json, of which training asks less than evaluation does."""
    path = located.path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data = {**data, "images": with_names(data["images"])}
        return _pictures(choice.apply(data, str(path)), located.images or path.parent, path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read annotations {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"annotations {path} are not UTF-8 text; expected a COCO json") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a COCO json ({type(error).__name__}: {error}); see cocodataset.org") from error


def _pictures(data: dict[str, Any], folder: Path, path: Path) -> CocoPictures:
    """Check and order instances; wrong types raise what Python raises."""
    categories = sorted(data["categories"], key=lambda c: int(c["id"]))
    channel = {int(c["id"]): i for i, c in enumerate(categories)}
    pictures = {_number(p["id"]): p for p in data["images"]}
    files = {number: folder / str(p["file_name"]) for number, p in pictures.items()}
    for key, entries, ids in (("categories", categories, channel), ("images", data["images"], pictures)):
        require(len(entries) == len(ids), f"{path}: two {key} have the same id; give each its own")
    sizes: dict[str, tuple[int, int]] = {}
    objects: dict[str, list[tuple[int, Any, int, int]]] = {}
    for number, a in enumerate(data["annotations"], start=1):
        if a.get("iscrowd", 0):
            continue
        # Only what goes wrong is named, since names for a million objects take longer than all the rest.
        name, category = _number(a["image_id"]), int(a["category_id"])
        if name not in pictures or category not in channel:
            what = f"picture {a['image_id']}" if name not in pictures else f"category {category}"
            raise InputError(f"{_named(path, a, number)} is of {what}, which the file does not list; mend either")
        if not is_segmentation(a["segmentation"]):
            raise InputError(
                f"{_named(path, a, number)} has a segmentation that is neither polygons of at least 3 points nor an "
                f"RLE that adds up: {str(a['segmentation'])[:60]}; mend it (--check finds all of them)"
            )
        if name not in sizes:
            sizes[name] = _size(pictures[name], files[name], path)
        objects.setdefault(name, []).append((channel[category], a["segmentation"], *sizes[name]))
    used = [i for i in pictures if i in objects]
    require(bool(used), f"{path} holds no picture with an annotated object; nothing to train on")
    missing = [files[i] for i in used if not files[i].is_file()]
    require(not missing, f"{len(missing)} pictures are not in {folder}, for example {missing[:1]}; check --images")
    names = tuple(str(c["name"]) for c in categories)
    return CocoPictures(names, tuple(files[i] for i in used), tuple(tuple(objects[i]) for i in used))


def _number(value: Any) -> str:
    """Return an id by which 7 and "7" are the same, as strangers' files mix them."""
    if isinstance(value, int | str):
        return str(value)
    raise TypeError(f"an id is {str(value)[:60]}")


def _named(path: Path, annotation: dict[str, Any], number: int) -> str:
    place = f"annotation {annotation['id']}" if "id" in annotation else f"the annotation at place {number}"
    return f"{path}: {annotation.get('source', place)}"


def _size(picture: dict[str, Any], file: Path, path: Path) -> tuple[int, int]:
    """Return the annotated size, the file's where there is none."""
    if picture.get("height") is None and picture.get("width") is None and file.is_file():
        return picture_shape(file)
    height, width = int(picture["height"]), int(picture["width"])
    require(
        0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE,
        f"{path}: picture {picture['id']} is given as {height} x {width} (H x W); write its size",
    )
    return height, width


def decode_mask(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Return the mask (H, W) uint8, 0 or 1, of a COCO segmentation: polygons, RLE or compressed RLE.

    Raises:
        InputError: the segmentation cannot be read.
        MissingDependencyError: pycocotools is not installed.
    """
    rle = segmentation
    if isinstance(segmentation, list):
        try:
            from pycocotools import mask as coco_mask
        except ModuleNotFoundError as error:
            raise MissingDependencyError("pycocotools", "train", "drawing polygon masks as COCO does") from error
        try:
            rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(f"a polygon cannot be drawn ({type(error).__name__}: {error}); mend the json") from error
    require(isinstance(rle, dict), f"a segmentation must be polygons or an RLE, got {type(rle).__name__}")
    mask = decode_rle(rle).view(np.uint8)
    require(mask.shape == (height, width), f"a mask is {mask.shape}, its picture {(height, width)} (H, W)")
    return mask


def read_scene(pictures: CocoPictures, index: int) -> Scene:
    """Read picture ``index`` with the masks of its objects, from the cache where there is one.

    Raises:
        InputError: the picture or a mask cannot be read, or they differ in size.
    """
    labels = tuple(label for label, *_ in pictures.annotations[index])
    if pictures.scenes is None:
        return _decoded(pictures.files[index], pictures.annotations[index], labels)
    kept = pictures.scenes.find(index)
    if kept is None:
        scene = _decoded(pictures.files[index], pictures.annotations[index], labels)
        pictures.scenes.keep(index, scene.picture, scene.masks)
        return scene
    return Scene(*kept, labels)


def _decoded(file: Path, objects: Sequence[tuple[int, Any, int, int]], labels: tuple[int, ...]) -> Scene:
    picture = read_annotated(file)
    masks = np.stack([decode_mask(s, h, w) for _, s, h, w in objects])
    require(
        masks.shape[1:] == picture.shape[:2],
        f"{file.name} is {picture.shape[:2]}, its annotations {masks.shape[1:]} (H, W)",
    )
    return Scene(picture, masks, labels)
