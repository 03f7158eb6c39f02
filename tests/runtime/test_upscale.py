from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solov2_edge.runtime.upscale import axis_table, upscale_mask


def bilinear(values: NDArray[Any], result: int) -> NDArray[np.float64]:
    """Half-pixel bilinear resize of the rows of a 2-D array, pixel by pixel."""
    size, rows = len(values), []
    for i in range(result):
        position = max((i + 0.5) * size / result - 0.5, 0)
        near = min(int(position), size - 1)
        far, weight = min(near + 1, size - 1), position - near
        rows.append((1 - weight) * values[near] + weight * values[far])
    return np.array(rows)


sizes = st.integers(1, 24).flatmap(
    lambda quarter: st.tuples(st.just(quarter), st.integers(1, 4 * quarter), st.integers(1, 150))
)


@settings(deadline=None)
@given(sizes=sizes, seed=st.integers(0, 1000))
def test_table_equals_two_resizes_and_its_bounds_hold_every_tap(sizes: tuple[int, int, int], seed: int) -> None:
    quarter, resized, frame = sizes
    values = np.random.default_rng(seed).random((quarter, 3))
    table = axis_table(quarter, resized, frame)
    expected = bilinear(bilinear(values, 4 * quarter)[:resized], frame)
    np.testing.assert_allclose(table.weights @ values, expected, atol=2e-5)
    np.testing.assert_allclose(table.weights.sum(axis=1), 1, atol=1e-6)
    assert (np.diff(table.first) >= 0).all()
    assert (np.diff(table.end) >= 0).all()
    for row, first, end in zip(table.weights, table.first, table.end, strict=True):
        assert (np.flatnonzero(row) >= first).all()
        assert (np.flatnonzero(row) < end).all()


@settings(deadline=None)
@given(vertical=sizes, horizontal=sizes, seed=st.integers(0, 1000), scale=st.sampled_from([0.2, 3.0]))
def test_the_crop_holds_the_whole_mask(
    vertical: tuple[int, int, int], horizontal: tuple[int, int, int], seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(vertical[0], horizontal[0])) * scale - 2 * scale).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    rows, columns = np.nonzero(logits > 0)
    box = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1] if len(rows) else [0] * 4)
    (y0, x0), crop = upscale_mask(logits, box, axis_table(*vertical), axis_table(*horizontal), 0.5)
    frame = np.zeros((vertical[2], horizontal[2]), bool)
    frame[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    tall = bilinear(bilinear(probability, 4 * vertical[0])[: vertical[1]], vertical[2])
    full = bilinear(bilinear(tall.T, 4 * horizontal[0])[: horizontal[1]], horizontal[2]).T
    clear = np.abs(full - 0.5) > 1e-4
    np.testing.assert_array_equal(frame[clear], full[clear] > 0.5)


@pytest.mark.parametrize("value", [0.0, -1e-9])
def test_a_plateau_at_the_threshold_is_background(value: float) -> None:
    logits = np.full((7, 9), value, np.float32)
    logits[0, 0] = 5
    table = axis_table(7, 23, 301), axis_table(9, 31, 457)
    (y0, x0), crop = upscale_mask(logits, np.array([0, 7, 0, 9]), *table, 0.5)
    assert (y0, x0) == (0, 0)
    assert crop.shape == (301, 457)
    assert not crop[150:].any()
    assert not crop[:, 200:].any()
    assert crop[0, 0]
