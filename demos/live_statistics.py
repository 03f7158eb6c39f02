"""Figures of a live stream in constant memory: frames per second, latency, drops, the state of the source."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from solov2_edge.runtime.source import SourceStatus

__all__ = ["Meter", "Quantiles", "Statistics"]

RECENT = 30  # frames that the figures a viewer reads are taken over: about a second
_RATIO = 1.01  # of neighbouring bins: quantiles are right to half a percent
_LEAST, _MOST = 1e-3, 1e7  # milliseconds


@dataclass(frozen=True, slots=True)
class Statistics:
    """A live stream up to one of its frames.

    Attributes:
        frames: shown so far.
        fps: frames shown per second, lately; 0 for the first.
        latency: milliseconds from a frame's being complete to its instances being ready, median of late.
        latency_p95: the same, 95th percentile of late.
        network: milliseconds of the network, median of late.
        dropped: frames of a live source that were left out because newer ones were there.
        corrupt: frames the source could not read and skipped.
        reopened: how often the source was opened again.
        state: of the source: ``"open"``, ``"reopening"``, ``"ended"`` or ``"closed"``.
        message: what went wrong last with the source, in words; empty if nothing did.
        elapsed: seconds since the first frame was shown.
    """

    frames: int = 0
    fps: float = 0.0
    latency: float = 0.0
    latency_p95: float = 0.0
    network: float = 0.0
    dropped: int = 0
    corrupt: int = 0
    reopened: int = 0
    state: str = "open"
    message: str = ""
    elapsed: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready data."""
        return asdict(self)


class Quantiles:
    """Quantiles of any number of positive values, right to half a percent: a histogram of their logarithms."""

    def __init__(self) -> None:
        self._counts = np.zeros(math.ceil(math.log(_MOST / _LEAST, _RATIO)) + 1, np.int64)

    def add(self, value: float) -> None:
        """Count one value; beyond 1e-3..1e7 it counts as the nearer end."""
        inside = min(max(value, _LEAST), _MOST)
        self._counts[int(math.log(inside / _LEAST, _RATIO))] += 1

    def __call__(self, share: float) -> float:
        """Return the value that ``share`` (0..1) of the values do not exceed; 0 if there are none."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(share * total))))
        return float(_LEAST * _RATIO ** (place + 0.5))


class Meter:
    """Gathers the statistics of one stream."""

    def __init__(self) -> None:
        self._frames = 0
        self._first = self._last = 0.0
        self._when: deque[float] = deque(maxlen=RECENT + 1)
        self._latency: deque[float] = deque(maxlen=RECENT)
        self._network: deque[float] = deque(maxlen=RECENT)
        self._all = Quantiles()
        self._dropped = 0

    @property
    def frames(self) -> int:
        """Frames counted so far."""
        return self._frames

    def count(self, latency: float, network: float, dropped: int, status: SourceStatus) -> Statistics:
        """Take one more frame into account.

        Args:
            latency: of the frame, milliseconds.
            network: the network's milliseconds for it.
            dropped: frames left out so far.
            status: of the source.
        """
        now = perf_counter()
        self._frames += 1
        self._first = now if self._frames == 1 else self._first
        self._last = now
        self._dropped = dropped
        self._when.append(now)
        self._latency.append(latency)
        self._network.append(network)
        self._all.add(latency)
        return self.statistics(status)

    def statistics(self, status: SourceStatus) -> Statistics:
        """Return the figures as they are, with the source's state of now."""
        span = self._when[-1] - self._when[0] if self._when else 0.0
        return Statistics(
            frames=self._frames,
            fps=(len(self._when) - 1) / span if span > 0 else 0.0,
            latency=float(np.median(self._latency)) if self._latency else 0.0,
            latency_p95=float(np.quantile(self._latency, 0.95)) if self._latency else 0.0,
            network=float(np.median(self._network)) if self._network else 0.0,
            dropped=self._dropped,
            corrupt=status.corrupt,
            reopened=status.reopened,
            state=status.state,
            message=status.message,
            elapsed=self._last - self._first,
        )

    def summary(self, status: SourceStatus) -> dict[str, Any]:
        """Return the figures over the whole stream, JSON-ready."""
        elapsed = self._last - self._first
        return {
            "frames": self._frames,
            "seconds": round(elapsed, 3),
            "fps": round((self._frames - 1) / elapsed, 2) if elapsed > 0 else None,
            "dropped": self._dropped,
            "latency_ms": {"p50": round(self._all(0.5), 2), "p95": round(self._all(0.95), 2)},
            "corrupt": status.corrupt,
            "reopened": status.reopened,
        }
