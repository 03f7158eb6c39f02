"""COCO panoptic files, and panoptic quality against numbers worked out by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solov2_edge.errors import InputError, MissingDependencyError
from solov2_edge.runtime import Panoptic
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic import PanopticOptions
from solov2_edge.runtime.panoptic_annotations import decode_ids, encode_ids, read_panoptic, read_segment_ids
from solov2_edge.runtime.panoptic_coco import panoptic_annotation
from solov2_edge.runtime.panoptic_merge import merge_panoptic
from solov2_edge.runtime.panoptic_quality import panoptic_quality

SIDE = 20
CATEGORIES = [
    {"id": 3, "name": "nut", "isthing": 1},
    {"id": 9, "name": "bolt", "isthing": 1},
    {"id": 40, "name": "sky", "isthing": 0},
    {"id": 7, "name": "grass_field", "isthing": 0},
]


def _write(folder: Path, ids: np.ndarray, segment_categories: dict[int, int], **more: Any) -> tuple[Path, Path, Path]:
    """Write one picture with its panoptic annotation; return the JSON and the folders of PNGs and pictures."""
    for name in ("pngs", "images"):
        (folder / name).mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    cv2.imwrite(str(folder / "pngs" / "a.png"), encode_ids(ids))
    segments = [
        {"id": i, "category_id": c, "area": int((ids == i).sum()), "iscrowd": 0, "bbox": [0, 0, 1, 1]}
        for i, c in segment_categories.items()
    ]
    document = {
        "images": [{"id": 5, "file_name": "a.png", "height": SIDE, "width": SIDE}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
        "categories": CATEGORIES,
        **more,
    }
    (folder / "panoptic.json").write_text(json.dumps(document))
    return folder / "panoptic.json", folder / "pngs", folder / "images"


def _truth() -> tuple[np.ndarray, dict[int, int]]:
    """Return a map with large ids: a nut and a bolt above, sky and grass below, a void column at the right."""
    ids = np.zeros((SIDE, SIDE), np.int32)
    ids[:10, :9], ids[:10, 9:18] = 70_000, 300
    ids[10:, :9], ids[10:, 9:18] = 1, 2
    return ids, {70_000: 3, 300: 9, 1: 40, 2: 7}


def _found(frame: np.ndarray, names: tuple[str, ...] = ("nut", "bolt")) -> Panoptic:
    """Return a nut one row short, a bolt cut to four tenths, sky right and grass taken for sky in two columns."""
    masks = np.zeros((2, SIDE, SIDE), np.bool_)
    masks[0, :9, :9] = masks[1, :4, 9:18] = True
    semantic = np.full((SIDE, SIDE), 2, np.int32)
    semantic[10:, :11], semantic[10:, 11:18] = 0, 1
    instances = Instances.from_masks(masks, [0.9, 0.8], [0, 1], names)
    return merge_panoptic(instances, semantic, ("sky", "grass field"), PanopticOptions(stuff_area=0))


def test_quality_of_a_hand_made_case(tmp_path: Path) -> None:
    """PQ of the paper's equation 1: sum of IoU over matches / (TP + FP / 2 + FN / 2), a match being IoU > 0.5.

    Nut: 81 of 90 pixels, IoU 0.9, a match. Bolt: 36 of 90, no match: one wrong, one missed. Sky: 90 of 110 pixels,
    IoU 90 / 110. Grass: 70 of 90, IoU 7 / 9. So things (0.9 + 0) / 2 and stuff (9 / 11 + 7 / 9) / 2.
    """
    result = panoptic_quality(_found, *_write(tmp_path, *_truth()))
    sky, grass = 100 * 9 / 11, 100 * 7 / 9
    for got, (pq, sq, rq, count) in (
        (result.things, (45.0, 45.0, 50.0, 2)),
        (result.stuff, ((sky + grass) / 2, (sky + grass) / 2, 100.0, 2)),
        (result.all, ((90 + sky + grass) / 4, (90 + sky + grass) / 4, 75.0, 4)),
    ):
        assert (got.pq, got.sq, got.rq) == pytest.approx((pq, sq, rq))
        assert got.categories == count
    assert result.by_name["bolt"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "tp": 0, "fp": 1, "fn": 1}
    assert result.by_name["nut"] == pytest.approx({"pq": 90.0, "sq": 90.0, "rq": 100.0, "tp": 1, "fp": 0, "fn": 0})
    assert result.pictures == 1
    assert json.loads(json.dumps(result.to_dict()))["all"]["categories"] == 4


def test_what_is_found_on_void_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    ids, categories = _truth()
    ids[ids == 300] = 0  # the bolt becomes void
    del categories[300]
    result = panoptic_quality(_found, *_write(tmp_path, ids, categories))
    things = result.things
    assert (things.pq, things.sq, things.rq) == pytest.approx((90.0, 90.0, 100.0))
    assert things.categories == 1


def test_labels_the_file_lacks_are_void_and_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    paths = _write(tmp_path, *_truth())
    result = panoptic_quality(lambda frame: _found(frame, ("nut", "screw")), *paths)
    assert result.by_name["bolt"]["fp"] == 0
    assert result.by_name["bolt"]["fn"] == 1

    def strange(frame: np.ndarray) -> Panoptic:
        return merge_panoptic(
            Instances.empty(SIDE, SIDE, ("a",)), np.zeros((SIDE, SIDE), np.int32), ("b",), PanopticOptions()
        )

    with pytest.raises(InputError, match="none of the model's things and stuff"):
        panoptic_quality(strange, *paths)


def test_a_missing_tool_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(MissingDependencyError, match=r"needs hotcoco.*solov2-edge\[eval\]"):
        panoptic_quality(_found, *_write(tmp_path, *_truth()))


def test_a_panoptic_annotation_has_areas_boxes_and_scores() -> None:
    entry = panoptic_annotation(_found(np.zeros(0)), 5, "a.png", [3, 9, 40, 7])
    first, last = entry["segments_info"][0], entry["segments_info"][-1]
    assert first == {"id": 1, "category_id": 3, "area": 81, "bbox": [0, 0, 9, 9], "iscrowd": 0, "score": 0.9}
    assert last == {"id": 4, "category_id": 7, "area": 70, "bbox": [11, 10, 7, 10], "iscrowd": 0}
    assert json.loads(json.dumps(entry)) == entry


@given(st.lists(st.integers(0, (1 << 24) - 1), min_size=6, max_size=6))
def test_ids_survive_their_picture(values: list[int]) -> None:
    ids = np.array(values, np.int32).reshape(2, 3)
    picture = encode_ids(ids)
    assert picture.dtype == np.uint8
    assert (picture[..., 2] == ids % 256).all()  # red, the lowest byte, is last in BGR
    assert (decode_ids(picture) == ids).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"categories": [{"id": 1, "name": "nut"}]}, "'categories' of objects holding id, name, isthing"),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, "two categories have the same id"),
        ({"images": []}, "belongs to no picture"),
        ({"annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": [{"id": 1}]}]}, "id and category_id"),
        (
            {"annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": [{"id": 0, "category_id": 3}]}]},
            "not 1..16777215",
        ),
        (
            {"annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 4}]}]},
            "unknown category",
        ),
    ],
)
def test_a_file_that_is_not_coco_panoptic_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    path, _, _ = _write(tmp_path, *_truth(), **change)
    with pytest.raises(InputError, match=match):
        read_panoptic(path)


def test_pngs_are_checked_against_the_file(tmp_path: Path) -> None:
    ids, categories = _truth()
    path, pngs, images = _write(tmp_path, ids, {k: v for k, v in categories.items() if k != 300})
    with pytest.raises(InputError, match=r"ids \[300\]"):
        panoptic_quality(_found, path, pngs, images)
    ((image, annotation),) = read_panoptic(path).pictures
    with pytest.raises(InputError, match="do not belong together"):
        read_segment_ids(pngs, {**image, "height": 5}, annotation)
    (pngs / "a.png").unlink()
    with pytest.raises(InputError, match="not there"):
        read_segment_ids(pngs, image, annotation)
    for text, match in (("{", "not JSON"), ("[]", "must be COCO panoptic")):
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            read_panoptic(path)
    with pytest.raises(InputError, match="cannot read"):
        read_panoptic(tmp_path / "none.json")
