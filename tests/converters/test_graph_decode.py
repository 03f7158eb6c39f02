"""Decoding inside a graph against decoding on the host: random and adversarial raw outputs, instance by instance."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solov2_edge.converters.graph_decode import UNUSED_LOGIT, GraphDecoder
from solov2_edge.errors import InputError
from solov2_edge.manifest import GraphDecode
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.decoded import baked_options, decoded_instances
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

SPEC = ModelSpec(
    name="tiny",
    class_names=("ant", "bee", "cat"),
    pyramid_width=8,
    tower_width=8,
    mask_width=8,
    mask_channels=4,
    norm_groups=4,
    grids=(5, 4, 3, 2, 1),
)
GEOMETRY = fixed_geometry(150, 233, 96, 160)
LIMITS = GraphDecode(max_candidates=165, max_instances=165)  # every cell and class


def random_raw(seed, share=0.3, values=None, blobs=None):
    """Smooth masks of every size; scores continuous, or of few ``values``; kernels all different, or of few blobs."""
    rng = np.random.default_rng(seed)
    cells, classes, channels = SPEC.num_cells, SPEC.num_classes, SPEC.mask_channels
    scores = rng.random((cells, classes)) if values is None else rng.choice(values, (cells, classes))
    scores = np.where(rng.random((cells, classes)) < share, scores, 0).astype(np.float32)
    y, x = np.mgrid[0:24, 0:40] / 12
    features = np.stack([np.ones_like(x), x, y, x * x + y * y]).astype(np.float32)
    count = cells if blobs is None else blobs
    centre_x, centre_y, radius = rng.uniform(0, 3.3, count), rng.uniform(0, 2, count), rng.uniform(0.05, 1.2, count)
    discs = np.stack([radius**2 - centre_x**2 - centre_y**2, 2 * centre_x, 2 * centre_y, -np.ones(count)], 1)
    steepness = rng.uniform(1, 40, (count, 1)) / radius[:, None] ** 2
    kernels = (discs * steepness).astype(np.float32)[rng.integers(0, count, cells) if blobs else np.arange(cells)]
    assert kernels.shape == (cells, channels)
    return RawOutputs(scores, kernels, features)


def assert_same(raw, limits=LIMITS, expected=None):
    decoder = GraphDecoder(SPEC, limits)
    outputs = decoder.run(raw)
    options = baked_options(limits)
    ours = decoded_instances(outputs, GEOMETRY, SPEC, options)
    host = decode(raw, GEOMETRY, SPEC, options) if expected is None else expected
    assert len(outputs) == len(ours) == len(host)
    np.testing.assert_allclose(ours.scores, host.scores, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(ours.labels, host.labels)
    np.testing.assert_array_equal(ours.masks, host.masks)
    unused = outputs.masks[len(outputs) :]
    assert (unused == UNUSED_LOGIT).all()
    assert not outputs.labels[len(outputs) :].any()
    return ours


VARIANTS = {
    "defaults": {},
    "linear": {"nms_kernel": "linear"},
    "narrow sigma": {"nms_sigma": 0.5},
    "other thresholds": {"score_threshold": 0.3, "keep_threshold": 0.2, "mask_threshold": 0.3},
    "few rows": {"max_instances": 3},
    "no points NMS": {"points_nms": False},
    "no area filter": {"area_filter": False},
    "everything": {"score_threshold": 0.0, "keep_threshold": 1e-9, "points_nms": False, "area_filter": False},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_host(name, seed):
    assert len(assert_same(random_raw(seed), replace(LIMITS, **VARIANTS[name]))) > 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.02, 0.3, 1.0]), linear=st.booleans())
def test_equals_the_host_on_any_outputs(seed, share, linear):
    assert_same(random_raw(seed, share), replace(LIMITS, nms_kernel="linear" if linear else "gaussian"))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.1, 1.0]),
    blobs=st.integers(1, 4),
    linear=st.booleans(),
    points=st.booleans(),
)
def test_ties_and_exact_duplicates_fall_as_on_the_host(seed, share, blobs, linear, points):
    """Three scores and up to four different masks: every score is shared by many cells, and so is every mask."""
    raw = random_raw(seed, share, values=[0.125, 0.5, 0.75], blobs=blobs)
    limits = replace(LIMITS, nms_kernel="linear" if linear else "gaussian", points_nms=points)
    assert_same(raw, limits)


def test_one_class_only():
    raw = random_raw(5, 1.0)
    raw.class_scores[:, 1:] = 0
    assert set(assert_same(raw).labels) == {0}


def test_nothing_to_find():
    assert len(assert_same(random_raw(0, 0.0))) == 0
    all_small = random_raw(0, 1.0)
    all_small.mask_features[:] = -np.abs(all_small.mask_features)
    assert len(assert_same(RawOutputs(all_small.class_scores, abs(all_small.kernels), all_small.mask_features))) == 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), room=st.integers(1, 40))
def test_beyond_its_room_it_takes_the_best_class_scores(seed, room):
    """What the documentation promises: as the host decodes those candidates alone."""
    raw = random_raw(seed, 0.8)
    found = find_candidates(raw.class_scores, SPEC.grids, LIMITS.score_threshold, points_nms=True)
    best = np.argsort(-found.scores, kind="stable")[:room]
    cut = np.zeros_like(raw.class_scores)
    cut[found.cells[best], found.labels[best]] = found.scores[best]
    limits = replace(LIMITS, max_candidates=room, max_instances=room)
    options = replace(baked_options(limits), points_nms=False)
    expected = decode(RawOutputs(cut, raw.kernels, raw.mask_features), GEOMETRY, SPEC, options)
    assert_same(raw, limits, expected)


def test_host_options_have_the_same_defaults():
    from solov2_edge.runtime.decode import DecodeOptions

    assert baked_options(GraphDecode()) == DecodeOptions()
    assert asdict(DecodeOptions()) == asdict(GraphDecode())


def test_more_candidates_than_cells_and_classes_are_refused():
    with pytest.raises(InputError, match="at most 165, one for each cell and class of tiny"):
        GraphDecoder(SPEC, GraphDecode(max_candidates=166))
