"""The LVIS protocol on a hand-made file whose AP is worked out by hand, and boxes judged as detection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.evaluate import Evaluation, evaluate
from solov2_edge.runtime.instances import Instances

SIDE = 64
NAMES = ("cup", "dog", "tree")
Answer = tuple[tuple[int, int, int, int], float, int]  # y0, y1, x0, x1; score; class

# Cup: a false alarm at 0.95 in a picture known to have none, then a hit. Dog: the same at 0.8 and 0.6. Tree: a
# false alarm in picture 2, which was not searched for trees, and one in picture 1, where not every tree is annotated.
ANSWERS: dict[int, list[Answer]] = {
    1: [
        ((0, 20, 0, 20), 0.9, 0),
        ((0, 20, 30, 50), 0.8, 1),
        ((40, 60, 40, 60), 0.7, 2),
        ((40, 60, 0, 20), 0.95, 2),
    ],
    2: [((10, 60, 10, 60), 0.6, 1), ((0, 20, 0, 20), 0.95, 0), ((0, 20, 0, 20), 0.99, 2)],
}


def annotation(identifier: int, image: int, category: int, y0: int, y1: int, x0: int, x1: int) -> dict[str, Any]:
    return {
        "id": identifier,
        "image_id": image,
        "category_id": category,
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "area": (y1 - y0) * (x1 - x0),
    }


def segment(frame: NDArray[np.uint8]) -> Instances:
    masks, scores, labels = [], [], []
    for (y0, y1, x0, x1), score, label in ANSWERS[int(frame[0, 0, 0])]:
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y0:y1, x0:x1] = True
        masks.append(mask)
        scores.append(score)
        labels.append(label)
    return Instances.from_masks(np.stack(masks), scores, labels, NAMES)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    url = "http://images.example.org/val2017/{}.png"
    (tmp_path / "val2017").mkdir()
    for number in (1, 2):
        assert cv2.imwrite(str(tmp_path / "val2017" / f"{number}.png"), np.full((SIDE, SIDE, 3), number, np.uint8))
    terms = ({"neg_category_ids": [2], "not_exhaustive_category_ids": [3]}, {"neg_category_ids": [1]})
    return {
        "images": [
            {"id": i, "coco_url": url.format(i), "height": SIDE, "width": SIDE, "not_exhaustive_category_ids": [], **t}
            for i, t in enumerate(terms, start=1)
        ],
        "categories": [
            {"id": 1, "name": "cup", "frequency": "r"},
            {"id": 2, "name": "dog", "image_count": 11},
            {"id": 3, "name": "tree", "frequency": "f"},
            {"id": 4, "name": "sled", "frequency": "r"},
        ],
        "annotations": [
            annotation(1, 1, 1, 0, 20, 0, 20),
            annotation(2, 1, 3, 40, 60, 40, 60),
            annotation(3, 2, 2, 10, 60, 10, 60),
        ],
    }


def judged(data: dict[str, Any], folder: Path, **options: Any) -> Evaluation:
    (folder / "lvis.json").write_text(json.dumps(data))
    return evaluate(segment, folder / "lvis.json", folder, **{"protocol": "lvis", "max_detections": 300, **options})


def test_only_searched_categories_count_and_only_exhaustive_ones_have_false_alarms(
    data: dict[str, Any], tmp_path: Path
) -> None:
    result = judged(data, tmp_path)
    assert result.frequencies == pytest.approx({"ap_rare": 50, "ap_common": 50, "ap_frequent": 100})
    assert result.ap == pytest.approx((50 + 50 + 100) / 3)
    assert result.ap50 == pytest.approx(result.ap)
    assert (result.pictures, result.instances, result.detections) == (2, 3, 7)
    assert json.loads(json.dumps(result.to_dict()))["frequencies"]["ap_rare"] == pytest.approx(50)


def test_coco_counts_everything(data: dict[str, Any], tmp_path: Path) -> None:
    result = judged(data, tmp_path, protocol="coco", max_detections=100)
    assert result.ap == pytest.approx((50 + 50 + 100 / 3) / 3)
    assert result.frequencies is None
    assert "frequencies" not in result.to_dict()


def test_a_picture_has_so_many_detections_over_all_categories(data: dict[str, Any], tmp_path: Path) -> None:
    # Picture 1 keeps the tree of 0.95 and the cup; picture 2 the tree it was not searched for and the cup.
    result = judged(data, tmp_path, max_detections=2)
    assert result.frequencies == pytest.approx({"ap_rare": 50, "ap_common": 0, "ap_frequent": 0})


def test_the_resampled_ap_is_that_of_the_protocol(data: dict[str, Any], tmp_path: Path) -> None:
    result = judged(data, tmp_path)
    assert result.matches.ap(np.ones((1, 2), np.int64)) == pytest.approx(result.ap)


def test_pictures_may_lie_in_one_folder(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "lvis.json").write_text(json.dumps(data))
    folder = tmp_path / "val2017"
    assert evaluate(segment, tmp_path / "lvis.json", folder, protocol="lvis", max_detections=300).pictures == 2


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda d: d["images"][1].pop("neg_category_ids"), "LVIS lists neg_category_ids of every picture, and 2 has"),
        (lambda d: d["categories"][0].pop("frequency"), "'cup' must have a frequency"),
        (lambda d: d["categories"][0].update(frequency="often"), "got 'often'"),
    ],
)
def test_files_that_are_not_lvis_are_refused(data: dict[str, Any], tmp_path: Path, spoil: Any, text: str) -> None:
    spoil(data)
    with pytest.raises(InputError, match=text):
        judged(data, tmp_path)


def test_an_unknown_protocol_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be one of coco, lvis, got 'voc'"):
        judged(data, tmp_path, protocol="voc")


def test_boxes_are_judged_by_hand(data: dict[str, Any], tmp_path: Path) -> None:
    """Half the pixels of each object, in two corners of it: its box is perfect and its mask is not."""

    def corners(frame: NDArray[np.uint8]) -> Instances:
        objects = {1: [((0, 20, 0, 20), 0), ((40, 60, 40, 60), 2)], 2: [((10, 60, 10, 60), 1)]}[int(frame[0, 0, 0])]
        masks, labels = np.zeros((len(objects), SIDE, SIDE), bool), [label for _, label in objects]
        for mask, ((y0, y1, x0, x1), _) in zip(masks, objects, strict=True):
            half_y, half_x = (y0 + y1) // 2, (x0 + x1) // 2
            mask[y0:half_y, x0:half_x] = mask[half_y:y1, half_x:x1] = True
        if len(objects) == 1:
            masks[0, 58:60] = False  # two of 50 rows less: IoU 0.96 of the boxes
        return Instances.from_masks(masks, [0.9] * len(objects), labels, NAMES)

    (tmp_path / "lvis.json").write_text(json.dumps(data))
    result = evaluate(corners, tmp_path / "lvis.json", tmp_path, boxes=True)
    assert result.boxes is not None
    assert result.boxes.ap == pytest.approx(100)  # IoU 0.96 is above the last threshold, 0.95
    assert (result.boxes.ap_small, result.boxes.ap_medium, result.boxes.ap_large) == pytest.approx((100, 100, -1))
    # Masks: IoU 0.5 is enough at 0.5 only, and the picture with fewer rows is below it: two of three categories.
    assert result.ap50 == pytest.approx(200 / 3)
    assert result.ap == pytest.approx(20 / 3)
    assert json.loads(json.dumps(result.to_dict()))["boxes"]["ap50"] == pytest.approx(100)


def test_an_annotated_box_goes_before_the_masks_own(data: dict[str, Any], tmp_path: Path) -> None:
    for entry in data["annotations"]:
        entry["bbox"] = [0, 0, 5, 5]
    result = judged(data, tmp_path, boxes=True)
    assert result.boxes is not None
    assert result.boxes.ap == 0
    assert result.ap == pytest.approx(200 / 3)
    data["annotations"][0]["bbox"] = [0, 0, -5, 5]
    with pytest.raises(InputError, match="must have a bbox of x, y, width and height"):
        judged(data, tmp_path, boxes=True)


def test_boxes_are_judged_only_when_asked_for(data: dict[str, Any], tmp_path: Path) -> None:
    assert judged(data, tmp_path).boxes is None
    assert "boxes" not in judged(data, tmp_path).to_dict()
