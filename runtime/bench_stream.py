"""Throughput: the same frames by calls one after the other and as a stream, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from solov2_edge.errors import SolovEdgeError
from solov2_edge.runtime.bench import PAUSE_SECONDS, Contender, Limit, give
from solov2_edge.runtime.bench_report import percentiles
from solov2_edge.runtime.frame_stream import FrameResult
from solov2_edge.runtime.segmenter import Segmenter

__all__ = ["Throughput", "measure_streams", "stream_entry", "stream_limit"]

LEAST_FRAMES = 12  # of one run: filling and draining the pipeline is part of it, and shall not be most of it
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one contender took for ``frames`` frames, per round.

    Attributes:
        frames: of one run.
        calls: milliseconds per frame, frame by frame.
        stream: milliseconds per frame, as a stream.
        latency: milliseconds from the source's giving a frame to its instances being ready, of every frame streamed.
    """

    frames: int
    calls: list[float] = field(default_factory=list)
    stream: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)


def stream_limit(limit: Limit, frames: int) -> Limit:
    """Return the limit of a measurement whose rounds are single frames, for rounds of ``frames`` frames."""
    if limit.rounds is None:
        return limit
    return Limit(rounds=max(LEAST_ROUNDS, math.ceil(limit.rounds / max(frames, LEAST_FRAMES))))


def measure_streams(
    contenders: Sequence[Contender],
    limit: Limit,
    depth: int,
    *,
    masks: str = "crops",
    pause: float = PAUSE_SECONDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Throughput | None]:
    """Measure contenders in turn; None for one that has no streams, such as the PyTorch reference.

    Args:
        contenders: warm.
        limit: when to stop; a round is one run of each kind of each contender.
        depth: frames under way at most.
        masks: as for :func:`~solov2_edge.runtime.bench.measure`, made by the stream's reader.
        pause: seconds between two runs.
        progress: called with (done, total) after each round.

    Raises:
        SolovEdgeError: a stream finds other numbers of instances than calls.
    """
    results = [
        Throughput(max(LEAST_FRAMES, len(contender.frames))) if isinstance(contender.segment, Segmenter) else None
        for contender in contenders
    ]
    start, rounds, done, total = time.perf_counter(), 0, 0, 1
    while done < total:
        for contender, result in zip(contenders, results, strict=True):
            if result is not None:
                _turn(contender, result, depth, masks, pause, stream_first=rounds % 2 == 1)
        rounds += 1
        done, total = limit.progress(rounds, time.perf_counter() - start)
        progress(done, total)
    return results


def _turn(
    contender: Contender, result: Throughput, depth: int, masks: str, pause: float, *, stream_first: bool
) -> None:
    segment: Any = contender.segment
    found: list[list[int]] = []
    for stream in (stream_first, not stream_first):
        frames = islice(cycle(contender.frames), result.frames)
        contender.prepare()
        time.sleep(pause)
        counts, start = [], time.perf_counter()
        if stream:
            one: FrameResult
            for one in segment.stream(frames, depth=depth):
                give(one.instances, masks)
                counts.append(len(one.instances))
                result.latency.append(one.latency)
        else:
            for frame in frames:
                instances = segment(frame)
                give(instances, masks)
                counts.append(len(instances))
        (result.stream if stream else result.calls).append(1e3 * (time.perf_counter() - start) / result.frames)
        found.append(counts)
    if found[0] != found[1]:
        raise SolovEdgeError(f"{contender.name}: a stream found other instances than calls: {found[0]}, {found[1]}")


def stream_entry(throughput: Throughput | None, depth: int | None) -> dict[str, Any] | None:
    """Return the JSON-ready entry: milliseconds per frame, and how many times faster a stream is, round by round."""
    if throughput is None:
        return None
    gain = np.asarray(throughput.calls) / np.maximum(throughput.stream, 1e-6)
    p05, p50, p95 = np.percentile(gain, (5, 50, 95)).tolist()
    return {
        "depth": depth,
        "frames": throughput.frames,
        "rounds": len(throughput.calls),
        "calls_ms": percentiles(throughput.calls),
        "stream_ms": percentiles(throughput.stream),
        "gain": {"p05": p05, "p50": p50, "p95": p95},
        "latency_ms": percentiles(throughput.latency),
    }
