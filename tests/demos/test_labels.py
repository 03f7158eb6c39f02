from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.demos.labels import Tag, draw_tag, place_tag, text_scale


def test_a_tag_stands_above_a_large_instance() -> None:
    tag = place_tag("cell 0.90", (100, 200, 500, 500), (600, 800), [], 0.5)
    assert tag is not None
    assert (tag.x, tag.y + tag.height) == (100, 200)


@pytest.mark.parametrize(("anchor", "left"), [(0.0, 100), (490.0, None), (300.0, None)])
def test_a_tag_follows_its_anchor_inside_the_box(anchor: float, left: int | None) -> None:
    tag = place_tag("cell 0.90", (100, 200, 500, 500), (600, 800), [], 0.5, anchor)
    assert tag is not None
    if left is not None:
        assert tag.x == left
    else:
        assert abs(min(anchor, 500 - tag.width / 2) - (tag.x + tag.width / 2)) <= 1


def test_a_tag_never_leaves_the_picture() -> None:
    for box in ((0, 0, 300, 300), (600, 500, 800, 600), (0, 400, 300, 600), (500, 0, 800, 200)):
        tag = place_tag("cell 0.90", box, (600, 800), [], 0.5)
        assert tag is not None
        assert tag.x >= 0
        assert tag.y >= 0
        assert tag.x + tag.width <= 800
        assert tag.y + tag.height <= 600


def test_a_small_instance_gets_no_tag() -> None:
    assert place_tag("nucleus 0.90", (100, 100, 120, 120), (600, 800), [], 0.5) is None


def test_a_tag_wider_than_the_picture_is_left_out() -> None:
    assert place_tag("cell " * 20, (0, 0, 60, 60), (60, 60), [], 0.5) is None


def test_tags_make_way_for_earlier_ones() -> None:
    box = (100.0, 200.0, 500.0, 500.0)
    placed: list[Tag] = []
    for _ in range(3):
        tag = place_tag("cell 0.90", box, (600, 800), placed, 0.5)
        assert tag is not None
        placed.append(tag)
    assert len({tag.y for tag in placed}) == 3
    assert place_tag("cell 0.90", box, (600, 800), placed, 0.5) is None


def test_text_grows_with_the_picture_within_bounds() -> None:
    scales = [text_scale(side, side) for side in (1, 400, 1080, 2160, 100_000)]
    assert scales == sorted(scales)
    assert scales[0] > 0.3
    assert scales[-1] <= 2.0


def test_drawing_stays_inside_the_tag() -> None:
    picture = np.zeros((100, 300, 3), np.uint8)
    tag = place_tag("cell 0.90", (20, 40, 290, 100), (100, 300), [], 0.5)
    assert tag is not None
    draw_tag(picture, tag, (200, 100, 50))
    inside = np.zeros((100, 300), np.bool_)
    inside[tag.y : tag.y + tag.height, tag.x : tag.x + tag.width] = True
    assert picture[inside].any()
    assert not picture[~inside].any()
