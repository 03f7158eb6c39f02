"""Merging instances with stuff, by hand-made cases."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import InputContract, Manifest, raw_names
from solov2_edge.runtime import Panoptic, PanopticOptions, PanopticSegment, RawOutputs, Segmenter
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic_merge import merge_panoptic, semantic_map
from solov2_edge.runtime.preprocess import fixed_geometry

STUFF = ("sky", "grass")
SKY, GRASS, OTHER = 0, 1, 2
ALL = PanopticOptions(stuff_area=0)


def _instances(*boxes: tuple[int, int, int, int], scores: tuple[float, ...], labels: tuple[int, ...]) -> Instances:
    """Return rectangles (y0, y1, x0, x1) in a 10 x 10 frame as instances."""
    masks = np.zeros((len(boxes), 10, 10), np.bool_)
    for mask, (y0, y1, x0, x1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, scores, labels, ("nut", "bolt"))


def _semantic() -> np.ndarray:
    semantic = np.full((10, 10), SKY, np.int32)
    semantic[5:] = GRASS
    semantic[:, 9] = OTHER
    return semantic


def test_things_by_score_then_stuff_and_other_stays_void() -> None:
    instances = _instances((0, 4, 0, 4), (2, 8, 0, 4), scores=(0.9, 0.8), labels=(1, 0))
    found = merge_panoptic(instances, _semantic(), STUFF, ALL)
    assert found.names == ("nut", "bolt", "sky", "grass")
    assert [(s.id, s.label, s.is_thing) for s in found.segments] == [
        (1, 1, True),
        (2, 0, True),
        (3, 2, False),
        (4, 3, False),
    ]
    assert [s.score for s in found.segments] == [pytest.approx(0.9), pytest.approx(0.8), None, None]
    assert [s.area for s in found.segments] == [16, 16, 45 - 20, 45 - 12]  # two rows of the second are the first's
    assert (found.ids[:4, :4] == 1).all()
    assert (found.ids[4:8, :4] == 2).all()
    assert (found.ids[:, 9] == 0).all()
    assert (found.labels == np.array([-1, 1, 0, 2, 3])[found.ids]).all()
    assert found.instances is instances
    assert found.mask(found.segments[0]).sum() == 16


@pytest.mark.parametrize(("rows", "kept"), [(2, True), (3, False)])
def test_an_instance_stays_if_no_more_than_half_of_it_is_taken(rows: int, kept: bool) -> None:
    instances = _instances((0, rows, 0, 4), (0, 4, 0, 4), scores=(0.9, 0.8), labels=(0, 0))
    found = merge_panoptic(instances, _semantic(), STUFF, ALL)
    assert [s.is_thing for s in found.segments].count(True) == 1 + kept
    # What is left out frees its pixels for those that come later.
    assert (found.ids[3, :4] == (2 if kept else found.ids[3, 5])).all()


def test_thresholds_of_score_and_area_hold_at_equality() -> None:
    instances = _instances((0, 2, 0, 2), (4, 6, 0, 2), scores=(0.5, 0.49), labels=(0, 0))
    options = PanopticOptions(score_threshold=0.5, stuff_area=45)
    found = merge_panoptic(instances, _semantic(), STUFF, options)
    assert [(s.label, s.area) for s in found.segments] == [(0, 4), (3, 45)]  # of the sky 41 pixels are left: too few
    assert [
        s.label for s in merge_panoptic(instances, _semantic(), STUFF, replace(options, stuff_area=46)).segments
    ] == [0]


def test_empty_masks_and_covered_instances_are_no_segments() -> None:
    instances = _instances((0, 4, 0, 4), (0, 4, 0, 4), (5, 5, 5, 5), scores=(0.9, 0.8, 0.7), labels=(0, 1, 1))
    found = merge_panoptic(instances, np.full((10, 10), OTHER, np.int32), STUFF, replace(ALL, overlap_threshold=1.0))
    assert len(found) == 1
    assert len(found.instances) == 3
    empty = merge_panoptic(Instances.empty(4, 5, ("nut",)), np.full((4, 5), 1, np.int32), ("sky",), ALL)
    assert len(empty) == 0
    assert not empty.ids.any()


def test_the_semantic_map_enlarges_logits_as_opencv_does() -> None:
    """A frame twice the input, padding at its right cut off; OpenCV's bilinear resize is the same two steps."""
    logits = np.random.default_rng(0).normal(size=(3, 16, 24)).astype(np.float32)
    geometry = fixed_geometry(128, 150, 64, 96)
    got = semantic_map(logits, geometry)
    large = np.stack([cv2.resize(each, (96, 64), interpolation=cv2.INTER_LINEAR) for each in logits])
    cut = large[:, : geometry.resized_height, : geometry.resized_width]
    frame = np.stack(
        [cv2.resize(np.ascontiguousarray(each), (150, 128), interpolation=cv2.INTER_LINEAR) for each in cut]
    )
    assert got.dtype == np.int32
    assert (got == frame.argmax(axis=0)).mean() > 0.9999


def test_a_segmenter_gives_a_panoptic_map(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    """One nut in the left half; the right half is grass above and other below."""
    manifest, raw = _with_stuff(tiny_manifest, tiny_raw)
    with Segmenter(FakeSession(manifest, raw)) as segment:
        found = segment.panoptic(np.zeros((64, 96, 3), np.uint8), ALL)
        assert [(found.names[s.label], s.area) for s in found.segments] == [("nut", 64 * 48), ("grass", 32 * 48)]
        assert len(segment.panoptic(np.zeros((64, 96, 3), np.uint8))) == 1  # 1536 pixels of grass are below the limit
        assert len(segment(np.zeros((64, 96, 3), np.uint8))) == 1
        assert segment.timings["decode"] > 0


def _with_stuff(manifest: Manifest, raw: RawOutputs) -> tuple[Manifest, RawOutputs]:
    spec = replace(manifest.spec, stuff_names=STUFF)
    logits = np.zeros((3, 16, 24), np.float32)
    logits[GRASS, :8] = logits[OTHER, 8:] = 5
    return replace(manifest, spec=spec, outputs=raw_names(spec)), replace(raw, semantic_logits=logits)


def test_a_network_without_stuff_says_what_it_lacks(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    with Segmenter(FakeSession(tiny_manifest, tiny_raw)) as segment, pytest.raises(InputError, match="trained without"):
        segment.panoptic(np.zeros((64, 96, 3), np.uint8))


def test_outputs_that_are_not_finite_or_of_another_network_are_refused(
    tiny_manifest: Manifest, tiny_raw: RawOutputs
) -> None:
    manifest, raw = _with_stuff(tiny_manifest, tiny_raw)
    assert raw.semantic_logits is not None
    bad = raw.semantic_logits.copy()
    bad[0, 0, 0] = np.nan
    with (
        Segmenter(FakeSession(manifest, replace(raw, semantic_logits=bad))) as segment,
        pytest.raises(SolovEdgeError, match="semantic logits"),
    ):
        segment.panoptic(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(InputError, match="promises"):
        FakeSession(manifest, tiny_raw)
    with pytest.raises(InputError, match="semantic logits must be float32"):
        replace(raw, semantic_logits=bad[:, 1:])


def test_a_manifest_names_the_semantic_logits_exactly_where_there_is_stuff(tiny_manifest: Manifest) -> None:
    spec = replace(tiny_manifest.spec, stuff_names=STUFF)
    manifest = Manifest(spec, "onnx", "fp32", InputContract("image", 64, 96), outputs=raw_names(spec))
    assert Manifest.from_json(manifest.to_json()) == manifest
    for other, names in ((spec, raw_names(tiny_manifest.spec)), (tiny_manifest.spec, raw_names(spec))):
        with pytest.raises(InputError, match="outputs must name"):
            Manifest(other, "onnx", "fp32", manifest.input, outputs=names)


@pytest.mark.parametrize(
    "options", [{"score_threshold": 1.5}, {"overlap_threshold": -0.1}, {"stuff_area": -1}, {"stuff_area": 2.5}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PanopticOptions(**options)  # type: ignore[arg-type]  # that is the point


def test_a_map_that_contradicts_its_segments_is_refused() -> None:
    instances = Instances.empty(2, 2, ("nut",))
    ids = np.array([[1, 1], [0, 0]], np.int32)
    sky = PanopticSegment(1, 1, False, None, 2)
    assert len(Panoptic(ids, (sky,), ("nut", "sky"), instances)) == 1
    for segments, match in (
        ((), "the map must hold"),
        ((replace(sky, area=3),), "the map must hold"),
        ((replace(sky, id=2),), "the map must hold"),
        ((replace(sky, is_thing=True),), "labels must be"),
    ):
        with pytest.raises(InputError, match=match):
            Panoptic(ids, segments, ("nut", "sky"), instances)
    with pytest.raises(InputError, match="int32"):
        Panoptic(ids.astype(np.int64), (sky,), ("nut", "sky"), instances)
    with pytest.raises(InputError, match="one frame"):
        Panoptic(ids[:1], (sky,), ("nut", "sky"), instances)
