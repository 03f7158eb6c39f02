from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.colours import colour
from solov2_edge.demos.draw import draw_instances
from solov2_edge.errors import InputError
from solov2_edge.runtime.instances import Instances

Make = Callable[..., Instances]
Grey = Callable[[int, int], NDArray[np.uint8]]


def test_the_frame_is_left_alone_and_only_instances_change(make: Make, grey: Grey) -> None:
    frame = grey(60, 80)
    drawn = draw_instances(frame, make(60, 80, [(20, 10, 40, 30)]), labels=False)
    assert (frame == 128).all()
    changed = (drawn != 128).any(axis=2)
    assert changed[10:30, 20:40].all()
    # The outline is at most two pixels wide around the mask.
    changed[8:32, 18:42] = False
    assert not changed.any()


def test_no_instances_give_a_copy(make: Make, grey: Grey) -> None:
    frame = grey(20, 30)
    drawn = draw_instances(frame, make(20, 30, []))
    assert (drawn == frame).all()
    assert not np.shares_memory(drawn, frame)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (2, 3)])
@pytest.mark.parametrize("scale", [1, 3])
def test_the_smallest_pictures(make: Make, grey: Grey, height: int, width: int, scale: int) -> None:
    drawn = draw_instances(grey(height, width), make(height, width, [(0, 0, width, height)]), scale=scale)
    assert drawn.shape == (height * scale, width * scale, 3)
    assert (drawn != 128).any()


def test_an_empty_mask_is_passed_over(grey: Grey) -> None:
    instances = Instances.from_masks(np.zeros((1, 20, 20), np.bool_), [0.5], [0], ("cell",))
    assert (draw_instances(grey(20, 20), instances, labels=False) == 128).all()


def test_a_mask_covering_everything(make: Make, grey: Grey) -> None:
    drawn = draw_instances(grey(40, 40), make(40, 40, [(0, 0, 40, 40)]), labels=False)
    assert (drawn[5:35, 5:35] == drawn[20, 20]).all()


@pytest.mark.parametrize("alpha", [0.0, 0.38, 0.5, 1.0])
def test_every_level_is_mixed_with_the_colour(make: Make, alpha: float) -> None:
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2).repeat(4, axis=0).repeat(4, axis=1)
    drawn = draw_instances(frame, make(64, 64, [(0, 0, 64, 64)]), labels=False, alpha=alpha)
    inside = (slice(4, -4), slice(4, -4))  # of the outline
    mixed = frame[inside] + alpha * (np.array(colour(0)) - frame[inside].astype(np.float64))
    assert np.abs(drawn[inside] - mixed).max() <= 0.5 + 1e-4


def test_alpha_is_the_opacity_of_the_tint(make: Make, grey: Grey) -> None:
    instances = make(40, 40, [(5, 5, 35, 35)])
    bare = draw_instances(grey(40, 40), instances, alpha=0.0, labels=False)
    half = draw_instances(grey(40, 40), instances, alpha=0.5, labels=False)
    full = draw_instances(grey(40, 40), instances, alpha=1.0, labels=False)
    middle = np.s_[20, 20]
    assert (bare[middle] == 128).all()
    assert np.abs(half[middle] - (full[middle].astype(float) + 128) / 2).max() <= 0.5


def test_a_small_instance_stays_visible_on_a_large_one(make: Make, grey: Grey) -> None:
    boxes = [(18, 18, 24, 24), (5, 5, 55, 55)]
    for order in (boxes, boxes[::-1]):
        drawn = draw_instances(grey(60, 60), make(60, 60, order), labels=False, alpha=1.0)
        assert (drawn[21, 21] != drawn[45, 45]).any()


def test_numbers_pick_the_colours(make: Make, grey: Grey) -> None:
    instances = make(40, 80, [(5, 5, 35, 35), (45, 5, 75, 35)])
    same = draw_instances(grey(40, 80), instances, numbers=[4, 4], labels=False)
    assert (same[20, 20] == same[20, 60]).all()
    other = draw_instances(grey(40, 80), instances, numbers=[4, 5], labels=False)
    assert (other[20, 20] == same[20, 20]).all()
    assert (other[20, 60] != same[20, 60]).any()


def test_tags_appear_only_where_they_fit(make: Make, grey: Grey) -> None:
    large, small = make(600, 800, [(100, 200, 500, 500)]), make(600, 800, [(100, 200, 120, 220)])
    for instances, tagged in ((large, True), (small, False)):
        with_tags = draw_instances(grey(600, 800), instances)
        without = draw_instances(grey(600, 800), instances, labels=False)
        assert (with_tags != without).any() == tagged


def test_magnified_masks_lie_where_they_were(make: Make, grey: Grey) -> None:
    instances = make(40, 60, [(10, 12, 30, 28)])
    drawn = draw_instances(grey(40, 60), instances, scale=4, labels=False)
    changed = (drawn != 128).any(axis=2)
    ys, xs = np.nonzero(changed)
    expected = np.array([10, 12, 30, 28]) * 4
    assert np.abs(np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - expected).max() <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha must be between 0 and 1"),
        ({"alpha": float("nan")}, "alpha must be between 0 and 1"),
        ({"scale": 0}, "scale must be a whole number"),
        ({"numbers": [1]}, "numbers must hold one per instance"),
    ],
)
def test_options_out_of_range_are_refused(make: Make, grey: Grey, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_instances(grey(20, 20), make(20, 20, [(1, 1, 5, 5), (6, 6, 9, 9)]), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frame", [np.zeros((10, 20), np.uint8), np.zeros((10, 20, 3), np.float32), np.zeros((20, 10, 3), np.uint8)]
)
def test_another_frame_is_refused(make: Make, frame: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError):
        draw_instances(frame, make(10, 20, []))
