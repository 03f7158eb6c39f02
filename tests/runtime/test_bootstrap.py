from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.bootstrap import Interval, ap_interval, doubt, drop_interval, pictures_needed
from solov2_edge.runtime.matches import CategoryMatches, Matches

RECALLS = np.linspace(0.0, 1.0, 101)


def found(right: list[bool], pictures: range | None = None) -> Matches:
    """One object and one detection a picture, of falling score, right or wrong at every threshold."""
    count = len(right)
    matched = np.tile(np.array(right), (10, 1))
    category = CategoryMatches(np.arange(count), matched, np.ones_like(matched), np.ones(count, np.int64))
    return Matches(tuple(pictures or range(count)), (category,), RECALLS)


def halves(count: int) -> Matches:
    return found([index % 2 == 0 for index in range(count)])


def test_all_right_leaves_no_doubt() -> None:
    interval = ap_interval(found([True] * 20))
    assert interval == Interval(100.0, 100.0, 20)


def test_the_interval_holds_ap_and_narrows_with_the_root_of_the_pictures() -> None:
    few, many = halves(50), halves(800)
    narrow, wide = ap_interval(many), ap_interval(few)
    assert narrow is not None
    assert wide is not None
    ap = float(many.ap(np.ones((1, 800), np.int64))[0])
    assert narrow.low < ap < narrow.high
    assert wide.half_width / narrow.half_width == pytest.approx(4, rel=0.15)


def test_its_width_is_that_of_the_textbook() -> None:
    # AP of right detections placed before wrong ones is linear in their share, a mean of independent draws.
    share, count = 0.5, 400
    interval = ap_interval(found([index < share * count for index in range(count)]))
    assert interval is not None
    assert interval.half_width == pytest.approx(100 * 1.96 * (share * (1 - share) / count) ** 0.5, rel=0.1)


def test_a_drop_is_paired() -> None:
    baseline = halves(200)
    same = drop_interval(baseline, halves(200))
    assert same == Interval(0.0, 0.0, 200)  # although either AP alone is uncertain by several points
    worse = found([index % 2 == 0 and index % 20 != 0 for index in range(200)])
    interval, alone = drop_interval(baseline, worse), ap_interval(baseline)
    assert interval is not None
    assert alone is not None
    once = np.ones((1, 200), np.int64)
    assert 0 < interval.low < baseline.ap(once)[0] - worse.ap(once)[0] < interval.high
    assert interval.half_width < alone.half_width


def test_intervals_repeat() -> None:
    assert ap_interval(halves(60)) == ap_interval(halves(60))


def test_other_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="same pictures, got 20 and 20 that differ"):
        drop_interval(found([True] * 20), found([True] * 20, range(5, 25)))


def test_few_pictures_give_no_interval() -> None:
    assert ap_interval(halves(9)) is None
    assert drop_interval(halves(9), halves(9)) is None
    assert "too few to say" in doubt(None, 0.5, 9)


def test_pictures_needed() -> None:
    assert pictures_needed(Interval(-1.0, 1.0, 54), 0.5) == 216
    with pytest.raises(InputError, match="above 0"):
        pictures_needed(Interval(-1.0, 1.0, 54), 0.0)


@pytest.mark.parametrize(
    ("interval", "max_drop", "said"),
    [
        (Interval(-0.4, 0.6, 54), 0.5, ""),
        (Interval(-1.0, 1.0, 54), 0.5, "cannot support a claim of 0.5: about 220 pictures like these would"),
        (Interval(-1.0, 1.0, 54), 0.0, "cannot support a claim of no drop at all"),
        (Interval(0.0, 0.0, 54), 0.0, ""),
        (Interval(4.5, 8.2, 54), 0.5, ""),  # it has failed, whatever the pictures
        (Interval(-8.2, -4.5, 54), 0.5, ""),  # and here it has passed
    ],
)
def test_what_is_doubted(interval: Interval, max_drop: float, said: str) -> None:
    sentence = doubt(interval, max_drop, 54)
    assert said in sentence
    assert bool(said) == bool(sentence)
