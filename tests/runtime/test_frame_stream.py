"""Streams give what calling gives, with every engine; errors in their place; nothing left running."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solov2_edge.bundled import bundle
from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime import FrameResult, Instances, RawOutputs, Segmenter, load, read_picture
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.pictures import list_pictures

pytestmark = pytest.mark.usefixtures("no_thread_left")

FRAME = np.full((128, 192, 3), 100, np.uint8)
MakeArtefact = Callable[..., Path]


def frames(count: int) -> list[np.ndarray[Any, Any]]:
    """Frames of several sizes, each of its own brightness."""
    sizes = itertools.cycle([(128, 192), (64, 96), (300, 20)])
    return [np.full((*next(sizes), 3), 10 * index, np.uint8) for index in range(count)]


def assert_equal(got: Instances, want: Instances) -> None:
    np.testing.assert_array_equal(got.scores, want.scores)
    np.testing.assert_array_equal(got.labels, want.labels)
    assert got.cropped.corners == want.cropped.corners
    for one, other in zip(got.cropped.crops, want.cropped.crops, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_a_stream_gives_what_calling_gives(tiny_manifest: Manifest, tiny_raw: RawOutputs, depth: int) -> None:
    def run(batch: np.ndarray[Any, Any]) -> RawOutputs:
        features = tiny_raw.mask_features.copy()
        features[0, :, 12 : 12 + int(batch[0, 0, 0, 0]) // 20] = 3  # brighter frames hold wider nuts
        return RawOutputs(tiny_raw.class_scores, tiny_raw.kernels, features)

    segment = Segmenter(FakeSession(tiny_manifest, run))
    source = frames(20)
    results = list(segment.stream(source, depth=depth))
    assert [result.index for result in results] == list(range(20))
    for result, frame in zip(results, source, strict=True):
        assert result.frame is frame
        assert_equal(result.instances, segment(frame))
    assert len({len(result.instances.cropped.crops[0].tobytes()) for result in results}) > 5, "they do differ"


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_in_every_engine(make_onnx: MakeArtefact, make_tflite: MakeArtefact, suffix: str) -> None:
    path = {"onnx": make_onnx, "tflite": make_tflite}[suffix]()
    with load(path, threads=1) as segment:
        source = frames(12)
        for result in segment.stream(iter(source)):
            assert_equal(result.instances, segment(source[result.index]))


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_no_later_run_changes_what_an_earlier_one_gave(
    make_onnx: MakeArtefact, make_tflite: MakeArtefact, suffix: str
) -> None:
    path = {"onnx": make_onnx, "tflite": make_tflite}[suffix]()
    with load(path, threads=1) as segment:
        first = segment.raw(FRAME)
        kept = [array.copy() for array in (first.class_scores, first.kernels, first.mask_features)]
        for _ in range(3):
            second = segment.raw(FRAME + 100)
        for array, copy in zip((first.class_scores, first.kernels, first.mask_features), kept, strict=True):
            np.testing.assert_array_equal(array, copy)
        assert not np.array_equal(second.mask_features, first.mask_features)


def test_real_pictures_and_the_bundled_model() -> None:
    found = bundle()
    source = [read_picture(picture) for picture in list_pictures(found.pictures)[:3]] * 2
    with load(found.artefact, threads=1) as segment:
        wanted = [segment(frame) for frame in source]
        for result, want in zip(segment.stream(source), wanted, strict=True):
            assert_equal(result.instances, want)
    assert sum(map(len, wanted)) > 20


def test_every_frame_carries_its_times(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    def slow(source: list[Any]) -> Iterator[Any]:
        for frame in source:
            time.sleep(0.01)
            yield frame

    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw))
    before = segment.timings
    for result in segment.stream(slow(frames(5))):
        assert list(result.timings) == ["capture", "preprocess", "network", "decode"]
        assert result.timings["capture"] >= 10
        own = sum(result.timings.values()) - result.timings["capture"]
        assert 0 < own <= result.latency < 10_000
    assert segment.timings is before, "a stream leaves the last call's"


def test_a_frame_that_is_none_is_refused_in_its_place(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    results = Segmenter(FakeSession(tiny_manifest, tiny_raw)).stream([FRAME, FRAME, FRAME.astype(np.float32), FRAME])
    assert [next(results).index for _ in range(2)] == [0, 1]
    with pytest.raises(InputError, match="a frame must be"):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("where", ["network", "decode"])
def test_a_network_that_fails_does_so_in_its_place(tiny_manifest: Manifest, tiny_raw: RawOutputs, where: str) -> None:
    runs = itertools.count()

    def run(batch: np.ndarray[Any, Any]) -> RawOutputs:
        if next(runs) < 3:
            return tiny_raw
        if where == "network":
            raise SolovEdgeError("no memory")
        return RawOutputs(tiny_raw.class_scores, tiny_raw.kernels, tiny_raw.mask_features * np.float32(np.nan))

    results = Segmenter(FakeSession(tiny_manifest, run)).stream(itertools.repeat(FRAME))
    assert [next(results).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SolovEdgeError, match={"network": "no memory", "decode": "non-finite"}[where]):
        next(results)


@pytest.mark.parametrize("source", [FRAME, FRAME[..., 0], 7], ids=["one frame", "grey", "a number"])
def test_what_is_no_source_is_refused_at_once(tiny_manifest: Manifest, tiny_raw: RawOutputs, source: Any) -> None:
    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw))
    with pytest.raises(InputError, match="give a list of"):
        segment.stream(source)
    with pytest.raises(InputError, match="depth"):
        segment.stream([], depth=0)
    assert len(list(segment.stream(np.stack([FRAME, FRAME])))) == 2, "one array of frames is a source"


def test_closing_the_segmenter_ends_its_streams(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw))
    streams = [segment.stream(itertools.repeat(FRAME)) for _ in range(3)]
    for results in streams[:2]:
        next(results)
    segment.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("solov2-edge ")]
    for results in streams:
        with pytest.raises(InputError, match="closed while its stream was read"):
            next(results)
    with pytest.raises(InputError, match="this session is closed"):
        next(segment.stream([FRAME]))


def test_the_network_runs_one_frame_at_a_time(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    inside, most = 0, 0

    def run(batch: np.ndarray[Any, Any]) -> RawOutputs:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1
        return tiny_raw

    segment = Segmenter(FakeSession(tiny_manifest, run))
    callers = [threading.Thread(target=lambda: [segment(FRAME) for _ in range(10)]) for _ in range(2)]
    for caller in callers:
        caller.start()
    both = zip(segment.stream([FRAME] * 15), segment.stream([FRAME] * 15), strict=True)
    assert all(isinstance(one, FrameResult) and one.index == other.index for one, other in both)
    for caller in callers:
        caller.join()
    assert most == 1
