"""The plot of a sensitivity analysis: what is drawn where, and how much."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.sensitivity_plot import COLOURS, FIRST, HEAD, MOST, ROW, SECOND, LayerNoise, draw_sensitivity
from solov2_edge.errors import InputError

WHOLE = {"class_scores": 4.0, "kernels": 2.0, "mask_features": 1.0}


def layer(name: str, factor: float, **figures: float) -> LayerNoise:
    return LayerNoise(
        name,
        {output: factor * value for output, value in WHOLE.items()},
        dict.fromkeys(WHOLE, 50 * factor),
        12.5,
        **figures,
    )


def extent(picture: NDArray[np.uint8], output: str, row: int, panel: tuple[int, int]) -> int:
    """Pixels of an output's colour along its bar in a row of a panel."""
    part = picture[HEAD + row * ROW : HEAD + (row + 1) * ROW, panel[0] : panel[1] + 1].astype(int)
    return int((np.abs(part - np.array(COLOURS[output])).max(axis=2) < 8).any(axis=0).sum())


def test_bars_are_as_long_as_their_figures() -> None:
    picture = draw_sensitivity("title", "said", WHOLE, [layer("a", 1.0), layer("b", 0.5), layer("c", -0.1)])
    assert picture.dtype == np.uint8
    assert len(picture) == HEAD + 4 * ROW + 40
    whole = FIRST[1] - FIRST[0]
    for row, part in ((0, 1.0), (1, 1.0), (2, 0.5)):
        assert extent(picture, "class_scores", row, FIRST) == pytest.approx(whole * part, abs=4)
        assert extent(picture, "kernels", row, FIRST) == pytest.approx(whole * part / 2, abs=4)
    first, second, below = (extent(picture, "kernels", row, SECOND) for row in (1, 2, 3))
    assert first == pytest.approx(2 * second, abs=4)
    assert second == pytest.approx(5 * below, abs=12)  # negative: drawn to the left of zero
    assert extent(picture, "kernels", 0, SECOND) == 0


def test_points_are_shown_where_there_are_any() -> None:
    without = draw_sensitivity("title", "said", WHOLE, [layer("a", 1.0)])
    given = draw_sensitivity("title", "said", WHOLE, [layer("a", 1.0, lost=0.3, regained=-0.1)])
    assert without.shape == given.shape
    changed = np.flatnonzero((without != given).any(axis=(0, 2)))
    assert changed.min() > SECOND[1]


def test_the_worst_are_shown_and_long_names_stay_on_the_page() -> None:
    picture = draw_sensitivity("title", "said", WHOLE, [layer("x" * 200, 1.0) for _ in range(MOST + 5)])
    assert len(picture) == HEAD + (MOST + 1) * ROW + 40
    assert (picture[:, :20] > 230).all()
    with pytest.raises(InputError, match="got none"):
        draw_sensitivity("title", "said", WHOLE, [])
