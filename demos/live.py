"""The live loop: frames of a source through a segmenter to everybody who wants to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.live_controls import Controls, Settings
from solov2_edge.demos.live_reader import Reader
from solov2_edge.demos.live_signals import EndSignals
from solov2_edge.demos.live_statistics import Meter, Statistics
from solov2_edge.demos.live_view import Shown, View, close_all
from solov2_edge.demos.tracks import Tracker
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.source import Frame, Mode, Source
from solov2_edge.runtime.stream import StreamResult, watch

__all__ = ["run_live"]

TICK_SECONDS = 0.03  # between looks at the keys while no frame comes


def run_live(
    segment: Segmenter,
    source: Source,
    views: Sequence[View],
    controls: Controls,
    *,
    mode: Mode | None = None,
    frames: int | None = None,
    signals: EndSignals | None = None,
) -> dict[str, Any]:
    """Show frames until the source ends, somebody stops it, or a signal comes; then close the views and the source.

    Args:
        segment: an open artefact; its ``keep_threshold`` follows the score threshold of the settings.
        source: of frames; closed in the end.
        views: shown every frame, in this order; closed in the end, whatever happened.
        controls: what is shown; may be changed by any thread meanwhile.
        mode: how the source is gone through; default: as suits it.
        frames: stop after so many.
        signals: the entered context that SIGINT and SIGTERM end; default: they do what they do.

    Returns:
        The summary over the whole run, JSON-ready: see :meth:`Meter.summary`.

    Raises:
        SolovEdgeError: of the source, the network or a view, after everything is closed.
    """
    loop = _Loop(segment, source, views, controls, signals or EndSignals())
    options = segment.options
    try:
        loop.run(mode or source.mode, frames)
    except KeyboardInterrupt:
        if signals is None or not signals.received:
            raise
    finally:
        segment.options = options
        close_all([source, *views])
    return loop.meter.summary(source.status())


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A frame and all that was found in it, of whatever class."""

    frame: Frame
    instances: Instances
    tracks: NDArray[np.int64]
    timings: dict[str, float]
    latency: float


class _Loop:
    """One run; everything but drawing from the source happens in the thread that calls it."""

    def __init__(
        self, segment: Segmenter, source: Source, views: Sequence[View], controls: Controls, signals: EndSignals
    ) -> None:
        self.meter = Meter()
        self._segment = segment
        self._source = source
        self._views = views
        self._controls = controls
        self._signals = signals
        self._tracker = Tracker()
        self._least = segment.options.keep_threshold  # what the artefact, or its user, wants at least

    def run(self, mode: Mode, frames: int | None) -> None:
        reader = Reader(watch(self._segment, self._source, mode=mode))
        try:
            self._run(reader, mode, frames)
        finally:
            self._source.close()  # first: the reader may be waiting for a frame
            reader.close()

    def _run(self, reader: Reader[StreamResult], mode: Mode, frames: int | None) -> None:
        resumed = 0.0
        self._look_for(self._controls.settings.score_threshold)
        while not self._controls.stopped and (frames is None or self.meter.frames < frames):
            with self._signals.interruptible():
                result = reader.next(self._tick, TICK_SECONDS)
            if result is None:
                return
            if result.frame.captured < resumed:
                continue
            if mode is Mode.IMAGE:
                self._tracker.forget()  # pictures show different things
            found = self._find(result)
            statistics = self.meter.count(
                found.latency, found.timings["network"], result.dropped, self._source.status()
            )
            seen = self._show(found, statistics)
            if self._controls.settings.paused:
                self._pause(found, seen)
                # What a camera gave before is of the past; a file goes on where it stood.
                resumed = perf_counter() if mode is Mode.LIVE else 0.0
            self._look_for(self._controls.settings.score_threshold)

    def _tick(self) -> bool:
        statistics = self.meter.statistics(self._source.status())
        for view in self._views:
            view.tick(statistics)
        return not self._controls.stopped

    def _look_for(self, score: float) -> None:
        """Let decoding leave out what would not be shown: the masks it need not make are time saved."""
        threshold = max(self._least, score)
        if threshold != self._segment.options.keep_threshold:
            self._segment.options = replace(self._segment.options, keep_threshold=threshold)

    def _find(self, result: StreamResult) -> _Found:
        tracks = self._tracker.update(result.instances, result.frame.index)
        latency = max(result.latency, 1e3 * (perf_counter() - result.frame.captured))
        return _Found(result.frame, result.instances, tracks, result.timings, latency)

    def _show(self, found: _Found, statistics: Statistics, *, repeated: bool = False) -> Settings:
        """Show what the settings of now leave of a frame, and return them."""
        settings = self._controls.settings
        instances = found.instances
        chosen = instances.scores >= settings.score_threshold
        if settings.classes is not None:
            labels = [index for index, name in enumerate(instances.class_names) if name in settings.classes]
            chosen &= np.isin(instances.labels, labels)
        shown = Shown(
            found.frame, instances[chosen], found.tracks[chosen], found.timings, found.latency, statistics, settings,
            repeated,
        )  # fmt: skip
        for view in self._views:
            view.show(shown)
        return settings

    def _pause(self, found: _Found, seen: Settings) -> None:
        """Stand still, but for settings that change what is seen."""
        while self._controls.settings.paused and not self._controls.stopped:
            with self._signals.interruptible():
                self._controls.wait(seen, TICK_SECONDS)
                self._tick()
            settings = self._controls.settings
            if settings is not seen and settings.paused:
                if settings.score_threshold < seen.score_threshold:
                    found = self._decoded_again(found, settings.score_threshold)
                seen = self._show(found, self.meter.statistics(self._source.status()), repeated=True)

    def _decoded_again(self, found: _Found, score: float) -> _Found:
        """Return a frame with the instances that were not looked for the first time."""
        self._look_for(score)
        instances = self._segment(found.frame.image)
        tracks = self._tracker.update(instances, found.frame.index)
        return replace(found, instances=instances, tracks=tracks)
