"""Frames from anywhere through a segmenter: pictures one by one, every frame of a video, the newest of a camera.

    with open_source("rtsp://camera.local/main") as source:
        for result in watch(segment, source):
            print(result.frame.index, len(result.instances), result.latency, result.dropped)

In LIVE mode a frame is taken when the one before it is through the model, and is then the newest. So it is at most one
frame time of the camera old, and its instances are ready one frame time of the model later: under two frame times of
the slower of the two, however slow the model is, and nothing ever piles up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.frame_stream import DEPTH
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.newest import Newest
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.pipeline import Pipeline
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.source import Frame, Mode, Source, SourceStatus

__all__ = ["Frame", "Mode", "Source", "SourceStatus", "StreamResult", "open_source", "watch"]


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """One frame of a source and what was found in it.

    Attributes:
        frame: as the source gave it.
        instances: in pixels of the frame.
        timings: milliseconds: ``capture``, waiting for a frame; ``preprocess``; ``network``; ``decode``; waiting
            between them is in none of these.
        latency: milliseconds from the frame's being captured to its instances being ready.
        dropped: frames that newer ones replaced before they were taken, so far; 0 in IMAGE and VIDEO mode.
    """

    frame: Frame
    instances: Instances
    timings: dict[str, float]
    latency: float
    dropped: int


def watch(
    segment: Segmenter, source: Source, *, mode: Mode | None = None, depth: int | None = None
) -> Generator[StreamResult, None, None]:
    """Segment a source's frames until it ends.

    Nothing is drawn before the first result is asked for. When the generator is closed, dropped (``break`` out of the
    loop that made it) or ends, its threads end and the source is closed; its status can still be asked for. A read
    that is stuck in a driver is waited for two seconds and ends by its own time-out.

    Args:
        segment: stays open; its options may be replaced between two results.
        source: gone through once, by this.
        mode: default: the source's own. LIVE plays a file at its frame rate; VIDEO gives every frame of a camera,
            later and later where the model is slower.
        depth: frames under way at most. Default: 1 in LIVE mode, so that a frame is the newest when the model begins
            with it; 3 in VIDEO mode, one in each step. 2 in LIVE mode gives more results per second where cores are
            idle, each of them about one frame time older. Pictures go one by one, the next when it is asked for.

    Raises:
        InputError: LIVE mode of a source that has neither a pace nor a frame rate, or a depth other than 1 in IMAGE
            mode; while iterating, a depth below 1, and what the source or the segmenter says.
    """
    mode = source.mode if mode is None else mode
    require(
        mode is not Mode.IMAGE or depth in (None, 1),
        f"pictures go one by one, expected a depth of 1, got {depth}; go through them in video mode",
    )
    if mode is Mode.LIVE:
        newest = Newest(source)
        if depth in (None, 1):
            # The same thread takes a frame and works on it, which leaves nothing to wait for in between.
            return _through(Pipeline(_one_by_one(segment, newest), {}, 1, patience=None).results(), newest.close)
        return _through(_streamed(segment, newest, depth), newest.close)
    frames = ((frame, 0) for frame in source)
    if mode is Mode.IMAGE:
        return _through(_one_by_one(segment, frames), source.close)
    return _through(_streamed(segment, frames, DEPTH if depth is None else depth), source.close)


def _through(
    results: Generator[StreamResult, None, None], close: Callable[[], None]
) -> Generator[StreamResult, None, None]:
    try:
        for result in results:  # noqa: UP028 - it would close the results first, which may be waiting for a frame
            yield result
    finally:
        close()
        results.close()


def _one_by_one(segment: Segmenter, frames: Iterable[tuple[Frame, int]]) -> Generator[StreamResult, None, None]:
    asked = perf_counter()
    for frame, dropped in frames:
        timings = {"capture": 1e3 * (perf_counter() - asked)}
        instances, steps = segment.timed(frame.image)
        latency = 1e3 * (perf_counter() - frame.captured)
        yield StreamResult(frame, instances, timings | steps, latency, dropped)
        asked = perf_counter()


def _streamed(
    segment: Segmenter, frames: Iterable[tuple[Frame, int]], depth: int
) -> Generator[StreamResult, None, None]:
    taken: deque[tuple[Frame, int, float]] = deque()  # in the order in which the results come

    def images() -> Iterator[NDArray[Any]]:
        for frame, dropped in frames:
            taken.append((frame, dropped, perf_counter()))
            yield frame.image

    with closing(segment.stream(images(), depth=depth)) as results:
        for result in results:
            frame, dropped, given = taken.popleft()
            waited = 1e3 * (given - frame.captured)
            yield StreamResult(frame, result.instances, result.timings, waited + result.latency, dropped)
