"""Counts, order and refusals; never a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from solov2_edge.errors import SolovEdgeError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.bench import Contender, Limit
from solov2_edge.runtime.bench_stream import (
    LEAST_FRAMES,
    LEAST_ROUNDS,
    Throughput,
    measure_streams,
    stream_entry,
    stream_limit,
)
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import RawOutputs

pytestmark = pytest.mark.usefixtures("no_thread_left")

FRAMES = (np.zeros((40, 60, 3), np.uint8), np.full((60, 40, 3), 9, np.uint8))
MakeContender = Callable[..., Contender]


@pytest.fixture
def contender(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> MakeContender:
    """The tiny network, which finds one nut, or what ``outputs`` say."""

    def make(outputs: Any = tiny_raw, frames: tuple[Any, ...] = FRAMES) -> Contender:
        segment = Segmenter(FakeSession(tiny_manifest, outputs))
        return Contender(
            "tiny", segment, segment.spec, segment.options, frames, lambda h, w: fixed_geometry(h, w, 64, 96)
        )

    return make


def test_every_round_runs_both_ways_over_all_frames(contender: MakeContender) -> None:
    many = contender(frames=FRAMES * 10)
    seen: list[tuple[int, int]] = []
    few, long = measure_streams(
        [contender(), many], Limit(rounds=2), 3, pause=0, progress=lambda done, total: seen.append((done, total))
    )
    assert few is not None
    assert long is not None
    assert (few.frames, long.frames) == (LEAST_FRAMES, 20)
    for result in (few, long):
        assert (len(result.calls), len(result.stream), len(result.latency)) == (2, 2, 2 * result.frames)
        assert min(*result.calls, *result.stream, *result.latency) > 0
    assert seen == [(1, 2), (2, 2)]


def test_what_has_no_streams_is_left_out(contender: MakeContender) -> None:
    class Reference:
        timings: ClassVar[dict[str, float]] = {}

        def __call__(self, frame: Any) -> Instances:
            raise AssertionError("not asked")

        raw = __call__

    one = contender()
    assert measure_streams([replace(one, segment=Reference()), one], Limit(rounds=1), 2, pause=0)[0] is None  # type: ignore[arg-type]
    assert stream_entry(None, None) is None


@pytest.mark.parametrize("masks", ["rle", "full"])
def test_masks_are_made_by_the_reader(contender: MakeContender, monkeypatch: pytest.MonkeyPatch, masks: str) -> None:
    made: list[str] = []
    monkeypatch.setattr(Instances, "rle", lambda self: made.append("rle"))
    monkeypatch.setattr(Instances, "masks", property(lambda self: made.append("full")))
    measure_streams([contender()], Limit(rounds=1), 3, masks=masks, pause=0)
    assert made == [masks] * 2 * LEAST_FRAMES


def test_a_stream_that_finds_something_else_is_an_error(contender: MakeContender, tiny_raw: RawOutputs) -> None:
    nothing = RawOutputs(np.zeros_like(tiny_raw.class_scores), tiny_raw.kernels, tiny_raw.mask_features)
    runs = itertools.count()
    changing = contender(lambda batch: tiny_raw if next(runs) < LEAST_FRAMES else nothing)
    with pytest.raises(SolovEdgeError, match="a stream found other instances than calls"):
        measure_streams([changing], Limit(rounds=1), 3, pause=0)


@pytest.mark.parametrize(("rounds", "frames", "expected"), [(1, 1, 3), (36, 4, 3), (200, 20, 10), (201, 20, 11)])
def test_a_round_of_many_frames_counts_for_many(rounds: int, frames: int, expected: int) -> None:
    assert stream_limit(Limit(rounds=rounds), frames).rounds == expected >= LEAST_ROUNDS
    assert stream_limit(Limit(seconds=2.0), frames) == Limit(seconds=2.0)


def test_the_entry_takes_ratios_round_by_round() -> None:
    entry = stream_entry(Throughput(20, [10.0, 300.0, 20.0], [5.0, 150.0, 10.0], [7.0, 8.0]), 4)
    assert entry is not None
    assert entry["gain"] == {"p05": 2.0, "p50": 2.0, "p95": 2.0}
    assert (entry["depth"], entry["frames"], entry["rounds"]) == (4, 20, 3)
    assert (entry["calls_ms"]["p50"], entry["stream_ms"]["p50"], entry["latency_ms"]["mean"]) == (20.0, 10.0, 7.5)
