"""COCO panoptic annotations, read and checked: one JSON, and one PNG of segment ids per picture.

The format is COCO's (cocodataset.org, "Panoptic Segmentation"): a pixel's id is R + 256 G + 65536 B, 0 is void; the
JSON names each id's category.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.pictures import read_picture

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["PanopticAnnotations", "decode_ids", "encode_ids", "read_panoptic", "read_segment_ids"]

MAX_ID = (1 << 24) - 1  # three bytes
_FIELDS: dict[str, dict[str, Any]] = {
    "images": {"id": int | str, "file_name": str, "height": int, "width": int},
    "categories": {"id": int, "name": str, "isthing": int},
    "annotations": {"image_id": int | str, "file_name": str, "segments_info": list},
}


@dataclass(frozen=True, slots=True)
class PanopticAnnotations:
    """What one COCO panoptic JSON says.

    Attributes:
        path: the JSON.
        categories: its categories, by rising id.
        pictures: (entry of ``images``, its annotation) of every annotated picture, in the order of ``images``.
    """

    path: Path
    categories: tuple[dict[str, Any], ...]
    pictures: tuple[tuple[dict[str, Any], dict[str, Any]], ...]

    def names(self, *, things: bool) -> tuple[str, ...]:
        """Return the names of the things, or of the stuff, by rising category id."""
        return tuple(str(c["name"]) for c in self.categories if bool(c["isthing"]) == things)


def read_panoptic(annotations: str | PathLike[str]) -> PanopticAnnotations:
    """Read a COCO panoptic JSON.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not COCO panoptic; the message names what is wrong.
    """
    path = Path(annotations)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the annotations {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); give a COCO panoptic file") from error
    for key, types in _FIELDS.items():
        entries = data.get(key) if isinstance(data, dict) else None
        good = isinstance(entries, list) and all(_has(entry, types) for entry in entries)
        require(good, f"{path} must be COCO panoptic with a list {key!r} of objects holding {', '.join(types)}")
    for key, field in (("images", "id"), ("categories", "id"), ("categories", "name"), ("annotations", "image_id")):
        _require_unique([entry[field] for entry in data[key]], f"{path}: two {key} have the same {field}")
    images = {entry["id"]: entry for entry in data["images"]}
    categories = {entry["id"] for entry in data["categories"]}
    for annotation in data["annotations"]:
        where = f"{path}: the annotation of picture {annotation['image_id']!r}"
        require(annotation["image_id"] in images, f"{where} belongs to no picture of the file; mend it")
        segments = annotation["segments_info"]
        good = all(_has(segment, {"id": int, "category_id": int}) for segment in segments)
        require(good, f"{where} must list segments with id and category_id")
        require(
            all(segment["category_id"] in categories and 0 < segment["id"] <= MAX_ID for segment in segments),
            f"{where} has a segment of an unknown category, or an id that is not 1..{MAX_ID}; mend it",
        )
        _require_unique([segment["id"] for segment in segments], f"{where} has two segments of one id")
    annotated = {annotation["image_id"]: annotation for annotation in data["annotations"]}
    return PanopticAnnotations(
        path,
        tuple(sorted(data["categories"], key=lambda category: int(category["id"]))),
        tuple((image, annotated[key]) for key, image in images.items() if key in annotated),
    )


def _has(entry: Any, types: dict[str, Any]) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(field), kind) for field, kind in types.items())


def _require_unique(values: list[Any], what: str) -> None:
    require(len(set(values)) == len(values), f"{what}; give each its own")


def read_segment_ids(folder: Path, image: dict[str, Any], annotation: dict[str, Any]) -> NDArray[np.int32]:
    """Return the (H, W) int32 ids of a picture's PNG, 0 for void.

    Raises:
        InputError: the PNG is missing or unreadable, of another size than the picture, or has an id without a segment.
    """
    path = folder / annotation["file_name"]
    require(path.is_file(), f"the annotations name a PNG of segment ids that is not there: {path}")
    ids = decode_ids(read_picture(path))
    require(
        ids.shape == (image["height"], image["width"]),
        f"{path} is {ids.shape[0]} x {ids.shape[1]}, its picture {image['height']} x {image['width']} (H x W); "
        "they do not belong together",
    )
    unknown = set(np.unique(ids).tolist()) - {0} - {segment["id"] for segment in annotation["segments_info"]}
    require(not unknown, f"{path} has the ids {sorted(unknown)[:5]}, which the annotations list no segment for")
    return ids


def encode_ids(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the picture of an (H, W) id map, BGR uint8 (H, W, 3): id = R + 256 G + 65536 B."""
    return np.stack([ids >> 16 & 255, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)


def decode_ids(picture: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the (H, W) int32 id map of a BGR uint8 picture (H, W, 3); undoes :func:`encode_ids`."""
    blue, green, red = np.moveaxis(picture.astype(np.int32), -1, 0)
    return np.asarray(red + (green << 8) + (blue << 16))
