"""Weights rounded up or down by what their layer then computes, not each to its nearest step.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020): to the second order, rounding
costs d^T H d per output channel, d being the errors of its weights and H the second moments of the layer's inputs, and
the nearest steps are not its minimum. The minimum is searched greedily, input by input, each rounding's error taken up
by the weights that are still free (the order of optimal brain surgeons; Frantar et al., "GPTQ", ICLR 2023), but as in
the first paper no weight leaves the two steps it lies between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["round_by_moments"]

DAMPING = 0.01  # of the mean second moment, added to all: inputs that were hardly seen keep the nearest step
BLOCK = 64  # inputs whose errors are passed on together


def round_by_moments(
    weight: NDArray[np.float32], steps: NDArray[np.float32], moments: NDArray[np.float64], limit: int
) -> NDArray[np.int8]:
    """Return integers (O, K) of weights, each one of the two steps around its weight.

    An output channel whose greedy result is no better than the nearest steps keeps those, and the largest weight of
    each channel, which gives the step, keeps its integer.

    Args:
        weight: (O, K) float32.
        steps: (O,) real numbers per integer.
        moments: (K, K) second moments of the inputs, summed over any number of positions.
        limit: largest integer.
    """
    exact = weight.astype(np.float64) / steps.astype(np.float64)[:, None]  # in steps, in which all channels are alike
    nearest = np.clip(np.rint(exact), -limit, limit)
    low, high = np.maximum(np.floor(exact), -limit), np.minimum(np.ceil(exact), limit)
    largest = np.arange(len(exact)), np.abs(exact).argmax(1)
    low[largest] = high[largest] = nearest[largest]

    found = _greedily(exact, low, high, moments)
    before, after = (_error(exact - integers, moments) for integers in (nearest, found))
    return np.where((after < before)[:, None], found, nearest).astype(np.int8)


def _greedily(
    exact: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], moments: NDArray[np.float64]
) -> NDArray[np.float64]:
    size = len(moments)
    mean = max(float(np.trace(moments)) / size, np.finfo(np.float64).tiny)
    damped = moments + DAMPING * mean * np.eye(size)
    order = np.argsort(-np.diag(damped), kind="stable")  # the inputs that matter most have the most to pass errors to
    # Row k of the upper factor of the inverse says how the inputs after k make up for an error at k.
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    free, low, high = exact[:, order], low[:, order], high[:, order]
    found = np.empty_like(free)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((len(free), stop - start))
        for k in range(start, stop):
            found[:, k] = np.clip(np.rint(free[:, k]), low[:, k], high[:, k])
            errors[:, k - start] = (free[:, k] - found[:, k]) / upper[k, k]
            free[:, k:stop] -= errors[:, k - start, None] * upper[k, k:stop]
        free[:, stop:] -= errors @ upper[start:stop, stop:]
    return found[:, np.argsort(order)]


def _error(differences: NDArray[np.float64], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean square error of what each output channel computes, up to a factor."""
    result: NDArray[np.float64] = np.einsum("ok,ok->o", differences @ moments, differences)
    return result
