"""Rounding by reconstruction: within one step, never worse than the nearest steps, and better where it can be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.converters.scale import quantise_weight
from solov2_edge.converters.weight_rounding import round_by_moments


def case(
    seed: int, inputs: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    weight = np.random.default_rng(seed).normal(0, 0.1, (6, inputs.shape[1])).astype(np.float32)
    return weight, quantise_weight(weight)[1], inputs.T @ inputs


def errors(weight: NDArray[np.float32], steps: NDArray[np.float32], integers: NDArray[np.int8], moments) -> list[float]:
    apart = weight - integers * steps[:, None]
    return [float(row @ moments @ row) for row in apart.astype(np.float64)]


@pytest.mark.parametrize("size", [40, 70, 200])
def test_correlated_inputs_are_made_use_of(size: int) -> None:
    rng = np.random.default_rng(size)
    inputs = np.maximum(
        rng.normal(0, 1, (500, 8)) @ rng.normal(0, 1, (8, size)) + 0.1 * rng.normal(0, 1, (500, size)), 0
    )
    weight, steps, moments = case(0, inputs)
    found = round_by_moments(weight, steps, moments, 127)
    nearest = quantise_weight(weight)[0]
    assert found.dtype == np.int8
    better = np.divide(errors(weight, steps, found, moments), errors(weight, steps, nearest, moments))
    assert better.max() <= 1
    assert better.mean() < 0.6


def test_no_weight_leaves_the_two_steps_around_it_and_the_largest_stays() -> None:
    inputs = np.abs(np.random.default_rng(1).normal(3, 1, (300, 40)))
    weight, steps, moments = case(2, inputs)
    found = round_by_moments(weight, steps, moments, 127)
    assert np.abs(found - weight / steps[:, None]).max() < 1 + 1e-5
    assert (np.abs(found).max(1) == 127).all()
    again, same = quantise_weight((found * steps[:, None]).astype(np.float32))
    np.testing.assert_array_equal(again, found)
    np.testing.assert_allclose(same, steps, rtol=1e-6)


@pytest.mark.parametrize("moments", [np.eye(30), np.zeros((30, 30))])
def test_inputs_that_say_nothing_leave_the_nearest_steps(moments: NDArray[np.float64]) -> None:
    weight, steps, _ = case(3, np.ones((1, 30)))
    np.testing.assert_array_equal(round_by_moments(weight, steps, moments, 127), quantise_weight(weight)[0])
