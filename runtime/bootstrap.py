"""How far a mask AP and a drop in AP can be trusted, given the pictures they were measured on.

The bootstrap over pictures (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and 13): the
pictures are drawn anew with replacement, as many as there are, and AP is recomputed. A drop is recomputed on the same
drawn pictures for both models (paired), because pictures that are hard for one are hard for the other. What is
resampled is the pictures and nothing else: the interval says nothing of pictures unlike these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.matches import Matches

__all__ = ["CONFIDENCE", "LEAST_PICTURES", "Interval", "ap_interval", "doubt", "drop_interval", "pictures_needed"]

CONFIDENCE = 0.95
RESAMPLES = 2000  # moves the ends of a 95 % interval by about 3 % of its width
LEAST_PICTURES = 10  # below that, drawing from the pictures says nothing about pictures that were not drawn
_SEED = 2020  # the same pictures give the same interval


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies with 95 % confidence, in points of 100.

    Attributes:
        low: lower end.
        high: upper end.
        pictures: how many pictures it rests on.
    """

    low: float
    high: float
    pictures: int

    @property
    def half_width(self) -> float:
        """Half the distance of its ends."""
        return (self.high - self.low) / 2


def ap_interval(matches: Matches) -> Interval | None:
    """Return the interval of one model's AP; None with fewer than :data:`LEAST_PICTURES` pictures."""
    count = len(matches.pictures)
    return None if count < LEAST_PICTURES else _interval(matches.ap(_drawn(count)), count)


def drop_interval(baseline: Matches, other: Matches) -> Interval | None:
    """Return the interval of ``baseline``'s AP minus ``other``'s, on the same drawn pictures.

    Returns:
        None with fewer than :data:`LEAST_PICTURES` pictures.

    Raises:
        InputError: the two were evaluated on different pictures.
    """
    if baseline.pictures != other.pictures:
        raise InputError(
            f"a drop needs both models evaluated on the same pictures, got {len(baseline.pictures)} and "
            f"{len(other.pictures)} that differ; evaluate them together"
        )
    count = len(baseline.pictures)
    if count < LEAST_PICTURES:
        return None
    weights = _drawn(count)
    return _interval(baseline.ap(weights) - other.ap(weights), count)


def pictures_needed(interval: Interval, half_width: float) -> int:
    """Return about how many pictures like these would narrow ``interval`` to ``half_width`` points.

    The width falls with the square root of the number of pictures.
    """
    require(half_width > 0, f"a half width must be above 0 points, got {half_width}")
    return math.ceil(interval.pictures * (interval.half_width / half_width) ** 2)


def doubt(interval: Interval | None, max_drop: float, pictures: int) -> str:
    """Return a sentence if so few pictures cannot tell whether a drop is within ``max_drop`` points, else ``""``.

    They can if the interval reaches no further than ``max_drop`` either way, or lies on one side of it altogether.
    """
    if interval is None:
        return (
            f"{pictures} {'picture is' if pictures == 1 else 'pictures are'} too few to say how far the drop can be "
            f"trusted: take at least {LEAST_PICTURES}, better hundreds"
        )
    if interval.half_width <= max_drop or not interval.low <= max_drop < interval.high:
        return ""
    said = f"{pictures} pictures tell a drop to within {interval.half_width:.2f} points either way only"
    if max_drop == 0:
        return f"{said}, which cannot support a claim of no drop at all"
    needed = _rounded(pictures_needed(interval, max_drop))
    return f"{said}, which cannot support a claim of {max_drop:g}: about {needed} pictures like these would"


def _drawn(count: int) -> NDArray[np.int64]:
    """Return (B, P): how often each picture is drawn in each resample."""
    chances = np.full(count, 1 / count)
    return np.random.default_rng(_SEED).multinomial(count, chances, size=RESAMPLES)


def _interval(values: NDArray[np.float64], pictures: int) -> Interval | None:
    """Return the percentile interval; resamples without any object have no AP and are left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return Interval(float(low), float(high), pictures)


def _rounded(count: int) -> int:
    """Round up to two digits: the estimate is rough."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step
