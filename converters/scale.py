"""How real numbers become 8-bit integers: the rules that exporters and fine-tuning for integers share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TINY", "WEIGHT_LIMIT", "Scale", "quantise_weight", "scale_of"]

WEIGHT_LIMIT = 127  # symmetric: -128 is not used, so that a weight and its negative round alike
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Scale:
    """How real numbers are written in eight bits: real = step * (integer - zero).

    Attributes:
        step: of real numbers per integer, above 0.
        zero: the integer that means 0.0.
        signed: int8, else uint8.
    """

    step: float
    zero: int
    signed: bool


def scale_of(low: float, high: float, *, symmetric: bool) -> Scale:
    """Return the scale that covers [low, high], which contains 0.

    Args:
        low: smallest real number, at most 0.
        high: largest real number, at least 0.
        symmetric: int8 with its zero at 0, as TensorRT wants; else uint8 with any zero.
    """
    if symmetric:
        return Scale(max(-low, high, TINY) / WEIGHT_LIMIT, 0, True)
    step = float(np.float32(max(high - low, TINY) / 255))
    return Scale(step, int(np.clip(round(-low / step), 0, 255)), False)


def quantise_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights (O, ...) and one float32 step per output channel (O,): symmetric, nothing clipped."""
    largest = np.abs(weight.reshape(weight.shape[0], -1)).max(1)
    steps = np.maximum(largest / WEIGHT_LIMIT, TINY).astype(np.float32)
    rounded = np.rint(weight.astype(np.float64) / steps.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(rounded, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), steps
