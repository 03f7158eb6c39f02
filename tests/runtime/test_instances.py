from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.rle import decode_rle

NAMES = ("cat", "dog")


def three() -> tuple[NDArray[np.bool_], Instances]:
    """Masks of 1, 2 and 3 pixels in a 4 x 5 frame, given out of order of their scores."""
    masks = np.zeros((3, 4, 5), bool)
    masks[0, 0, 0] = masks[1, 1, 1:3] = masks[2, 2, 1:4] = True
    return masks, Instances.from_masks(masks, [0.2, 0.9, 0.5], [0, 1, 1], NAMES)


def test_from_masks_sorts_by_falling_score() -> None:
    masks, instances = three()
    assert instances.scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert instances.labels.tolist() == [1, 1, 0]
    assert instances.names == ["dog", "dog", "cat"]
    np.testing.assert_array_equal(instances.masks, masks[[1, 2, 0]])
    assert instances.areas.tolist() == [2, 3, 1]
    assert instances.boxes.tolist() == [[1, 1, 3, 2], [1, 2, 4, 3], [0, 0, 1, 1]]
    assert instances.frame_shape == (4, 5)


def test_equal_scores_keep_their_order() -> None:
    masks = np.zeros((3, 2, 2), bool)
    assert Instances.from_masks(masks, [0.5, 0.5, 0.7], [0, 1, 0], NAMES).labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("key", "areas"),
    [
        (0, [2]),
        (-1, [1]),
        (np.int64(1), [3]),
        (slice(1, None), [3, 1]),
        (slice(None, None, -1), [2, 3, 1]),
        (np.array([True, False, True]), [2, 1]),
        ([False, False, False], []),
        ([2, 0], [2, 1]),
        (np.array([1], np.uint8), [3]),
        ([], []),
    ],
)
def test_indexing_gives_sorted_instances(key: Any, areas: list[int]) -> None:
    chosen = three()[1][key]
    assert isinstance(chosen, Instances)
    assert chosen.areas.tolist() == areas
    assert chosen.class_names == NAMES


@pytest.mark.parametrize("key", [3, -4, [0, 5], np.array([True, False])])
def test_indices_beyond_the_instances_raise_index_error(key: Any) -> None:
    with pytest.raises(IndexError):
        three()[1][key]


@pytest.mark.parametrize("key", [[0.5], [[0, 1]], ["cat"]])
def test_other_keys_are_refused(key: Any) -> None:
    with pytest.raises(InputError, match="indexed by"):
        three()[1][key]


def test_iteration_yields_each_instance() -> None:
    parts = list(three()[1])
    assert [len(part) for part in parts] == [1, 1, 1]
    assert [part.names[0] for part in parts] == ["dog", "dog", "cat"]


@pytest.mark.parametrize(
    "empty", [Instances.empty(4, 5, NAMES), Instances.from_masks(np.zeros((0, 4, 5), bool), [], [], NAMES)]
)
def test_no_instance_works_everywhere(empty: Instances) -> None:
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.masks.shape == (0, 4, 5)
    assert empty.masks.dtype == np.bool_
    assert empty.boxes.shape == (0, 4)
    assert empty.boxes.dtype == np.float32
    assert empty.scores.dtype == np.float32
    assert empty.labels.dtype == np.int64
    results: list[list[Any]] = [empty.names, empty.rle(), empty.polygons(), empty.to_coco(1)]
    assert results == [[], [], [], []]
    assert empty.to_labelme("a.png")["shapes"] == []
    assert len(empty[:3]) == len(empty[np.zeros(0, bool)]) == 0


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_holds_the_masks(compressed: bool) -> None:
    _, instances = three()
    rles = instances.rle(compressed=compressed)
    assert {type(rle["counts"]) for rle in rles} == {str if compressed else list}
    np.testing.assert_array_equal([decode_rle(rle) for rle in rles], instances.masks)


def test_polygons_lie_in_frame_pixels() -> None:
    polygons = three()[1].polygons()
    assert [len(parts) for parts in polygons] == [1, 1, 1]
    boxes = [[*parts[0].min(axis=0), *parts[0].max(axis=0)] for parts in polygons]
    np.testing.assert_array_equal(boxes, three()[1].boxes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.5]}, "one score and one label"),
        ({"labels": [0, 1, 2]}, "2 class names"),
        ({"labels": [0, -1, 1]}, "2 class names"),
        ({"labels": [0.0, 1.0, 1.0]}, "whole numbers"),
        ({"scores": [0.5, float("nan"), 0.1]}, "NaN"),
        ({"masks": np.zeros((3, 4, 5))}, "bool"),
    ],
)
def test_from_masks_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    values = {"masks": three()[0], "scores": [0.2, 0.9, 0.5], "labels": [0, 1, 1], "class_names": NAMES}
    with pytest.raises(InputError, match=message):
        Instances.from_masks(**{**values, **change})


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros(3), np.zeros(3, np.int64), "float32"),
        (np.zeros(2, np.float32), np.zeros(3, np.int64), "one per mask"),
        (np.zeros(3, np.float32), np.zeros(3, np.int32), "int64"),
        (np.array([0.1, 0.2, 0.3], np.float32), np.zeros(3, np.int64), "must fall"),
    ],
)
def test_construction_is_validated(scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Instances(scores, labels, NAMES, three()[1].cropped)
