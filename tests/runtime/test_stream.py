"""Watching a source: the newest frame of a camera however slow the model is, every frame of a video; nothing left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime import RawOutputs, Segmenter, watch
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Frame, Mode, Source, SourceStatus
from solov2_edge.runtime.source_shapes import ShapeSource

pytestmark = pytest.mark.usefixtures("nothing_left")
MakeSegmenter = Callable[..., Segmenter]


class StepCamera(Source):
    """A camera whose every frame is released by the test; its frames' grey is their index."""

    def __init__(self, mode: Mode = Mode.LIVE, fps: float | None = None) -> None:
        self.description, self.mode, self.fps = "step camera", mode, fps
        self.released = threading.Semaphore(0)
        self.asked_for = 0
        self.monitor = threading.Condition()
        self.error: Exception | None = None
        self.last: int | None = None
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while index != self.last:
            with self.monitor:
                self.asked_for = index + 1
                self.monitor.notify_all()
            assert self.released.acquire(timeout=20)
            if self.closed:
                return
            if self.error is not None:
                raise self.error
            yield Frame(np.full((64, 96, 3), index % 256, np.uint8), index, time.perf_counter())
            index += 1

    def give(self, count: int = 1) -> None:
        """Release frames and wait until all of them have been taken: until the next one is asked for."""
        for _ in range(count):
            wanted = self.asked_for + 1
            self.released.release()
            with self.monitor:
                while self.asked_for < wanted:
                    assert self.monitor.wait(20)

    def status(self) -> SourceStatus:
        return SourceStatus("closed" if self.closed else "open")

    def close(self) -> None:
        self.closed = True
        self.released.release()


@pytest.fixture
def make_segmenter(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> MakeSegmenter:
    """A segmenter whose network calls a function with the frame's grey before it answers."""

    def make(during: Callable[[int], object] = lambda grey: None) -> Segmenter:
        def run(batch: np.ndarray[Any, Any]) -> RawOutputs:
            during(int(batch[0, 0, 0, 0]))
            return tiny_raw

        return Segmenter(FakeSession(tiny_manifest, run))

    return make


@pytest.mark.parametrize("slower", [1, 2, 3, 7])
def test_live_takes_the_newest_frame_however_slow_the_model_is(make_segmenter: MakeSegmenter, slower: int) -> None:
    """While the model works on one frame, ``slower`` come: the last of them is next, the others are dropped.

    So between a frame's capture and its instances never more frames come than during one run of the model: the
    latency is that of the model, and what the frame waited, which is less than one frame of the camera.
    """
    camera = StepCamera()
    segment = make_segmenter(lambda grey: camera.give(slower))
    results = watch(segment, camera)
    begun = threading.Thread(target=camera.give)
    begun.start()
    got, came = [], []
    for result in results:
        got.append(result)
        came.append(camera.asked_for - 1 - result.frame.index)
        if len(got) == 5:
            break
    results.close()
    begun.join()
    assert [result.frame.index for result in got] == [number * slower for number in range(5)]
    assert [result.dropped for result in got] == [number * (slower - 1) for number in range(5)]
    assert all(slower <= count <= 2 * slower for count in came), came  # the one after it may be under way
    assert camera.closed


def test_live_drops_nothing_where_the_camera_is_slower(make_segmenter: MakeSegmenter) -> None:
    camera = StepCamera()
    results = watch(make_segmenter(), camera)
    got = []
    for _ in range(5):
        camera.released.release()
        got.append(next(results))
    results.close()
    assert [(result.frame.index, result.dropped) for result in got] == [(index, 0) for index in range(5)]
    assert {len(result.instances) for result in got} == {1}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_result_carries_its_own_frame_times_and_latency(make_segmenter: MakeSegmenter, depth: int) -> None:
    source = ShapeSource(64, 48, 200, 30)
    last = -1
    for result in watch(make_segmenter(lambda grey: time.sleep(0.02)), source, depth=depth):
        assert list(result.timings) == ["capture", "preprocess", "network", "decode"]
        own = sum(result.timings.values()) - result.timings["capture"]
        assert 20 <= own <= result.latency < 10_000
        assert result.frame.index > last
        last = result.frame.index
    assert last == 29, "the last frame is never dropped"
    assert result.dropped > 10
    assert source.status().state == "ended"


def test_video_gives_every_frame_in_order(make_segmenter: MakeSegmenter) -> None:
    source = ShapeSource(64, 48, 0, 12)
    with make_segmenter() as segment:
        results = list(watch(segment, source))
        assert [result.frame.index for result in results] == list(range(12))
        assert {result.dropped for result in results} == {0}
        frames = [frame.image for frame in ShapeSource(64, 48, 0, 12)]
        for result, frame in zip(results, frames, strict=True):
            np.testing.assert_array_equal(result.frame.image, frame)
            assert result.latency >= result.timings["network"]


def test_a_camera_in_video_mode_gives_every_frame(make_segmenter: MakeSegmenter) -> None:
    segment = make_segmenter(lambda grey: time.sleep(0.005))
    results = list(watch(segment, ShapeSource(64, 48, 500, 10), mode=Mode.VIDEO))
    assert [result.frame.index for result in results] == list(range(10))


def test_pictures_go_one_by_one(make_segmenter: MakeSegmenter, tmp_path: Path) -> None:
    for number in range(3):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20 + number, 30, 3), number, np.uint8))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    seen: list[int] = []
    source = open_source(tmp_path)
    results = watch(make_segmenter(seen.append), source)
    first = next(results)
    assert seen == [0], "the next is not begun before it is asked for"
    assert first.frame.name == str(tmp_path / "0.png")
    (second,) = results
    assert (second.frame.index, second.frame.image.shape) == (2, (22, 30, 3))
    assert (source.status().corrupt, source.status().state) == (1, "ended")


def test_live_plays_a_file_at_its_rate(make_segmenter: MakeSegmenter, tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 100, (64, 48))
    for _ in range(20):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    start = time.perf_counter()
    segment = make_segmenter(lambda grey: time.sleep(0.03))
    results = list(watch(segment, open_source(path), mode=Mode.LIVE))
    assert time.perf_counter() - start >= 0.19, "nineteen frames of 10 ms"
    assert results[-1].frame.index == 19
    assert results[-1].dropped == 20 - len(results) > 0
    assert all(result.frame.captured - start >= result.frame.index / 100 - 1e-3 for result in results)


def test_contradictions_are_refused_before_anything_runs(make_segmenter: MakeSegmenter, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    segment = make_segmenter()
    with pytest.raises(InputError, match=r"no frame rate to be played at, .*in image mode"):
        watch(segment, open_source(tmp_path), mode=Mode.LIVE)
    with pytest.raises(InputError, match="pictures go one by one"):
        watch(segment, open_source(tmp_path), depth=3)
    for mode in (Mode.LIVE, Mode.VIDEO):
        with pytest.raises(InputError, match="depth must be a whole number"):
            next(watch(segment, ShapeSource(), mode=mode, depth=0))


@pytest.mark.parametrize("mode", list(Mode))
def test_an_error_of_the_source_comes_after_what_it_gave(make_segmenter: MakeSegmenter, mode: Mode) -> None:
    camera = StepCamera()
    results = watch(make_segmenter(), camera, mode=mode)
    camera.released.release()
    assert next(results).frame.index == 0
    camera.error = InputError("it burnt down")
    camera.released.release()
    with pytest.raises(InputError, match="it burnt down"):
        next(results)
    assert camera.closed


@pytest.mark.parametrize("mode", list(Mode))
def test_an_error_of_the_network_stops_it_all(make_segmenter: MakeSegmenter, mode: Mode) -> None:
    def fail(grey: int) -> None:
        raise SolovEdgeError("no memory")

    source = ShapeSource(64, 48, 500)
    with pytest.raises(SolovEdgeError, match="no memory"):
        next(watch(make_segmenter(fail), source, mode=mode))
    assert source.status().state == "closed"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("read", [0, 1, 4])
def test_leaving_in_the_middle_leaves_nothing(make_segmenter: MakeSegmenter, mode: Mode, read: int) -> None:
    source = ShapeSource(64, 48, 500)
    results = watch(make_segmenter(), source, mode=mode)
    for _ in range(read):
        next(results)
    results.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("solov2-edge ")] == []
    assert source.status().state == ("closed" if read else "open")


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.VIDEO])
def test_leaving_while_a_frame_is_waited_for(
    make_segmenter: MakeSegmenter, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_in_vain: list[str] = []
    join = threading.Thread.join

    def noted(self: threading.Thread, timeout: float | None = None) -> None:
        join(self, timeout)
        if self.is_alive():
            waited_in_vain.append(self.name)

    monkeypatch.setattr(threading.Thread, "join", noted)
    camera = StepCamera()
    results = watch(make_segmenter(), camera, mode=mode)
    camera.released.release()
    next(results)
    results.close()
    assert waited_in_vain == [], "the patience for what is stuck was not needed"


def test_closing_the_source_ends_the_stream(make_segmenter: MakeSegmenter) -> None:
    source = ShapeSource(64, 48, 0.1)
    results = watch(make_segmenter(), source)
    next(results)
    closing = threading.Timer(0.05, source.close)
    closing.start()
    assert list(results) == []
    closing.join()


@pytest.mark.parametrize(("mode", "depth"), [(Mode.LIVE, 1), (Mode.LIVE, 2), (Mode.VIDEO, 3), (Mode.IMAGE, 1)])
def test_closing_the_segmenter_is_told(make_segmenter: MakeSegmenter, mode: Mode, depth: int) -> None:
    segment = make_segmenter()
    results = watch(segment, ShapeSource(64, 48, 500), mode=mode, depth=depth)
    next(results)
    segment.close()
    with pytest.raises(InputError, match=r"the segmenter was closed while its stream was read|session is closed"):
        list(results)


def test_a_camera_whose_driver_is_stuck_holds_nobody_up(
    make_segmenter: MakeSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from solov2_edge.runtime import newest

    monkeypatch.setattr(newest, "CLOSE_PATIENCE_SECONDS", 0.05)

    class Stuck(StepCamera):
        def close(self) -> None:
            self.closed = True  # and the read goes on

    camera = Stuck()
    results = watch(make_segmenter(), camera)
    camera.released.release()
    next(results)
    results.close()
    (left,) = [thread for thread in threading.enumerate() if thread.name == "solov2-edge capture"]
    assert left.daemon
    camera.released.release()  # the driver's own time-out
    left.join(10)
    assert not left.is_alive()
