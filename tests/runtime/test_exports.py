from __future__ import annotations

import json
import sys
import types
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solov2_edge.coco_classes import COCO_CATEGORY_IDS, COCO_CLASSES
from solov2_edge.errors import InputError, MissingDependencyError
from solov2_edge.runtime.instances import Instances


def two() -> Instances:
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 1:3, 2:5] = True
    masks[1, 0, 0] = masks[1, 4:6, 6:8] = True  # two parts
    return Instances.from_masks(masks, [0.75, 0.5], [1, 0], ("cat", "dog"))


def test_coco_results_are_json_and_pycocotools_agrees() -> None:
    results = json.loads(json.dumps(two().to_coco(42)))
    assert [(r["image_id"], r["category_id"], r["score"]) for r in results] == [(42, 2, 0.75), (42, 1, 0.5)]
    for result in results:
        assert result["area"] == coco_mask.area(result["segmentation"])
        assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()


def test_coco_classes_get_coco_ids_and_others_what_is_given() -> None:
    masks = np.ones((1, 2, 2), bool)
    toothbrush = Instances.from_masks(masks, [1], [79], COCO_CLASSES)
    assert toothbrush.to_coco(1)[0]["category_id"] == COCO_CATEGORY_IDS[79] == 90
    assert [r["category_id"] for r in two().to_coco(1, [7, 11])] == [11, 7]
    with pytest.raises(InputError, match="1 ids for 2 classes"):
        two().to_coco(1, [7])


def test_labelme_document() -> None:
    document = json.loads(json.dumps(two().to_labelme("pictures/a.png")))
    assert document["version"].startswith("5.")
    assert (document["imagePath"], document["imageHeight"], document["imageWidth"]) == ("pictures/a.png", 6, 8)
    assert document["imageData"] is None
    shapes = document["shapes"]
    assert [s["label"] for s in shapes] == ["dog", "cat", "cat"]
    assert [s["group_id"] for s in shapes] == [None, 1, 1]
    assert {s["shape_type"] for s in shapes} == {"polygon"}
    assert sorted(map(tuple, shapes[0]["points"])) == [(2, 1), (2, 3), (5, 1), (5, 3)]


def test_supervision_gets_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    class Detections:
        def __init__(self, **fields: Any) -> None:
            self.fields = fields

    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(Detections=Detections))
    instances = two()
    fields = instances.to_supervision().fields
    np.testing.assert_array_equal(fields["xyxy"], instances.boxes)
    np.testing.assert_array_equal(fields["mask"], instances.masks)
    np.testing.assert_array_equal(fields["confidence"], instances.scores)
    np.testing.assert_array_equal(fields["class_id"], instances.labels)
    assert fields["data"]["class_name"].tolist() == ["dog", "cat"]


def test_missing_supervision_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="pip install") as caught:
        two().to_supervision()
    assert caught.value.package == "supervision"
