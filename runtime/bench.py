"""Measuring: several contenders in turn, frame by frame, stage by stage.

A machine's speed drifts over seconds, so contenders take turns inside one run and are compared round by round. What
is timed and what is not: the frame is in memory; preprocessing, the network and decoding are timed by the segmenter
itself, the whole frame from outside, masks as far as asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.runtime.bench_scenes import Scene, Seen
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.threads import one_blas_thread
from solov2_edge.spec import ModelSpec

__all__ = ["MASKS", "STAGES", "Contender", "Limit", "Measured", "TimedSegmenter", "give", "look", "measure"]

STAGES = ("preprocess", "network", "decode")
MASKS = ("crops", "rle", "full")
LEAST_ROUNDS = 5  # however short the time given
# Threads of an engine or of BLAS may go on spinning for work when a run is over, PyTorch's here for one. Without a
# pause, a network on one of two cores took 1.3 times as long right after such a run; from 20 ms on the same as alone.
PAUSE_SECONDS = 0.05

Decoder = Callable[[RawOutputs, Geometry, ModelSpec, DecodeOptions], Instances]


class TimedSegmenter(Protocol):
    """What is measured: a Segmenter, or the PyTorch reference."""

    @property
    def timings(self) -> dict[str, float]: ...  # noqa: D102 - milliseconds of the last frame, by stage

    def __call__(self, frame: NDArray[np.uint8]) -> Instances:
        """Segment a BGR uint8 (H, W, 3) frame."""
        ...

    def raw(self, frame: NDArray[np.uint8]) -> RawOutputs:
        """Return the network's outputs for a frame, undecoded."""
        ...


def _nothing() -> None:
    return


def _decode(raw: RawOutputs, geometry: Geometry, spec: ModelSpec, options: DecodeOptions) -> Instances:
    """Decode as a Segmenter does."""
    with one_blas_thread():
        return decode(raw, geometry, spec, options)


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """One open artefact and what it is fed.

    Attributes:
        name: how it is called in messages.
        segment: what is timed.
        spec: the network.
        options: how it decodes.
        frames: BGR uint8 (H, W, 3), given in turn.
        geometry: (H, W) of a frame -> how it becomes the network's input.
        decode: how its raw outputs become instances.
        prepare: called before each turn, untimed.
        gives_raw: whether there are raw outputs to decode scenes from; a graph that decodes has none.
    """

    name: str
    segment: TimedSegmenter
    spec: ModelSpec
    options: DecodeOptions
    frames: tuple[NDArray[np.uint8], ...]
    geometry: Callable[[int, int], Geometry]
    decode: Decoder = _decode
    prepare: Callable[[], None] = _nothing
    gives_raw: bool = True

    def __post_init__(self) -> None:
        require(len(self.frames) > 0, f"{self.name} needs at least one frame to be measured on, got none")


@dataclass(frozen=True, slots=True)
class Limit:
    """When to stop: after ``rounds`` rounds, or with the round that ends after ``seconds``."""

    rounds: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        require((self.rounds is None) != (self.seconds is None), "a limit is either a number of rounds or of seconds")

    def progress(self, rounds: int, seconds: float) -> tuple[int, int]:
        """Return (done, total), in rounds or in tenths of a second; done reaches total when it is time to stop."""
        if self.rounds is not None:
            return rounds, self.rounds
        total = int(10 * (self.seconds or 0))
        return (min(int(10 * seconds), total) if rounds >= LEAST_ROUNDS else 0), total


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one contender in milliseconds, one per round.

    Attributes:
        stages: ``preprocess``, ``network``, ``decode``, ``masks`` (unless crops are enough), ``frame`` and ``cpu``,
            the process's CPU time for the frame over all threads, spinning included.
        instances: number found, per round.
        scenes: the same per scene: ``decode``, ``masks``, ``cpu`` of both, and ``frame``, the round's preprocessing
            and network with the scene's decoding and masks.
    """

    stages: dict[str, list[float]] = field(default_factory=dict)
    instances: list[int] = field(default_factory=list)
    scenes: tuple[dict[str, list[float]], ...] = ()


def look(contender: Contender, warm_up: int) -> Seen | None:
    """Warm a contender up on ``warm_up`` frames (at least 1) spread over its own; return the richest one's outputs.

    None where there are no raw outputs to return.
    """
    require(warm_up >= 1, f"the warm-up must be at least 1 frame, got {warm_up}")
    unlimited = replace(contender.options, max_instances=contender.options.max_candidates)
    best: Seen | None = None
    contender.prepare()
    for index in np.linspace(0, len(contender.frames) - 1, warm_up).round().astype(int):
        frame = contender.frames[index]
        if not contender.gives_raw:
            contender.segment(frame)
            continue
        raw, geometry = contender.segment.raw(frame), contender.geometry(*frame.shape[:2])
        found = len(contender.decode(raw, geometry, contender.spec, unlimited))
        if best is None or found > best.instances:
            best = Seen(raw, geometry, found)
    return best


def measure(
    contenders: Sequence[Contender],
    scenes: Sequence[Sequence[Scene]],
    limit: Limit,
    *,
    masks: str = "crops",
    pause: float = PAUSE_SECONDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measured]:
    """Measure contenders in turn.

    Args:
        contenders: at least one; warm.
        scenes: per contender, what is decoded beside the frame.
        limit: when to stop.
        masks: what is made of each instance's mask: ``"crops"`` leaves decoding's crops, ``"rle"`` gives COCO RLE,
            ``"full"`` pastes every mask into a canvas of the frame's size.
        pause: seconds between two contenders' turns.
        progress: called with (done, total) after each round.

    Raises:
        SolovEdgeError: a scene does not give the instances it should.
    """
    require(masks in MASKS, f"masks must be one of {', '.join(MASKS)}, got {masks!r}")
    results = [Measured(scenes=tuple({} for _ in own)) for own in scenes]
    turns = list(zip(contenders, scenes, results, strict=True))
    start, rounds, done, total = time.perf_counter(), 0, 0, 1
    while done < total:
        for contender, own, result in turns:
            if len(turns) > 1:
                time.sleep(pause)
            contender.prepare()
            network = _frame(contender, rounds, masks, result)
            for index in np.roll(np.arange(len(own)), rounds).tolist():  # nobody always comes first, with cold caches
                _scene(contender, own[index], masks, network, result.scenes[index])
        rounds += 1
        done, total = limit.progress(rounds, time.perf_counter() - start)
        progress(done, total)
    return results


def _frame(contender: Contender, turn: int, masks: str, result: Measured) -> float:
    """Time one frame; return the milliseconds of all before decoding."""
    frame = contender.frames[turn % len(contender.frames)]
    cpu, start = time.process_time(), time.perf_counter()
    instances = contender.segment(frame)
    ready = time.perf_counter()
    give(instances, masks)
    done, cpu_done = time.perf_counter(), time.process_time()
    timings = contender.segment.timings
    times = {stage: timings[stage] for stage in STAGES}
    if masks != "crops":
        times["masks"] = 1e3 * (done - ready)
    _add(result.stages, {**times, "frame": 1e3 * (done - start), "cpu": 1e3 * (cpu_done - cpu)})
    result.instances.append(len(instances))
    return times["preprocess"] + times["network"]


def _scene(contender: Contender, scene: Scene, masks: str, network: float, times: dict[str, list[float]]) -> None:
    cpu, start = time.process_time(), time.perf_counter()
    instances = contender.decode(scene.raw, scene.geometry, contender.spec, scene.options)
    ready = time.perf_counter()
    give(instances, masks)
    done, cpu_done = time.perf_counter(), time.process_time()
    if len(instances) != scene.instances:
        raise SolovEdgeError(
            f"{contender.name}: the same outputs decoded to {scene.instances} instances, then to {len(instances)}"
        )
    measured = {"decode": 1e3 * (ready - start)}
    if masks != "crops":
        measured["masks"] = 1e3 * (done - ready)
    measured |= {"frame": network + 1e3 * (done - start), "cpu": 1e3 * (cpu_done - cpu)}
    _add(times, measured)


def give(instances: Instances, masks: str) -> Any:
    """Make of the masks what was asked for."""
    if masks == "rle":
        return instances.rle()
    return instances.masks if masks == "full" else instances.cropped


def _add(lists: dict[str, list[float]], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)
