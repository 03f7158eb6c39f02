from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.quickstart import annotated_instances, network_ms, picture_facts
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.rle import encode_mask

ASSETS = Path(__file__).resolve().parents[2] / "solov2_edge" / "assets"


def square(height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[2:9, 3:11] = True
    return mask


def annotate(folder: Path) -> dict[str, Any]:
    (folder / "in").mkdir()
    assert cv2.imwrite(str(folder / "in" / "a.png"), np.full((20, 30, 3), 60, np.uint8))
    entry = {"id": 7, "image_id": 3, "category_id": 5, "iscrowd": 0, "segmentation": encode_mask(square(20, 30))}
    crowd = {**entry, "id": 8, "iscrowd": 1}
    document = {
        "images": [{"id": 3, "file_name": "a.png", "height": 20, "width": 30, "caption": "A cell"}],
        "categories": [{"id": 5, "name": "cell"}],
        "annotations": [entry, crowd],
    }
    (folder / "a.json").write_text(json.dumps(document), encoding="utf-8")
    return document


def test_facts_hold_three_views_and_medians(tmp_path: Path) -> None:
    annotate(tmp_path)
    calls = []

    def segment(frame: NDArray[np.uint8]) -> Instances:
        calls.append(frame.shape)
        return Instances.from_masks(square(20, 30)[None], [0.8], [0], ("cell",))

    def timings() -> dict[str, float]:
        # The first run does not count; then 2, 3, 4.
        return {"preprocess": 0.0, "network": float(len(calls)), "decode": 1.0}

    (facts,) = picture_facts(segment, timings, tmp_path / "a.json", tmp_path / "in", repeat=3)
    assert (facts.name, facts.caption, facts.found_count, facts.annotated_count) == ("a", "A cell", 1, 1)
    assert facts.timings["network"] == 3.0
    assert len(calls) == 4
    views = [cv2.imdecode(np.frombuffer(v, np.uint8), 1) for v in (facts.picture, facts.found, facts.annotated)]
    assert all(view is not None and view.shape == (facts.height, facts.width, 3) for view in views)
    assert facts.width >= 900
    assert facts.picture != facts.found


def test_annotations_become_instances(tmp_path: Path) -> None:
    document = annotate(tmp_path)
    truth = annotated_instances(document, document["images"][0])
    assert len(truth) == 1
    assert truth.class_names == ("cell",)
    assert (truth.masks[0] == square(20, 30)).all()
    assert len(annotated_instances({**document, "annotations": []}, document["images"][0])) == 0


def test_network_time_is_a_median(tmp_path: Path) -> None:
    annotate(tmp_path)
    times = iter([9.0, 1.0, 50.0])
    found = Instances.empty(20, 30, ("cell",))
    assert network_ms(lambda f: found, lambda: {"network": next(times)}, tmp_path / "in" / "a.png", repeat=3) == 9.0


def test_the_shipped_annotations_decode() -> None:
    document = json.loads((ASSETS / "pictures.json").read_text(encoding="utf-8"))
    for entry in document["images"]:
        truth = annotated_instances(document, entry)
        assert truth.frame_shape == (entry["height"], entry["width"])
        areas = [a["area"] for a in document["annotations"] if a["image_id"] == entry["id"]]
        assert truth.areas.tolist() == pytest.approx(areas)
