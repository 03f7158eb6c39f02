from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic, perf_counter, sleep
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.live import run_live
from solov2_edge.demos.live_controls import Controls, Settings
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.source import Frame, Mode, Source, SourceStatus
from solov2_edge.runtime.source_shapes import ShapeSource
from solov2_edge.spec import ModelSpec

HEIGHT, WIDTH = 64, 96


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    until = monotonic() + 5
    while (left := [t.name for t in threading.enumerate() if t.name.startswith("solov2-edge")]) and monotonic() < until:
        sleep(0.01)
    assert not left


class Frames(Source):
    """Grey frames of the given sizes; waits where a size is None until it is told to go on or closed."""

    def __init__(self, sizes: list[tuple[int, int] | None], mode: Mode = Mode.VIDEO, fail: bool = False) -> None:
        self.description, self.mode = "frames", mode
        self.fps: float | None = 10.0
        self.sizes, self.fail = sizes, fail
        self.go_on = threading.Event()
        self.closed = False
        self.state = SourceStatus()

    def __iter__(self) -> Iterator[Frame]:
        for index, size in enumerate(self.sizes):
            if size is None:
                self.go_on.wait()
                self.go_on.clear()
                if self.closed:
                    return
                size = (HEIGHT, WIDTH)
            yield Frame(np.full((*size, 3), 99, np.uint8), index, perf_counter(), seconds=index / 10)
        if self.fail:
            raise InputError("the film tore")

    def status(self) -> SourceStatus:
        return self.state

    def close(self) -> None:
        self.closed = True
        self.go_on.set()


@dataclass
class Witness:
    """Remembers what it was shown and does something at certain frames or ticks."""

    at: dict[int, Callable[[], object]] = field(default_factory=dict)
    ticking: Callable[[Statistics], object] = lambda statistics: None
    shown: list[Shown] = field(default_factory=list)
    ticks: int = 0
    closed: int = 0

    def show(self, shown: Shown) -> None:
        self.shown.append(shown)
        self.at.get(len(self.shown), lambda: None)()

    def tick(self, statistics: Statistics) -> None:
        self.ticks += 1
        self.ticking(statistics)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def manifest() -> Manifest:
    spec = ModelSpec(
        name="tiny", class_names=("nut", "bolt"), pyramid_width=8, tower_width=8, mask_width=8, mask_channels=4,
        norm_groups=4, grids=(12, 8, 6, 4, 3),
    )  # fmt: skip
    return Manifest(spec=spec, format="onnx", precision="fp32", input=InputContract("image", HEIGHT, WIDTH))


@pytest.fixture
def planted(manifest: Manifest) -> Callable[..., Segmenter]:
    """A segmenter that finds so many discs, nuts and bolts in turn, each with a score of about ``score``."""

    def build(count: int = 4, score: float = 0.9, run: Callable[[], object] = lambda: None) -> Segmenter:
        raw = planted_outputs(manifest.spec, fixed_geometry(HEIGHT, WIDTH, HEIGHT, WIDTH), count, score=score)

        def give(batch: NDArray[Any]) -> RawOutputs:
            run()
            return raw

        return Segmenter(FakeSession(manifest, give))

    return build


def controls(**settings: Any) -> Controls:
    return Controls(("nut", "bolt"), Settings(**settings))


def test_every_frame_is_shown_to_everybody_and_all_is_closed(planted: Callable[..., Segmenter]) -> None:
    source, first, second = Frames([(HEIGHT, WIDTH)] * 5), Witness(), Witness()
    segment = planted()
    options = segment.options
    summary = run_live(segment, source, [first, second], controls())
    assert [shown.frame.index for shown in first.shown] == [0, 1, 2, 3, 4]
    assert first.shown == second.shown
    assert (first.closed, second.closed, source.closed) == (1, 1, True)
    assert [len(shown.instances) for shown in first.shown] == [4] * 5
    assert all(shown.tracks.tolist() == first.shown[0].tracks.tolist() for shown in first.shown)
    assert sorted(first.shown[0].tracks.tolist()) == [1, 2, 3, 4]
    assert summary["frames"] == 5
    assert summary["dropped"] == summary["corrupt"] == summary["reopened"] == 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]
    assert [shown.statistics.frames for shown in first.shown] == [1, 2, 3, 4, 5]
    assert segment.options is options


def test_an_end_after_so_many_frames(planted: Callable[..., Segmenter]) -> None:
    witness = Witness()
    assert run_live(planted(), Frames([(HEIGHT, WIDTH)] * 9), [witness], controls(), frames=3)["frames"] == 3
    assert len(witness.shown) == 3


def test_nothing_found_and_nothing_given_are_normal(planted: Callable[..., Segmenter]) -> None:
    witness = Witness()
    run_live(planted(0), Frames([(HEIGHT, WIDTH)] * 2), [witness], controls())
    assert [len(shown.instances) for shown in witness.shown] == [0, 0]
    assert (witness.shown[0].overlay == 99).all()
    summary = run_live(planted(), Frames([]), [witness], controls())
    assert summary["frames"] == 0
    assert summary["fps"] is None


def test_the_size_may_change_in_the_middle(planted: Callable[..., Segmenter]) -> None:
    witness = Witness()
    sizes: list[tuple[int, int] | None] = [(HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH), (HEIGHT, WIDTH)]
    run_live(planted(), Frames(sizes), [witness], controls())
    assert [shown.overlay.shape[:2] for shown in witness.shown] == sizes
    assert [len(shown.instances) for shown in witness.shown] == [4, 4, 4]


def test_pictures_are_not_followed_from_one_to_the_next(planted: Callable[..., Segmenter]) -> None:
    witness = Witness()
    run_live(planted(2), Frames([(HEIGHT, WIDTH)] * 3, Mode.IMAGE), [witness], controls())
    assert [sorted(shown.tracks.tolist()) for shown in witness.shown] == [[1, 2], [3, 4], [5, 6]]


def test_settings_count_from_the_next_frame_on(planted: Callable[..., Segmenter]) -> None:
    knobs = controls()
    witness = Witness(
        {
            1: lambda: knobs.change(classes=["bolt"]),
            2: lambda: knobs.change(classes=[]),
            3: lambda: knobs.change(classes=None, score_threshold=0.99),
            4: lambda: knobs.change(score_threshold=0.3),
        }
    )
    run_live(planted(), Frames([(HEIGHT, WIDTH)] * 12), [witness], knobs)
    assert [len(shown.instances) for shown in witness.shown[:4]] == [4, 2, 0, 0]
    assert set(witness.shown[1].instances.names) == {"bolt"}
    assert len(witness.shown[-1].instances) == 4  # after those that were decoded with the high threshold
    assert witness.shown[-1].tracks.tolist() == witness.shown[0].tracks.tolist()


def test_the_threshold_is_what_filtering_the_decoded_scores_gives(planted: Callable[..., Segmenter]) -> None:
    segment = planted(6, 0.5)
    everything = segment(np.full((HEIGHT, WIDTH, 3), 99, np.uint8))
    threshold = float(np.sort(everything.scores)[2])
    witness = Witness()
    run_live(segment, Frames([(HEIGHT, WIDTH)] * 2), [witness], controls(score_threshold=threshold))
    wanted = everything[everything.scores >= np.float32(threshold)]
    assert 0 < len(wanted) < len(everything)
    for shown in witness.shown:
        np.testing.assert_array_equal(shown.instances.scores, wanted.scores)
        np.testing.assert_array_equal(shown.instances.masks, wanted.masks)


def test_a_pause_stands_still_and_shows_settings_on_the_same_frame(planted: Callable[..., Segmenter]) -> None:
    knobs = controls(score_threshold=0.99)
    todo = iter([lambda: knobs.change(score_threshold=0.3), lambda: knobs.change(classes=["nut"])])

    def ticking(statistics: Statistics) -> None:
        if knobs.settings.paused:
            next(todo, lambda: knobs.change(paused=False))()

    witness = Witness({2: lambda: knobs.change(paused=True)}, ticking)
    run_live(planted(), Frames([(HEIGHT, WIDTH)] * 4), [witness], knobs)
    assert [shown.frame.index for shown in witness.shown] == [0, 1, 1, 1, 2, 3]
    assert [shown.repeated for shown in witness.shown] == [False, False, True, True, False, False]
    assert [len(shown.instances) for shown in witness.shown[:4]] == [0, 0, 4, 2]
    assert witness.shown[3].statistics.frames == 2  # a frame that is shown again is not counted again


def test_a_paused_camera_goes_on_with_a_frame_of_now(planted: Callable[..., Segmenter]) -> None:
    knobs = controls()
    resumed = 0.0

    def resume(statistics: Statistics) -> None:
        nonlocal resumed
        if knobs.settings.paused and witness.ticks > 8:
            resumed = perf_counter()
            knobs.change(paused=False)

    witness = Witness({3: lambda: knobs.change(paused=True)}, resume)
    run_live(planted(), ShapeSource(WIDTH, HEIGHT, fps=100, frames=120), [witness], knobs)
    following = next(shown for shown in witness.shown[3:] if not shown.repeated)
    assert following.frame.captured >= resumed > 0


def test_while_nothing_comes_the_views_tick_and_may_stop(planted: Callable[..., Segmenter]) -> None:
    knobs = controls()
    source = Frames([(HEIGHT, WIDTH), None, (HEIGHT, WIDTH)], Mode.LIVE)
    seen: list[str] = []

    def ticking(statistics: Statistics) -> None:
        seen.append(statistics.state)
        source.state = SourceStatus("reopening", 2, 1, "it is gone")
        if len(seen) > 3:
            knobs.stop()

    witness = Witness(ticking=ticking)
    summary = run_live(planted(), source, [witness], knobs)
    assert seen[-1] == "reopening"
    assert len(witness.shown) == 1
    assert (summary["corrupt"], summary["reopened"]) == (2, 1)


def test_an_error_of_the_source_closes_everything(planted: Callable[..., Segmenter]) -> None:
    source, witness = Frames([(HEIGHT, WIDTH)] * 2, fail=True), Witness()
    with pytest.raises(InputError, match="the film tore"):
        run_live(planted(), source, [witness], controls())
    assert len(witness.shown) == 2
    assert witness.closed == 1


def test_an_error_of_the_network_closes_everything(planted: Callable[..., Segmenter]) -> None:
    def fail() -> None:
        raise SolovEdgeError("out of order")

    witness = Witness()
    with pytest.raises(SolovEdgeError, match="out of order"):
        run_live(planted(run=fail), Frames([(HEIGHT, WIDTH)] * 2), [witness], controls())
    assert witness.closed == 1


def test_an_error_of_a_view_closes_the_others(planted: Callable[..., Segmenter]) -> None:
    class Broken(Witness):
        def show(self, shown: Shown) -> None:
            raise BrokenPipeError

        def close(self) -> None:
            raise OSError("closing fails too")

    source, witness = Frames([(HEIGHT, WIDTH)] * 2), Witness()
    with pytest.raises(OSError, match="closing fails too"):
        run_live(planted(), source, [Broken(), witness], controls())
    assert witness.closed == 1
    assert source.closed


def test_a_slow_model_drops_and_stays_fresh(planted: Callable[..., Segmenter]) -> None:
    witness = Witness()
    source = ShapeSource(WIDTH, HEIGHT, fps=100, frames=60)
    summary = run_live(planted(run=lambda: sleep(0.05)), source, [witness], controls())
    assert summary["frames"] + summary["dropped"] == 60
    assert summary["dropped"] > 30
    indices = [shown.frame.index for shown in witness.shown]
    assert indices == sorted(set(indices))


def test_live_mode_needs_a_pace(planted: Callable[..., Segmenter]) -> None:
    source, witness = Frames([(HEIGHT, WIDTH)]), Witness()
    source.fps = None
    with pytest.raises(InputError, match="no frame rate"):
        run_live(planted(), source, [witness], controls(), mode=Mode.LIVE)
    assert witness.closed == 1
    assert source.closed
