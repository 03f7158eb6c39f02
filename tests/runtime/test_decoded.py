"""Artefacts that decode inside their graph: their manifest, their outputs, and what can still be chosen."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import DECODED_NAMES, OUTPUT_NAMES, GraphDecode, Manifest
from solov2_edge.runtime.contract import engine_outputs, output_is_whole, output_shapes
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.decoded import agreed_options, baked_options, decoded_instances
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.loading import segmenter_of
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs

LIMITS = GraphDecode(max_candidates=8, max_instances=3)
FRAME = np.full((50, 90, 3), 90, np.uint8)


@pytest.fixture
def manifest(tiny_manifest: Manifest) -> Manifest:
    return replace(tiny_manifest, decode=LIMITS, outputs=DECODED_NAMES)


@pytest.fixture
def decoded(tiny_raw: RawOutputs) -> DecodedOutputs:
    """What a graph with room for three gives for ``tiny_raw``: one nut, two unused rows."""
    masks = np.full((3, 16, 24), -64, np.float32)
    masks[0] = tiny_raw.mask_features[0]
    # The mean probability over the mask is that of a logit of 10.
    score = np.float32(0.9) / (1 + np.exp(np.float32(-10)))
    return DecodedOutputs(np.array([score, 0, 0], np.float32), np.zeros(3, np.int32), masks)


def same(ours: Instances, expected: Instances) -> None:
    np.testing.assert_allclose(ours.scores, expected.scores, rtol=1e-6)
    np.testing.assert_array_equal(ours.labels, expected.labels)
    np.testing.assert_array_equal(ours.masks, expected.masks)


def test_a_segmenter_gives_what_the_host_would_decode(
    manifest: Manifest, decoded: DecodedOutputs, tiny_raw: RawOutputs
) -> None:
    segment = Segmenter(FakeSession(manifest, decoded))
    assert segment.options == DecodeOptions(max_candidates=8, max_instances=3)
    instances = segment(FRAME)
    same(instances, decode(tiny_raw, fixed_geometry(50, 90, 64, 96), manifest.spec))
    assert len(instances) == 1
    same(next(segment.stream([FRAME])).instances, instances)


def test_scores_do_not_change_with_the_engines_buffer(manifest: Manifest, decoded: DecodedOutputs) -> None:
    instances = Segmenter(FakeSession(manifest, decoded))(FRAME)
    score = float(instances.scores[0])
    decoded.scores[:] = 0
    assert instances.scores[0] == score


def test_no_instance_is_a_normal_result(manifest: Manifest, decoded: DecodedOutputs) -> None:
    none = DecodedOutputs(np.zeros(3, np.float32), np.zeros(3, np.int32), decoded.masks)
    instances = Segmenter(FakeSession(manifest, none))(FRAME)
    assert len(none) == len(instances) == 0
    assert instances.masks.shape == (0, 50, 90)


def test_raw_outputs_are_refused_with_the_cure(manifest: Manifest, decoded: DecodedOutputs) -> None:
    with pytest.raises(InputError, match=r"decodes inside its graph.*--decode host"):
        Segmenter(FakeSession(manifest, decoded)).raw(FRAME)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 0.3}, "score_threshold was baked into.*exactly 0.1, got 0.3.*--decode host"),
        ({"keep_threshold": 0.01}, "expected at least 0.05, got 0.01"),
        ({"max_instances": 4}, "expected at most 3, got 4"),
        ({"max_candidates": 7}, "exactly 8, got 7"),
        ({"nms_kernel": "linear"}, "exactly 'gaussian', got 'linear'"),
        ({"points_nms": False}, "points_nms"),
        ({"keep_threshold": 2.0}, "between 0 and 1"),
    ],
)
def test_what_contradicts_the_graph_is_refused(
    manifest: Manifest, decoded: DecodedOutputs, options: dict[str, Any], message: str
) -> None:
    session = FakeSession(manifest, decoded)
    with pytest.raises(InputError, match=message):
        segmenter_of(session, options)
    with pytest.raises(InputError, match="closed"):
        session.run(np.zeros((1, 64, 96, 3), np.uint8))
    if "between" not in message:
        with pytest.raises(InputError, match=message):
            Segmenter(FakeSession(manifest, decoded), replace(baked_options(LIMITS), **options))


def test_what_only_shortens_the_result_is_taken() -> None:
    geometry = fixed_geometry(50, 90, 64, 96)
    masks = np.full((3, 16, 24), -64, np.float32)
    for row in range(3):
        masks[row, 4 * row : 4 * row + 3, 3:20] = 8
    outputs = DecodedOutputs(np.array([0.9, 0.5, 0.06], np.float32), np.array([1, 0, 1], np.int32), masks)
    from solov2_edge.spec import ModelSpec

    spec = ModelSpec(name="two", class_names=("nut", "bolt"))
    everything = decoded_instances(outputs, geometry, spec, baked_options(LIMITS))
    assert [len(everything), *everything.labels] == [3, 1, 0, 1]
    for given, count in (
        ({"keep_threshold": 0.5}, 2),
        ({"keep_threshold": 0.51}, 1),
        ({"max_instances": 2}, 2),
        ({"score_threshold": 0.1, "max_instances": 1}, 1),
        ({}, 3),
    ):
        fewer = decoded_instances(outputs, geometry, spec, agreed_options(LIMITS, given))
        same(fewer, everything[:count])


def test_masks_without_a_number_are_refused(manifest: Manifest, decoded: DecodedOutputs) -> None:
    decoded.masks[0, 0, 0] = np.nan
    with pytest.raises(SolovEdgeError, match="non-finite"):
        Segmenter(FakeSession(manifest, decoded))(FRAME)
    decoded.masks[0, 0, 0], decoded.masks[1, 0, 0] = -10, np.nan  # of an unused row, which nobody looks at
    assert len(Segmenter(FakeSession(manifest, decoded))(FRAME)) == 1


@pytest.mark.parametrize("scores", [[0.5, 0.6, 0], [0.5, np.nan, 0], [np.nan, 0, 0], [0.5, 0, -0.1]])
def test_scores_an_engine_got_wrong_are_refused(scores: list[float]) -> None:
    with pytest.raises(SolovEdgeError, match="not finite or not falling"):
        DecodedOutputs(np.array(scores, np.float32), np.zeros(3, np.int32), np.zeros((3, 2, 2), np.float32))


@pytest.mark.parametrize(
    ("labels", "masks"),
    [
        (np.zeros(3, np.int64), np.zeros((3, 2, 2), np.float32)),
        (np.zeros(3, np.int32), np.zeros((2, 2, 2), np.float32)),
    ],
)
def test_outputs_of_another_form_are_refused(labels: Any, masks: Any) -> None:
    with pytest.raises(InputError, match="decoded outputs must be"):
        DecodedOutputs(np.zeros(3, np.float32), labels, masks)


def test_an_engines_arrays_become_outputs(manifest: Manifest, decoded: DecodedOutputs) -> None:
    assert output_shapes(manifest) == ((3,), (3,), (3, 16, 24))
    assert output_is_whole(manifest) == (False, True, False)
    arrays: list[np.ndarray[Any, Any]] = [
        decoded.scores[None].astype(np.float16),
        decoded.labels.astype(np.int64),
        decoded.masks,
    ]
    outputs = engine_outputs(arrays, manifest)
    assert isinstance(outputs, DecodedOutputs)
    np.testing.assert_allclose(outputs.scores, decoded.scores, atol=1e-3)
    with pytest.raises(InputError, match=r"'masks' has shape \(2, 16, 24\)"):
        engine_outputs([*arrays[:2], decoded.masks[:2]], manifest)


def test_a_fake_session_gives_what_its_manifest_promises(
    manifest: Manifest, tiny_manifest: Manifest, decoded: DecodedOutputs, tiny_raw: RawOutputs
) -> None:
    with pytest.raises(InputError, match="promises DecodedOutputs, got RawOutputs"):
        FakeSession(manifest, tiny_raw)
    with pytest.raises(InputError, match="promises RawOutputs, got DecodedOutputs"):
        FakeSession(tiny_manifest, decoded)
    with pytest.raises(InputError, match="their manifest promises"):
        FakeSession(replace(manifest, decode=replace(LIMITS, max_instances=2)), decoded)


def test_a_manifest_tells_what_was_baked_in(manifest: Manifest, tiny_manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest
    data = json.loads(manifest.to_json())
    assert data["decode"] == asdict(LIMITS)
    assert data["schema_version"] == 1
    older = json.loads(tiny_manifest.to_json())
    del older["decode"]
    assert Manifest.from_json(json.dumps(older)) == tiny_manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": OUTPUT_NAMES}, "outputs must name scores, labels and masks"),
        ({"decode": {**asdict(LIMITS), "depth": 3}}, "lacks or misspells a field"),
        ({"decode": {**asdict(LIMITS), "keep_threshold": 0}}, "keep_threshold.*out of range"),
        ({"decode": {**asdict(LIMITS), "max_instances": 9}}, "at most max_candidates, got 9 of 8"),
        ({"decode": {**asdict(LIMITS), "max_candidates": 0}}, "at least 1, got 0"),
        ({"decode": {**asdict(LIMITS), "nms_kernel": "soft"}}, "nms_kernel"),
        ({"decode": {**asdict(LIMITS), "points_nms": 1}}, "true or false"),
        ({"decode": None}, "outputs must name class scores"),
        ({"decode": [3]}, "lacks or misspells"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    manifest: Manifest, change: dict[str, Any], message: str
) -> None:
    data = {**json.loads(manifest.to_json()), **change}
    with pytest.raises(InputError, match=message):
        Manifest.from_json(json.dumps(data))
