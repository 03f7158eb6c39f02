"""The source for machines without a camera: the same shapes every time, at a camera's pace."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_shapes import ShapeSource, draw_shapes


def test_the_same_numbers_give_the_same_pixels_and_shapes_move() -> None:
    first, again = list(ShapeSource(96, 64, 0, 5)), list(ShapeSource(96, 64, 0, 5))
    assert [frame.index for frame in first] == list(range(5))
    for one, other in zip(first, again, strict=True):
        assert one.image.shape == (64, 96, 3)
        np.testing.assert_array_equal(one.image, other.image)
    for one, following in itertools.pairwise(first):
        assert not np.array_equal(one.image, following.image)


@pytest.mark.parametrize("shapes", [0, 1, 3, 40])
def test_as_many_shapes_as_wanted_stay_inside(shapes: int) -> None:
    for index in (0, 1, 1000, 123_456_789):
        image = draw_shapes(160, 120, index, shapes)
        colours = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()} - {(40, 40, 40)}
        assert bool(colours) == bool(shapes)
    assert draw_shapes(160, 120, 0, 3).any(axis=(0, 2)).all()


def test_a_paced_source_gives_no_frame_before_it_is_due() -> None:
    with ShapeSource(32, 32, 100, 6) as source:
        assert source.mode is Mode.LIVE
        start = time.perf_counter()
        for frame in source:
            assert frame.captured - start >= frame.index / 100 - 1e-3
            assert frame.seconds == frame.index / 100
        assert frame.index == 5
        assert source.status().state == "ended"


def test_an_unpaced_source_is_no_camera() -> None:
    source = ShapeSource(32, 32, 0, 2)
    assert (source.mode, source.fps) == (Mode.VIDEO, None)


def test_closing_ends_it_while_it_waits() -> None:
    source = ShapeSource(32, 32, 0.01)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    assert source.status().state == "closed"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"width": 8}, "16 x 16"),
        ({"height": 9000}, "9000"),
        ({"fps": -1}, "-1"),
        ({"fps": float("nan")}, "nan"),
        ({"frames": 0}, "at least 1"),
        ({"shapes": -1}, "-1"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ShapeSource(**numbers)
