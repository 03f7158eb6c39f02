"""COCO files: what evaluation and training may rely on once one has been read, and the refusal of everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.annotations import (
    category_ids,
    is_segmentation,
    read_annotated,
    read_annotations,
    read_picture_of,
)

SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


def coco(**changes: Any) -> dict[str, Any]:
    """Return a good file of one object, an annotation's fields replaced."""
    annotation = {"id": 7, "image_id": "a", "category_id": 3, "segmentation": [SQUARE], **changes}
    return {
        "images": [{"id": "a", "file_name": "a.png", "height": 6, "width": 8}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [annotation],
    }


def written(folder: Path, data: Any) -> Path:
    path = folder / "set.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_iscrowd_is_filled_in_and_everything_else_stays(tmp_path: Path) -> None:
    data = coco()
    read = read_annotations(written(tmp_path, {**data, "info": {"year": 2026}}))
    assert read == {**data, "annotations": [{"iscrowd": 0, **data["annotations"][0]}]}
    assert read_annotations(written(tmp_path, coco(iscrowd=1)))["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "a list 'images'"),
        ({**coco(), "categories": [{"id": "3", "name": "cup"}]}, "a list 'categories' of objects holding id, name"),
        ({**coco(), "annotations": None}, "a list 'annotations'"),
        (coco(segmentation=[[1, 1, 5, 5]]), "annotation 7 must have polygons of at least 3 points"),
        (coco(segmentation={"size": [8, 6], "counts": [48]}), "RLE of another size than its picture's [6, 8]"),
        (coco(area=-1), "an area must be 0 or more"),
        (coco(area=float("inf")), "an area must be 0 or more"),
        ({**coco(), "annotations": 2 * coco()["annotations"]}, "two annotations have the id 7"),
        ({**coco(), "images": 2 * coco()["images"]}, "two images have the id 'a'"),
    ],
)
def test_what_cannot_be_relied_on_is_refused(tmp_path: Path, data: Any, said: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(InputError) as refusal:
        read_annotations(path)
    assert said in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot read the annotations"):
            read_annotations(path)


@pytest.mark.parametrize(
    ("segmentation", "good"),
    [
        ([SQUARE], True),
        ([SQUARE, SQUARE], True),
        ([SQUARE, [1, 1, 2, 2]], False),  # one of two outlines has no area
        ([SQUARE[:-1]], False),  # an x without its y
        ([[1, 1, 5, 1, 5, float("nan")]], False),
        ([[1, 1, 5, 1, 5, 1e9]], False),  # pycocotools would draw every pixel of the way
        ([[1, 1, 5, 1, 5, "5"]], False),
        ([], False),
        ("1 1 5 1 5 5", False),
        (None, False),
        ({"size": [2, 3], "counts": [1, 5]}, True),
        ({"size": [2, 3], "counts": [1, 4]}, False),  # one pixel short
        ({"size": [2, 3], "counts": [1, 6]}, False),  # one too many
        ({"size": [2, 3]}, False),
    ],
)
def test_what_can_be_drawn(segmentation: Any, good: bool) -> None:
    assert is_segmentation(segmentation) is good


def test_a_picture_is_read_if_it_is_the_annotated_one(tmp_path: Path) -> None:
    frame = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    for size in ({"height": 6, "width": 8}, {}):
        np.testing.assert_array_equal(read_picture_of(tmp_path, {"file_name": "a.png", **size}), frame)
    # LVIS names the split of COCO that a picture is of; the folder may be that split.
    lvis = {"file_name": "train2017/a.png", "coco_url": "http://images/train2017/a.png"}
    np.testing.assert_array_equal(read_picture_of(tmp_path, lvis), frame)
    np.testing.assert_array_equal(read_annotated(tmp_path / "a.png"), frame)
    with pytest.raises(InputError, match="6 x 8 pixels but annotated as 8 x 6"):
        read_picture_of(tmp_path, {"file_name": "a.png", "height": 8, "width": 6})
    with pytest.raises(InputError, match="a picture that is not there"):
        read_picture_of(tmp_path, {"file_name": "train2017/a.png"})


def test_classes_meet_their_categories_by_name() -> None:
    categories = [{"id": 9, "name": "traffic light"}, {"id": 2, "name": "cup "}]
    assert category_ids(["cup", "dog", "traffic_light"], categories, "set.json") == [2, None, 9]
    with pytest.raises(InputError) as refusal:
        category_ids([f"class {n}" for n in range(10)], categories, "set.json")
    assert "class 7 and 2 more" in str(refusal.value)
    assert "set.json (traffic light, cup )" in str(refusal.value)
