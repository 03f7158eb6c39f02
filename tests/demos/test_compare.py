from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.compare import FIRST, SECOND, Disagreements, draw_disagreements, panels_of, side_by_side
from solov2_edge.errors import InputError
from solov2_edge.runtime.instances import Instances

TITLES = ("first", "second", "a title that is far too long for a panel of so few pixels and has to shrink")


def boxes(*rows: tuple[int, int, int, int], shape: tuple[int, int] = (60, 80)) -> Instances:
    masks = np.zeros((len(rows), *shape), bool)
    for mask, (y0, x0, y1, x1) in zip(masks, rows, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, np.linspace(0.9, 0.5, len(rows)), np.zeros(len(rows), int), ("ant",))


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    return np.full((60, 80, 3), (10, 60, 200), np.uint8)


def near(pixels: NDArray[np.uint8], bgr: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where a pixel is tinted in a colour: its channels are ordered as the colour's, not grey."""
    moved = pixels.astype(int) - pixels.astype(int).min(axis=-1, keepdims=True)
    wanted = np.array(bgr) - min(bgr)
    return np.asarray((moved.max(axis=-1) > 20) & (moved.argmax(axis=-1) == wanted.argmax()))


@pytest.mark.parametrize("scale", [1, 3])
def test_what_has_no_partner_is_filled_and_what_agrees_is_left_alone(frame: NDArray[np.uint8], scale: int) -> None:
    first = boxes((2, 2, 20, 20), (30, 40, 50, 60))
    second = boxes((2, 2, 20, 20), (2, 50, 20, 75))
    drawn = draw_disagreements(frame, first, second, Disagreements(missed=[1], extra=[1]), scale=scale)
    assert drawn.shape == (60 * scale, 80 * scale, 3)
    assert near(drawn[40 * scale, 50 * scale], FIRST)
    assert near(drawn[10 * scale, 60 * scale], SECOND)
    agreed = drawn[4 * scale : 18 * scale, 4 * scale : 18 * scale]
    assert not np.ptp(agreed, axis=-1).any()  # grey
    assert agreed.max() < 60  # and dimmed


def test_of_a_pair_with_other_outlines_both_are_drawn_and_neither_filled(frame: NDArray[np.uint8]) -> None:
    first, second = boxes((10, 10, 40, 40)), boxes((10, 10, 40, 60))
    drawn = draw_disagreements(frame, first, second, Disagreements(loose=[(0, 0)]))
    assert not np.ptp(drawn[15:35, 15:35], axis=-1).any()
    assert near(drawn[20, 39], FIRST)
    assert near(drawn[20, 59], SECOND)


def test_masks_at_the_border_and_empty_ones_are_drawn(frame: NDArray[np.uint8]) -> None:
    first = boxes((0, 0, 60, 80), (0, 0, 0, 0))
    drawn = draw_disagreements(frame, first, boxes(), Disagreements(missed=[0, 1]), scale=2)
    assert near(drawn, FIRST).mean() > 0.95


def test_three_panels_of_one_height(frame: NDArray[np.uint8]) -> None:
    first, second = boxes((2, 2, 20, 20)), boxes((2, 2, 20, 22), (30, 30, 50, 50))
    page = side_by_side(frame, first, second, Disagreements(extra=[1]), TITLES, numbers=([4], [4, 9]))
    panel = 80 * 8  # magnified towards 640 pixels
    assert page.shape[1] == 3 * panel + 2 * 12
    height = 60 * 8
    left, middle = page[-height:, :panel], page[-height:, panel + 12 : 2 * panel + 12]
    np.testing.assert_array_equal(left[80, 80], middle[80, 80])  # partners share a colour
    assert (page[: page.shape[0] - height] > 200).any()  # the titles


def test_another_frame_is_refused(frame: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="both results must be of this"):
        draw_disagreements(frame, boxes(), boxes(shape=(61, 80)), Disagreements())


def test_disagreements_count() -> None:
    assert len(Disagreements()) == 0
    assert len(Disagreements(missed=[1], extra=[1, 2], loose=[(0, 0)])) == 4


def test_the_panels_come_back_without_their_titles() -> None:
    frame, found = np.full((60, 90, 3), 128, np.uint8), boxes((5, 5, 30, 30), shape=(60, 90))
    apart = Disagreements(missed=[0])
    overlay = side_by_side(frame, found, found, apart, ("a", "b", "a title that is far too long for its panel" * 9))
    panels = panels_of(overlay)
    scale = 640 // 90
    assert [panel.shape for panel in panels] == [(60 * scale, 90 * scale, 3)] * 3
    assert np.array_equal(panels[0], panels[1])
    assert np.array_equal(panels[2], draw_disagreements(frame, found, found, apart, scale=scale))
    for wrong in (overlay[:, :-1], overlay[:5]):
        with pytest.raises(InputError, match="expected"):
            panels_of(wrong)
