"""A line now and then about a live run without a window, and one whenever its source comes or goes."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown

__all__ = ["Journal"]

EVERY_SECONDS = 10.0


class Journal:
    """Says how a run goes."""

    def __init__(self, said: Callable[[str], None], *, figures: bool) -> None:
        """Say to whom.

        Args:
            said: takes a line.
            figures: also every ten seconds how many frames went through; else only what happens to the source.
        """
        self._said = said
        self._figures = figures
        self._state = "open"
        self._next = monotonic() + EVERY_SECONDS

    def show(self, shown: Shown) -> None:
        """Say how it goes, if it is time."""
        now = shown.statistics
        self.tick(now)
        if self._figures and monotonic() >= self._next:
            self._next = monotonic() + EVERY_SECONDS
            self._said(
                f"{now.frames} frames, {now.fps:.1f} per second, latency {now.latency:.0f} ms, dropped {now.dropped}, "
                f"{len(shown.instances)} instances now"
            )

    def tick(self, statistics: Statistics) -> None:
        """Say that the source vanished or came back."""
        if statistics.state == self._state or statistics.state not in ("open", "reopening"):
            return
        self._state = statistics.state
        if self._state == "reopening":
            self._said(f"the source has gone ({statistics.message or 'without a word'}); looking for it")
        else:
            self._said("the source is back")

    def close(self) -> None:
        """Nothing is held."""
