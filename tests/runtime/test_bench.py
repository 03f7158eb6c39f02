"""Structure, counts and refusals; never a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime import bench
from solov2_edge.runtime.bench import Contender, Limit, Measured, look, measure
from solov2_edge.runtime.bench_scenes import PLANTED, REAL, find_scenes
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.variants import variant

FRAME = np.zeros((100, 150, 3), np.uint8)
MakeContender = Callable[..., Contender]


@pytest.fixture
def contender(tiny_manifest: Manifest) -> MakeContender:
    """A network of nano's shape at 224x224 that finds ``found`` discs, brighter frames one more per grey level."""
    manifest = replace(tiny_manifest, spec=variant("nano"), input=replace(tiny_manifest.input, height=224, width=224))
    geometry = fixed_geometry(*FRAME.shape[:2], 224, 224)

    def make(name: str = "net", found: int = 3, frames: tuple[Any, ...] = (FRAME,), **options: Any) -> Contender:
        def run(batch: np.ndarray[Any, Any]) -> RawOutputs:
            return planted_outputs(manifest.spec, geometry, found + int(batch[0, 0, 0, 0]))

        segment = Segmenter(FakeSession(manifest, run), DecodeOptions(**options))
        return Contender(
            name, segment, manifest.spec, segment.options, frames, lambda h, w: fixed_geometry(h, w, 224, 224)
        )

    return make


def test_every_round_times_every_stage_of_everyone(contender: MakeContender) -> None:
    both = [contender("a", found=3), contender("b", found=5)]
    scenes = find_scenes(both, [look(c, 1) for c in both], (0, 4))
    results = measure(both, scenes, Limit(rounds=3), pause=0)
    assert [result.instances for result in results] == [[3, 3, 3], [5, 5, 5]]
    for result in results:
        assert {stage: len(times) for stage, times in result.stages.items()} == dict.fromkeys(
            ("preprocess", "network", "decode", "frame", "cpu"), 3
        )
        assert len(result.scenes) == 2
        assert all({k: len(v) for k, v in s.items()} == {"decode": 3, "frame": 3, "cpu": 3} for s in result.scenes)
        for index in range(3):
            before = result.stages["preprocess"][index] + result.stages["network"][index]
            assert result.stages["frame"][index] >= before
            assert all(scene["frame"][index] >= before + scene["decode"][index] for scene in result.scenes)


@pytest.mark.parametrize("masks", ["rle", "full"])
def test_making_masks_is_a_stage_when_asked_for(contender: MakeContender, masks: str) -> None:
    one = contender()
    (result,) = measure([one], find_scenes([one], [look(one, 1)], (2,)), Limit(rounds=2), masks=masks)
    assert len(result.stages["masks"]) == len(result.scenes[0]["masks"]) == 2


def test_masks_are_really_made(contender: MakeContender, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(Instances, "rle", lambda self: made.append("rle"))
    monkeypatch.setattr(Instances, "masks", property(lambda self: made.append("full")))
    for masks in ("crops", "rle", "full"):
        measure([contender()], [()], Limit(rounds=1), masks=masks)
    assert made == ["rle", "full"]
    with pytest.raises(InputError, match="masks must be one of crops, rle, full, got 'polygons'"):
        measure([contender()], [()], Limit(rounds=1), masks="polygons")


def test_contenders_take_turns_and_frames_too(contender: MakeContender, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    frames = (FRAME, FRAME + 1)
    both = [replace(contender(n, frames=frames), prepare=lambda n=n: order.append(n)) for n in "ab"]  # type: ignore[misc]
    results = measure(both, [(), ()], Limit(rounds=3), pause=0.25)
    assert order == ["a", "b"] * 3
    assert pauses == [0.25] * 6
    assert results[0].instances == [3, 4, 3]
    pauses.clear()
    measure(both[:1], [()], Limit(rounds=1), pause=0.25)
    assert not pauses, "alone, there is nobody to wait for"


def test_progress_ends_at_its_total(contender: MakeContender) -> None:
    seen: list[tuple[int, int]] = []
    measure([contender()], [()], Limit(rounds=2), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    seen.clear()
    (result,) = measure(
        [contender()], [()], Limit(seconds=0.1), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (1, 1)
    assert len(result.instances) >= bench.LEAST_ROUNDS


def test_a_limit_is_one_of_two() -> None:
    for wrong in ({}, {"rounds": 1, "seconds": 1.0}):
        with pytest.raises(InputError, match="either a number of rounds or of seconds"):
            Limit(**wrong)  # type: ignore[arg-type]


def test_the_warm_up_finds_the_richest_frame(contender: MakeContender) -> None:
    one = contender(frames=(FRAME, FRAME + 4, FRAME + 2), max_instances=1)
    for frames, most in ((3, 7), (1, 3)):
        seen = look(one, frames)
        assert seen is not None
        assert seen.instances == most
    with pytest.raises(InputError, match="at least 1 frame, got 0"):
        look(one, 0)


def test_real_outputs_are_preferred_and_decode_to_exactly_the_number(contender: MakeContender) -> None:
    one = contender(found=30)
    (scenes,) = find_scenes([one], [look(one, 1)], (0, 1, 7, 30, 31))
    assert [scene.instances for scene in scenes] == [0, 1, 7, 30, 31]
    assert [scene.origin for scene in scenes] == [REAL, REAL, REAL, REAL, PLANTED]
    assert scenes[0].candidates == 0
    assert 7 <= scenes[2].candidates < scenes[3].candidates <= 90
    assert scenes[4].candidates == 93, "three for every planted disc"
    for scene in scenes:
        assert len(decode(scene.raw, scene.geometry, one.spec, scene.options)) == scene.instances
        assert scene.options.score_threshold == one.options.score_threshold


def test_all_contenders_get_the_same_kind_of_scene(contender: MakeContender) -> None:
    both = [contender("rich", found=9), contender("poor", found=2)]
    scenes = find_scenes(both, [look(c, 1) for c in both], (2, 5))
    assert [[scene.origin for scene in own] for own in scenes] == [[REAL, PLANTED]] * 2


def test_the_limit_of_instances_does_not_hold_scenes_back(contender: MakeContender) -> None:
    one = contender(found=30, max_instances=2)
    (scenes,) = find_scenes([one], [look(one, 1)], (5, 40))
    assert [scene.instances for scene in scenes] == [5, 40]


def test_planted_instances_that_options_reject_are_refused(contender: MakeContender) -> None:
    one = contender(found=0, max_candidates=4)
    with pytest.raises(InputError, match="of 5 planted instances 4 survive decoding"):
        find_scenes([one], [look(one, 1)], (5,))


def test_a_scene_that_changes_its_mind_is_an_error(contender: MakeContender) -> None:
    one = contender()
    (scenes,) = find_scenes([one], [look(one, 1)], (2,))
    with pytest.raises(SolovEdgeError, match="decoded to 3 instances, then to 2"):
        measure([one], [[replace(scenes[0], instances=3)]], Limit(rounds=1))


def test_a_contender_needs_frames(contender: MakeContender) -> None:
    with pytest.raises(InputError, match="net needs at least one frame"):
        contender(frames=())


def test_values_are_frozen(contender: MakeContender) -> None:
    one = contender()
    for value, name in ((one, "name"), (look(one, 1), "raw"), (Limit(rounds=1), "rounds"), (Measured(), "stages")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
