from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.demos.colours import colour, shade


def test_a_number_always_has_the_same_colour_in_range() -> None:
    for number in (0, 1, 7, 1000, 2**40):
        assert colour(number) == colour(number)
        assert all(isinstance(value, int) and 0 <= value <= 255 for value in colour(number))


def test_neighbouring_numbers_are_far_apart() -> None:
    colours = np.array([colour(number) for number in range(60)], float)
    for step in (1, 2, 3):
        assert np.linalg.norm(colours[step:] - colours[:-step], axis=1).min() > 40


def test_all_of_a_hundred_differ_and_none_is_dark_or_white() -> None:
    colours = [colour(number) for number in range(100)]
    assert len(set(colours)) == 100
    assert all(max(c) > 100 and sum(c) < 3 * 240 for c in colours)


@pytest.mark.parametrize(
    ("towards", "amount", "expected"),
    [(255, 0.0, (10, 20, 30)), (255, 1.0, (255, 255, 255)), (0, 0.5, (5, 10, 15)), (0, 1.0, (0, 0, 0))],
)
def test_shade_mixes(towards: int, amount: float, expected: tuple[int, int, int]) -> None:
    assert shade((10, 20, 30), towards, amount) == expected
