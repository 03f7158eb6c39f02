"""Value counts: exact merging of bins, and what each method keeps."""

from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.converters.value_ranges import METHODS, ValueCounts
from solov2_edge.errors import InputError


def counts(*pictures: np.ndarray) -> ValueCounts:
    found = ValueCounts()
    for values in pictures:
        found.add(values.astype(np.float32))
    return found


def test_minmax_is_exact_and_zero_is_always_within() -> None:
    found = counts(np.array([1.5, 2.0]), np.array([[3.25], [1.0]]))
    assert found.range("minmax") == (0.0, 3.25)
    assert counts(np.array([-2.0, -1.0])).range("minmax") == (-2.0, 0.0)


def test_minmax_sees_what_the_sample_passes_over() -> None:
    values = np.zeros(200_001)
    values[1] = -7
    assert counts(values).range("minmax") == (-7.0, 0.0)


def test_mean_minmax_is_the_mean_over_pictures() -> None:
    assert counts(np.array([-1.0, 4.0]), np.array([-3.0, 2.0])).range("mean-minmax") == (-2.0, 3.0)


def test_percentile_drops_a_lone_outlier_and_keeps_the_rest() -> None:
    generator = np.random.default_rng(0)
    pictures = [generator.uniform(-1, 1, 60_000) for _ in range(8)]
    pictures[3][17] = 1000.0
    lowest, highest = counts(*pictures).range("percentile")
    assert lowest == pytest.approx(-1, abs=0.01)
    assert 0.99 < highest < 1.3  # a bin is as wide as the outlier made it
    assert counts(*pictures).range("minmax")[1] == 1000.0


def test_a_growing_range_keeps_every_count() -> None:
    generator = np.random.default_rng(1)
    parts = [generator.normal(0, 10.0**power, 5_000) for power in range(-3, 4)]
    together, apart = np.concatenate(parts), counts(*parts)
    for method in ("percentile", "mse"):
        for got, want in zip(apart.range(method), counts(together).range(method), strict=True):
            assert got == pytest.approx(want, rel=0.02)


@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_mse_finds_a_range_of_least_error(spread: float) -> None:
    generator = np.random.default_rng(2)
    values = np.concatenate([generator.normal(0, 1, 60_000), generator.normal(0, spread, 60)])

    def error(lowest: float, highest: float) -> float:
        step = (highest - lowest) / 255
        rounded = np.round(np.clip(values, lowest, highest) / step) * step
        return float(((rounded - values) ** 2).mean())

    lowest, highest = counts(values).range("mse")
    best = min(error(-cut, cut) for cut in np.geomspace(1, 200, 100))
    assert error(lowest, highest) < 1.1 * best


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_tensor_has_a_range(method: str) -> None:
    lowest, highest = counts(np.full(10, 0.5)).range(method)
    assert lowest == 0.0
    assert highest == pytest.approx(0.5, rel=0.01)
    assert counts(np.zeros(10)).range(method) == (0.0, 0.0)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(InputError, match="infinite or undefined"):
        counts(np.array([0.0, np.nan]))
    with pytest.raises(InputError, match="got none"):
        ValueCounts().range("minmax")
    with pytest.raises(InputError, match="must be one of minmax"):
        counts(np.ones(2)).range("entropie")


def test_minus_infinity_pads_maxima_and_does_not_count() -> None:
    assert counts(np.array([-np.inf, 1.0, 2.0])).range("minmax") == (0.0, 2.0)
    with pytest.raises(InputError, match="infinite"):
        counts(np.array([np.inf]))
