from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.evaluate import Evaluation, evaluate
from solov2_edge.runtime.instances import Instances

SIDE, PICTURES = 48, 8
NAMES = ("ant", "bee", "cat")


class Crowded:
    """Pictures full of rectangles of three classes, with crowds, false alarms, misses and equal scores.

    A picture's grey level tells the segmenter which one it is, so that a file may hold the same picture many times.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        rng = np.random.default_rng(seed)
        self.objects: list[list[dict[str, Any]]] = []
        self.found: list[list[tuple[NDArray[np.bool_], float, int]]] = []
        for index in range(PICTURES):
            cv2.imwrite(str(folder / f"{index}.png"), np.full((SIDE, SIDE, 3), index, np.uint8))
            objects, found = [], []
            for _ in range(int(rng.integers(0, 6))):
                y, x, height, width = (int(v) for v in rng.integers((0, 0, 4, 4), (30, 30, 18, 18)))
                label = int(rng.integers(0, 2 if index < 5 else 3))
                polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
                objects.append(
                    {
                        "category_id": 10 + label,
                        "segmentation": [polygon],
                        "area": height * width,
                        "bbox": [x, y, width, height],
                        "iscrowd": int(rng.random() < 0.15),
                    }
                )
                if rng.random() < 0.8:
                    mask = np.zeros((SIDE, SIDE), bool)
                    dy, dx = rng.integers(-2, 3, 2)
                    mask[max(0, y + dy) : y + height, max(0, x + dx) : x + width] = True
                    found.append((mask, round(float(rng.random()), 1), label))
            for _ in range(int(rng.integers(0, 3))):
                mask = np.zeros((SIDE, SIDE), bool)
                mask[: int(rng.integers(3, 20)), : int(rng.integers(3, 20))] = True
                found.append((mask, round(float(rng.random()), 1), int(rng.integers(0, 3))))
            self.objects.append(objects)
            self.found.append(found)

    def segment(self, frame: NDArray[np.uint8]) -> Instances:
        found = self.found[int(frame[0, 0, 0])]
        if not found:
            return Instances.empty(SIDE, SIDE, NAMES)
        masks, scores, labels = zip(*found, strict=True)
        return Instances.from_masks(np.stack(masks), scores, labels, NAMES)

    def evaluate(self, chosen: list[int]) -> Evaluation:
        """Evaluate a file that holds the chosen pictures, each as often as it is named."""
        pictures = [
            {"id": number, "file_name": f"{index}.png", "height": SIDE, "width": SIDE}
            for number, index in enumerate(chosen)
        ]
        annotations = [
            {**entry, "image_id": number} for number, index in enumerate(chosen) for entry in self.objects[index]
        ]
        document = {
            "images": pictures,
            "categories": [{"id": 10 + label, "name": name} for label, name in enumerate(NAMES)],
            "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations)],
        }
        file = self.folder / "instances.json"
        file.write_text(json.dumps(document))
        return evaluate(self.segment, file, self.folder)


@pytest.fixture
def crowded(tmp_path: Path) -> Callable[[int], Crowded]:
    return lambda seed: Crowded(tmp_path, seed)


@pytest.mark.parametrize("seed", range(6))
def test_every_picture_once_is_what_pycocotools_says(crowded: Callable[[int], Crowded], seed: int) -> None:
    result = crowded(seed).evaluate(list(range(PICTURES)))
    assert 5 < result.ap < 95
    once = np.ones((1, PICTURES), np.int64)
    np.testing.assert_allclose(result.matches.ap(once), [result.ap], rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_weights_are_what_pycocotools_says_of_repeated_pictures(crowded: Callable[[int], Crowded], seed: int) -> None:
    case = crowded(seed)
    rng = np.random.default_rng(seed)
    # Of equal scores within a picture, a repeated picture adds up the first ones again before the second ones.
    case.found = [[(mask, float(rng.random()), label) for mask, _, label in found] for found in case.found]
    matches = case.evaluate(list(range(PICTURES))).matches
    compared = 0
    for _ in range(5):
        chosen = sorted(int(i) for i in rng.integers(0, PICTURES, PICTURES))
        if any(not entry["iscrowd"] for index in chosen for entry in case.objects[index]):
            weights = np.bincount(chosen, minlength=PICTURES)[None]
            assert matches.ap(weights)[0] == pytest.approx(case.evaluate(chosen).ap, abs=1e-9)
            compared += 1
    assert compared >= 3


def test_many_rows_are_as_one_by_one(crowded: Callable[[int], Crowded], monkeypatch: pytest.MonkeyPatch) -> None:
    matches = crowded(3).evaluate(list(range(PICTURES))).matches
    weights = np.random.default_rng(0).multinomial(PICTURES, [1 / PICTURES] * PICTURES, size=40)
    single = [float(matches.ap(row[None])[0]) for row in weights]
    np.testing.assert_allclose(matches.ap(weights), single, rtol=0, atol=1e-10)
    monkeypatch.setattr("solov2_edge.runtime.matches._CHUNK", 1)
    np.testing.assert_allclose(matches.ap(weights), single, rtol=0, atol=1e-10)


def test_no_object_left_is_no_ap(crowded: Callable[[int], Crowded]) -> None:
    case = crowded(0)
    case.objects[0] = []
    result = case.evaluate(list(range(PICTURES)))
    weights = np.zeros((2, PICTURES), np.int64)
    weights[0, 0] = 3
    weights[1] = 1
    ap = result.matches.ap(weights)
    assert np.isnan(ap[0])
    assert ap[1] == pytest.approx(result.ap)


def test_nothing_found_is_zero(crowded: Callable[[int], Crowded]) -> None:
    case = crowded(2)
    case.found = [[] for _ in case.found]
    matches = case.evaluate(list(range(PICTURES))).matches
    assert matches.ap(np.ones((1, PICTURES), np.int64)).tolist() == [0.0]


def test_weights_of_another_set_are_refused(crowded: Callable[[int], Crowded]) -> None:
    matches = crowded(2).evaluate(list(range(PICTURES))).matches
    with pytest.raises(InputError, match=r"\(n, 8\)"):
        matches.ap(np.ones((1, 3), np.int64))
