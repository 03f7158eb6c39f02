"""Ranges of values from calibration: streaming histograms, and the ways to cut a range from one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["METHODS", "ValueCounts"]

METHODS = ("minmax", "mean-minmax", "percentile", "mse")
BINS = 8192  # about half to eight times as many over the range seen so far: 0.5 MB at most
SAMPLE = 65536  # values of a tensor that are counted per picture, evenly spaced; the extremes are of all values
TAIL = 1e-5  # part of the values that "percentile" cuts off at each end
LEVELS = 255  # steps of an 8-bit range
CUTS = 64  # candidates for each end of an "mse" range


class ValueCounts:
    """Counts of one tensor's values over any number of pictures, in bounded memory.

    Bins are as wide as a power of two and begin at multiples of it, so that the range can grow: two neighbours merge
    exactly into one bin of twice the width, and nothing has to be seen again.
    """

    def __init__(self) -> None:
        self.lowest, self.highest = np.inf, -np.inf
        self._sum_lowest, self._sum_highest, self._pictures = 0.0, 0.0, 0
        self._width, self._first = 0.0, 0  # of a bin; number of the first bin, which begins at first * width
        self._counts: NDArray[np.int64] = np.zeros(1, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count one picture's values, a float array of any shape; minus infinity, which pads maxima, is no value."""
        if np.isneginf(values.min()):
            values = values[~np.isneginf(values)]
        lowest, highest = float(values.min()), float(values.max())
        require(
            bool(np.isfinite(lowest) and np.isfinite(highest)),
            "the network gives infinite or undefined values on a calibration picture; check its weights",
        )
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        self._sum_lowest += lowest
        self._sum_highest += highest
        self._pictures += 1
        if self._width == 0.0:
            extent = max(highest - lowest, 1e-3 * abs(highest), 1e-3 * abs(lowest), 1e-30)
            self._width = float(2.0 ** np.ceil(np.log2(extent / BINS)))
            self._first = int(np.floor(lowest / self._width))
        while (self.highest - self.lowest) / self._width > 8 * BINS:
            self._widen()
        flat = values.reshape(-1)
        bins = np.floor(flat[:: -(-flat.size // SAMPLE)] / self._width).astype(np.int64)
        first, last = int(bins.min()), int(bins.max())
        before, after = max(self._first - first, 0), max(last + 1 - self._first - len(self._counts), 0)
        self._counts = np.pad(self._counts, (before, after))
        self._first -= before
        self._counts += np.bincount(bins - self._first, minlength=len(self._counts))

    def range(self, method: str) -> tuple[float, float]:
        """Return the (lowest, highest) value to represent; 0 is always within, for padding.

        Args:
            method: ``"minmax"``: all that was seen; ``"mean-minmax"``: the mean of the pictures' extremes;
                ``"percentile"``: all but a part of 1e-5 at each end; ``"mse"``: the least squared error of rounding
                to 8 bits and of clipping together.
        """
        require(method in METHODS, f"the calibration method must be one of {', '.join(METHODS)}, got {method!r}")
        require(self._pictures > 0, "calibration needs pictures, got none")
        lowest, highest = self.lowest, self.highest
        if method == "mean-minmax":
            lowest, highest = self._sum_lowest / self._pictures, self._sum_highest / self._pictures
        elif method == "percentile":
            lowest, highest = self._between_tails()
        elif method == "mse":
            lowest, highest = self._least_error()
        return min(lowest, 0.0), max(highest, 0.0)

    def _widen(self) -> None:
        """Merge pairs of bins."""
        odd = self._first % 2
        counts = np.pad(self._counts, (odd, (odd + len(self._counts)) % 2))
        self._counts = counts.reshape(-1, 2).sum(axis=1)
        self._first, self._width = (self._first - odd) // 2, self._width * 2

    def _between_tails(self) -> tuple[float, float]:
        part = np.cumsum(self._counts) / self._counts.sum()
        lowest = (self._first + int(np.searchsorted(part, TAIL))) * self._width
        highest = (self._first + int(np.searchsorted(part, 1 - TAIL)) + 1) * self._width
        return max(lowest, self.lowest), min(highest, self.highest)

    def _least_error(self) -> tuple[float, float]:
        """Try cuts of both ends together; the error beyond a cut follows from three running sums of the counts."""
        centres = (self._first + np.arange(len(self._counts)) + 0.5) * self._width
        moments = [self._counts * centres**power for power in range(3)]
        lows = min(self.lowest, 0.0) * np.geomspace(0.02, 1, CUTS)
        highs = max(self.highest, 0.0) * np.geomspace(0.02, 1, CUTS)
        below = np.searchsorted(centres, lows)
        above = np.searchsorted(centres, highs)
        under = [np.concatenate([[0.0], np.cumsum(m)])[below] for m in moments]
        over = [np.concatenate([np.cumsum(m[::-1])[::-1], [0.0]])[above] for m in moments]
        clipped_low = under[2] - 2 * lows * under[1] + lows**2 * under[0]
        clipped_high = over[2] - 2 * highs * over[1] + highs**2 * over[0]
        # Uniform rounding to steps of s has a mean square of s^2 / 12.
        rounding = self._counts.sum() * ((highs[None] - lows[:, None]) / LEVELS) ** 2 / 12
        best = int(np.argmin(clipped_low[:, None] + clipped_high[None] + rounding))
        return float(lows[best // CUTS]), float(highs[best % CUTS])
