from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError
from solov2_edge.runtime.evaluate import Evaluation, evaluate
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.rle import decompress_counts, encode_mask

SIDE = 64


def rectangle(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def annotation(
    identifier: int, image: int, category: int, y0: int, y1: int, x0: int, x1: int, **more: Any
) -> dict[str, Any]:
    polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
    area = (y1 - y0) * (x1 - x0)
    return {
        "id": identifier,
        "image_id": image,
        "category_id": category,
        "segmentation": [polygon],
        "area": area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": 0,
        **more,
    }


def unused(frame: NDArray[np.uint8]) -> Instances:
    raise AssertionError("nothing is to be segmented")


class Case:
    """Two pictures whose grey level says which they are, and a segmenter that looks its answer up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "instances.json"
        self.names: tuple[str, ...] = ("cell",)
        self.answers: dict[int, list[tuple[NDArray[np.bool_], float, int]]] = {1: [], 2: []}
        self.data: dict[str, Any] = {
            "images": [{"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in (1, 2)],
            "categories": [{"id": 5, "name": "cell"}],
            "annotations": [annotation(1, 1, 5, 0, 20, 0, 20), annotation(2, 2, 5, 10, 60, 10, 60)],
        }
        for picture in self.data["images"]:
            grey = np.full((SIDE, SIDE, 3), picture["id"], np.uint8)
            cv2.imwrite(str(folder / picture["file_name"]), grey)

    def segment(self, frame: NDArray[np.uint8]) -> Instances:
        found = self.answers[int(frame[0, 0, 0])]
        if not found:
            return Instances.empty(SIDE, SIDE, self.names)
        masks, scores, labels = zip(*found, strict=True)
        return Instances.from_masks(np.stack(masks), scores, labels, self.names)

    def evaluate(self, **options: Any) -> Evaluation:
        self.file.write_text(json.dumps(self.data))
        return evaluate(self.segment, self.file, self.folder, **options)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_perfect_masks_score_100(case: Case) -> None:
    case.answers = {1: [(rectangle(0, 20, 0, 20), 0.9, 0)], 2: [(rectangle(10, 60, 10, 60), 0.8, 0)]}
    result = case.evaluate()
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((100, 100, 100))
    assert (result.ap_small, result.ap_medium, result.ap_large) == pytest.approx((100, 100, -1))
    assert (result.pictures, result.instances, result.detections) == (2, 2, 2)
    assert json.loads(json.dumps(result.to_dict()))["ap"] == result.ap
    assert result.matches.pictures == (1, 2)


def test_hand_computed_ap(case: Case) -> None:
    # A mask of IoU 0.8 at score 0.9, a false alarm at 0.7, and a perfect mask at 0.6.
    case.answers = {
        1: [(rectangle(0, 20, 0, 16), 0.9, 0), (rectangle(40, 50, 40, 50), 0.7, 0)],
        2: [(rectangle(10, 60, 10, 60), 0.6, 0)],
    }
    result = case.evaluate()
    # IoU 0.50..0.80: hit, miss, hit: precision 1 up to recall 0.5 (51 of the 101 recall points), then 2/3.
    low = (51 + 50 * 2 / 3) / 101
    # 0.85..0.95: miss, miss, hit: precision 1/3 up to recall 0.5, nothing beyond.
    high = 51 / 3 / 101
    assert result.ap50 == pytest.approx(100 * low)
    assert result.ap75 == pytest.approx(100 * low)
    assert result.ap == pytest.approx(100 * (7 * low + 3 * high) / 10)


def test_nothing_found_scores_0(case: Case) -> None:
    result = case.evaluate()
    assert (result.ap, result.ap50, result.ap_small, result.detections) == (0, 0, 0, 0)


def test_objects_may_be_numbered_from_0(case: Case) -> None:
    for number, entry in enumerate(case.data["annotations"]):
        entry["id"] = number
    case.answers = {1: [(rectangle(0, 20, 0, 20), 0.9, 0)], 2: [(rectangle(10, 60, 10, 60), 0.8, 0)]}
    assert case.evaluate().ap == pytest.approx(100)


def test_max_detections_limits_each_picture(case: Case) -> None:
    case.answers = {
        1: [(rectangle(40, 60, 40, 60), 0.9, 0), (rectangle(0, 20, 0, 20), 0.8, 0)],
        2: [(rectangle(10, 60, 10, 60), 0.7, 0)],
    }
    assert case.evaluate(max_detections=1).ap50 == pytest.approx(100 * 51 / 2 / 101)
    assert case.evaluate(max_detections=2).ap50 == pytest.approx(100 * 2 / 3)


def test_more_than_100_detections_can_count(case: Case) -> None:
    case.answers[1] = [(rectangle(40, 60, 40, 60), 0.9, 0)] * 150 + [(rectangle(0, 20, 0, 20), 0.1, 0)]
    assert case.evaluate(limit=1).ap50 == 0
    assert case.evaluate(limit=1, max_detections=151).ap50 == pytest.approx(100 / 151)


def test_crowds_neither_count_nor_hurt(case: Case) -> None:
    case.data["annotations"].append(annotation(3, 1, 5, 30, 64, 30, 64, iscrowd=1))
    crowd = encode_mask(rectangle(30, 64, 30, 64))
    case.data["annotations"][-1]["segmentation"] = {**crowd, "counts": decompress_counts(crowd["counts"]).tolist()}
    case.answers = {
        1: [(rectangle(32, 50, 32, 50), 0.95, 0), (rectangle(0, 20, 0, 20), 0.9, 0)],
        2: [(rectangle(10, 60, 10, 60), 0.8, 0)],
    }
    result = case.evaluate()
    assert result.ap == pytest.approx(100)
    assert result.instances == 2


def test_limit_and_progress(case: Case) -> None:
    case.answers[1] = [(rectangle(0, 20, 0, 20), 0.9, 0)]
    seen: list[tuple[int, int]] = []
    result = case.evaluate(limit=1, progress=lambda done, total: seen.append((done, total)))
    assert (result.ap, result.pictures, result.instances) == pytest.approx((100, 1, 1))
    assert seen == [(1, 1)]


def test_classes_meet_by_name_spaces_and_underscores_equal(case: Case) -> None:
    case.data["categories"] = [{"id": 9, "name": "unknown to the model"}, {"id": 5, "name": "traffic_light"}]
    case.names = ("not in the file", "traffic light")
    case.answers = {
        1: [(rectangle(0, 20, 0, 20), 0.9, 1), (rectangle(0, 20, 0, 20), 0.99, 0)],
        2: [(rectangle(10, 60, 10, 60), 0.8, 1)],
    }
    assert case.evaluate().ap == pytest.approx(100)
    case.data["annotations"].append(annotation(3, 1, 9, 30, 50, 30, 50))
    assert case.evaluate().ap == pytest.approx(50)  # an annotated category that is never found


def test_no_common_class_shows_both_sides(case: Case) -> None:
    case.names = ("nucleus",)
    with pytest.raises(InputError, match=r"\(nucleus\).*\(cell\)"):
        case.evaluate()
    case.names = tuple(f"class {i}" for i in range(80))
    with pytest.raises(InputError, match="class 7 and 72 more"):
        case.evaluate()


def test_pycocotools_stays_silent(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.answers[1] = [(rectangle(0, 20, 0, 20), 0.9, 0)]
    case.evaluate()
    assert capsys.readouterr().out == ""


def test_a_missing_picture_is_named(case: Case) -> None:
    (case.folder / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png"):
        case.evaluate()


def test_a_picture_of_another_size_is_named(case: Case) -> None:
    case.data["images"][0]["height"] = 65
    with pytest.raises(InputError, match=r"1\.png is 64 x 64 pixels but annotated as 65 x 64"):
        case.evaluate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "list 'images'"),
        ({"categories": [{"id": 1}]}, "id, name"),
        ({"annotations": []}, "annotates no object"),
        ({"annotations": [{"id": 1, "image_id": 1}]}, "category_id"),
        ({"annotations": [annotation(7, 1, 5, 0, 9, 0, 9, segmentation=[])]}, "annotation 7 must have polygons"),
        ({"annotations": [annotation(7, 1, 5, 0, 9, 0, 9, segmentation=[[1, 2]])]}, "annotation 7 must have polygons"),
        ({"annotations": [annotation(7, 1, 5, 0, 9, 0, 9, segmentation={"size": [9, 9]})]}, "annotation 7"),
    ],
)
def test_files_that_are_not_coco_are_refused(case: Case, change: dict[str, Any], message: str) -> None:
    case.data.update(change)
    with pytest.raises(InputError, match=message):
        case.evaluate()


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_text_that_is_not_coco_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"a\.json"):
        evaluate(unused, file, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.json"):
        evaluate(unused, tmp_path / "no.json", tmp_path)


@pytest.mark.parametrize("option", ["max_detections", "limit"])
def test_counts_below_one_are_refused(case: Case, option: str) -> None:
    with pytest.raises(InputError, match=option):
        case.evaluate(**{option: 0})


def test_missing_pycocotools_names_its_cure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingDependencyError, match=r"solov2-edge\[eval\]"):
        case.evaluate()
