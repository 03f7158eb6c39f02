from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from solov2_edge.demos.tracks import MOST, PATIENCE, Tracker
from solov2_edge.errors import InputError
from solov2_edge.runtime.instances import Instances

Make = Callable[..., Instances]
ONE = ("cell",)


def square(x: int, y: int, side: int = 10) -> tuple[int, int, int, int]:
    return x, y, x + side, y + side


def test_objects_keep_their_numbers_whatever_their_order(make: Make) -> None:
    tracker = Tracker()
    first = tracker.update(make(60, 200, [square(10, 10), square(60, 10), square(110, 10)], ONE), 0)
    assert first.tolist() == [1, 2, 3]
    assert first.dtype == np.int64
    # Scores fall in the order of the boxes, so that the ranks are turned round here.
    second = tracker.update(make(60, 200, [square(112, 12), square(62, 12), square(12, 12)], ONE), 1)
    assert second.tolist() == [3, 2, 1]


def test_a_new_object_gets_a_new_number_and_a_gone_one_keeps_its_own_for_a_while(make: Make) -> None:
    tracker = Tracker(patience=2)
    a, b = square(10, 10), square(80, 10)
    assert tracker.update(make(60, 200, [a, b], ONE), 0).tolist() == [1, 2]
    for index in (1, 2):
        assert tracker.update(make(60, 200, [a], ONE), index).tolist() == [1]
    assert tracker.update(make(60, 200, [a, b], ONE), 3).tolist() == [1, 2]
    for index in (4, 5, 6):
        tracker.update(make(60, 200, [a], ONE), index)
    assert tracker.update(make(60, 200, [a, b], ONE), 7).tolist() == [1, 3]


def test_frames_without_instances_are_missed_frames(make: Make) -> None:
    tracker = Tracker(patience=3)
    tracker.update(make(60, 200, [square(10, 10)], ONE), 0)
    for index in (1, 2, 3):
        found = tracker.update(make(60, 200, []), index)
        assert found.shape == (0,)
    assert tracker.update(make(60, 200, [square(10, 10)], ONE), 4).tolist() == [1]
    for index in range(5, 9):
        tracker.update(make(60, 200, []), index)
    assert len(tracker) == 0


def test_classes_are_followed_apart(make: Make) -> None:
    tracker = Tracker()
    # `make` gives labels in turn, so both squares are of different classes at one place.
    assert tracker.update(make(60, 200, [square(10, 10), square(10, 10)]), 0).tolist() == [1, 2]
    assert tracker.update(make(60, 200, [square(10, 10), square(10, 10)]), 1).tolist() == [1, 2]
    # The first is a "cell" again; "dust" is missing.
    assert tracker.update(make(60, 200, [square(11, 10)]), 2).tolist() == [1]


def test_an_object_that_moves_by_more_than_itself_is_followed_by_its_speed(make: Make) -> None:
    tracker = Tracker()
    steps = [0, 4, 16, 28, 40, 52, 64]  # 12 pixels per frame from the second on, 10 wide
    seen = [tracker.update(make(60, 200, [square(20 + x, 10)], ONE), index).tolist() for index, x in enumerate(steps)]
    assert seen[:2] == [[1], [1]]
    standing = Tracker()
    fixed = [(20, 20, 40, 40), (28, 20, 48, 40), (36, 20, 56, 40), (44, 20, 64, 40)]
    for index, box in enumerate(fixed):  # 8 of 20 pixels per frame: the speed is learnt here
        assert standing.update(make(60, 200, [box], ONE), index).tolist() == [1]
    # Five frames were dropped: 48 pixels on, without any overlap with where it was.
    assert standing.update(make(60, 200, [(92, 20, 112, 40)], ONE), 9).tolist() == [1]


def test_a_crossing_does_not_swap_the_numbers(make: Make) -> None:
    tracker = Tracker()
    for index in range(16):
        left, right = (10 + 8 * index, 10, 30 + 8 * index, 30), (130 - 8 * index, 16, 150 - 8 * index, 36)
        numbers = tracker.update(make(60, 200, [left, right], ONE), index).tolist()
        assert numbers == [1, 2], index


def test_one_track_takes_one_instance(make: Make) -> None:
    tracker = Tracker()
    tracker.update(make(60, 200, [square(10, 10, 20)], ONE), 0)
    numbers = tracker.update(make(60, 200, [(14, 10, 34, 30), (10, 10, 30, 29)], ONE), 1).tolist()
    assert numbers == [2, 1]


def test_masks_decide_and_not_boxes() -> None:
    rows, columns = np.mgrid[:40, :40]
    upper, lower = rows + 4 < columns, rows > columns + 4  # triangles with nearly one box
    tracker = Tracker()
    tracker.update(Instances.from_masks(np.stack([upper, lower]), [0.9, 0.8], [0, 0], ONE), 0)
    assert tracker.update(Instances.from_masks(np.stack([lower, upper]), [0.9, 0.8], [0, 0], ONE), 1).tolist() == [2, 1]


def test_another_size_of_frame_starts_over(make: Make) -> None:
    tracker = Tracker()
    assert tracker.update(make(60, 200, [square(10, 10)], ONE), 0).tolist() == [1]
    assert tracker.update(make(50, 200, [square(10, 10)], ONE), 1).tolist() == [2]


def test_the_same_frame_again_ages_nothing(make: Make) -> None:
    tracker = Tracker(patience=1)
    tracker.update(make(60, 200, [square(10, 10), square(80, 10)], ONE), 0)
    for _ in range(5):
        assert tracker.update(make(60, 200, [square(10, 10)], ONE), 1).tolist() == [1]
    assert tracker.update(make(60, 200, [square(10, 10), square(80, 10)], ONE), 2).tolist() == [1, 2]


def test_memory_does_not_grow(make: Make) -> None:
    tracker = Tracker()
    last = 0
    for index in range(30):  # forty new objects in each frame, never where one was
        boxes = [(x, y, x + 2, y + 2) for x in range(index % 3 * 4, 160, 16) for y in range(index // 3 * 3, 40, 12)][
            :40
        ]
        numbers = tracker.update(make(60, 200, boxes, ONE), index * 1000)
        assert len(set(numbers.tolist())) == len(boxes)
        last = max(last, int(numbers.max()))
        assert len(tracker) <= MOST
    assert last > MOST
    for index in range(PATIENCE + 1):
        tracker.update(make(60, 200, []), 30_000 + index)
    assert len(tracker) == 0


def test_an_empty_mask_is_a_track_of_its_own_each_time() -> None:
    empty = Instances.from_masks(np.zeros((1, 20, 20), np.bool_), [0.5], [0], ONE)
    tracker = Tracker()
    assert tracker.update(empty, 0).tolist() == [1]
    assert tracker.update(empty, 1).tolist() == [2]


@pytest.mark.parametrize("options", [{"least_iou": 0.0}, {"least_iou": 1.5}, {"patience": -1}, {"patience": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Tracker(**options)  # type: ignore[arg-type]
