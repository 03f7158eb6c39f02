"""Frames through a Segmenter's three steps at the same time: one is captured and prepared, one runs, one is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pipeline import Pipeline
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import Outputs

__all__ = ["DEPTH", "FrameResult", "frame_pipeline"]

# One frame in each of the three steps. With two, the network waits wherever decoding or the reader is slow for once; a
# fourth brought little (benchmarks/stream.py) and is a frame's time more of latency.
DEPTH = 3


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame of a stream and what was found in it.

    Attributes:
        index: the frame's place in its source, from 0; none is left out.
        frame: what the source gave, unchanged.
        instances: in pixels of the frame.
        timings: milliseconds: ``capture``, waiting for the source; ``preprocess``; ``network``; ``decode``; waiting
            between them is in none of these.
        latency: milliseconds from the source's giving the frame to its instances being ready.
    """

    index: int
    frame: NDArray[Any]
    instances: Instances
    timings: dict[str, float]
    latency: float


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One frame under way; ``work`` is the batch, then the outputs."""

    index: int
    frame: NDArray[Any]
    geometry: Geometry
    work: Any
    given: float
    timings: dict[str, float]


def frame_pipeline(
    frames: Iterable[NDArray[Any]],
    depth: int,
    prepare: Callable[[NDArray[Any]], tuple[NDArray[Any], Geometry]],
    run: Callable[[NDArray[Any]], tuple[Outputs, float]],
    decode: Callable[[Outputs, Geometry], Instances],
) -> Pipeline:
    """Return a pipeline whose results are FrameResults.

    Args:
        frames: the source.
        depth: frames under way at most.
        prepare: frame -> (batch, geometry).
        run: batch -> (outputs that no later run changes, the network's milliseconds).
        decode: (outputs, geometry) -> instances.

    Raises:
        InputError: frames are not a source of frames, or the depth is not a whole number of at least 1.
    """
    if isinstance(frames, np.ndarray):
        require(
            frames.ndim == 4,
            f"expected frames, got one array {frames.shape}; give a list of frames, or call the segmenter with one",
        )
    try:
        source = iter(frames)
    except TypeError:
        raise InputError(f"expected frames to iterate over, got {type(frames).__name__}; give a list of them") from None

    def infer(job: _Job) -> _Job:
        raw, network = run(job.work)
        return _Job(job.index, job.frame, job.geometry, raw, job.given, {**job.timings, "network": network})

    def finish(job: _Job) -> FrameResult:
        start = perf_counter()
        instances = decode(job.work, job.geometry)
        end = perf_counter()
        timings = {**job.timings, "decode": 1e3 * (end - start)}
        return FrameResult(job.index, job.frame, instances, timings, 1e3 * (end - job.given))

    return Pipeline(_prepared(source, prepare), {"network": infer, "decode": finish}, depth)


def _prepared(
    source: Iterator[NDArray[Any]], prepare: Callable[[NDArray[Any]], tuple[NDArray[Any], Geometry]]
) -> Iterator[_Job]:
    asked = perf_counter()
    for index, frame in enumerate(source):
        given = perf_counter()
        batch, geometry = prepare(frame)
        timings = {"capture": 1e3 * (given - asked), "preprocess": 1e3 * (perf_counter() - given)}
        yield _Job(index, frame, geometry, batch, given, timings)
        asked = perf_counter()
