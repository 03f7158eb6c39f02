from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

SPEC = ModelSpec(
    name="tiny",
    class_names=("a", "b", "c"),
    grids=(5, 4, 3, 2, 1),
    strides=(8, 8, 16, 32, 32),
    mask_channels=4,
    mask_width=4,
    tower_width=4,
    norm_groups=4,
)
GEOMETRY = Geometry(
    frame_height=150, frame_width=233, resized_height=90, resized_width=141, input_height=96, input_width=160
)


def random_raw(seed: int, *, share: float = 0.1, ties: bool = False) -> RawOutputs:
    """Raw outputs of smooth blobs; ``share`` of the scores is above 0.1."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 0.1, (SPEC.num_cells, SPEC.num_classes))
    high = rng.random(scores.shape) < share
    scores = np.where(high, rng.uniform(0.1, 1, scores.shape), scores)
    if ties:
        scores = np.round(scores, 1)
    height, width = GEOMETRY.input_height // 4, GEOMETRY.input_width // 4
    y, x = np.mgrid[0:height, 0:width]
    features = [
        np.hypot((y - rng.uniform(0, height)) / height, (x - rng.uniform(0, width)) / width)
        for _ in range(SPEC.mask_channels)
    ]
    kernels = rng.normal(0, 5, (SPEC.num_cells, SPEC.mask_channels))
    return RawOutputs(scores.astype(np.float32), kernels.astype(np.float32), np.stack(features).astype(np.float32))


def reference_decode(
    raw: RawOutputs, geometry: Geometry, spec: ModelSpec, options: DecodeOptions
) -> tuple[Any, Any, Any]:
    """The reference's steps, dense and literal, in PyTorch: (scores, labels, masks at frame size)."""
    import torch
    import torch.nn.functional as F

    scores = torch.from_numpy(raw.class_scores)
    levels, strides, start = [], [], 0
    for grid, level_stride in zip(spec.grids, spec.strides, strict=True):
        level = scores[start : start + grid * grid].reshape(grid, grid, -1).permute(2, 0, 1)[None]
        start += grid * grid
        if options.points_nms:
            pooled = F.max_pool2d(level, (2, 2), stride=1, padding=1)[:, :, :-1, :-1]
            level = level * (pooled == level).float()
        levels.append(level[0].permute(1, 2, 0).reshape(grid * grid, -1))
        strides += [level_stride] * grid * grid
    scores = torch.cat(levels)
    where = (scores > options.score_threshold).nonzero()
    labels, stride = where[:, 1], torch.tensor(strides)[where[:, 0]]
    scores = scores[where[:, 0], where[:, 1]]
    kernels, features = torch.from_numpy(raw.kernels)[where[:, 0]], torch.from_numpy(raw.mask_features)
    probabilities = torch.einsum("ne,ehw->nhw", kernels, features).sigmoid()
    binary = probabilities > options.mask_threshold
    area = binary.sum((1, 2)).float()
    keep = area > stride if options.area_filter else area > 0
    scores, labels, probabilities, binary, area = (v[keep] for v in (scores, labels, probabilities, binary, area))
    scores = scores * (probabilities * binary.float()).sum((1, 2)) / area
    order = torch.sort(scores, descending=True, stable=True).indices[: options.max_candidates]
    scores, labels, probabilities, binary, area = (v[order] for v in (scores, labels, probabilities, binary, area))

    flat = binary.flatten(1).float()
    common = flat @ flat.T
    iou = common / (area[None] + area[:, None] - common)
    iou = (iou * (labels[None] == labels[:, None])).triu(diagonal=1)
    largest = iou.max(0).values if len(iou) else iou.new_zeros(0)
    if options.nms_kernel == "gaussian":
        ratio = torch.exp(-options.nms_sigma * iou**2) / torch.exp(-options.nms_sigma * largest[:, None] ** 2)
    else:
        ratio = (1 - iou) / (1 - largest[:, None])
    scores = scores * (ratio.min(0).values if len(ratio) else 1)
    kept = scores >= options.keep_threshold  # False for NaN
    scores, labels, probabilities = scores[kept], labels[kept], probabilities[kept]
    order = torch.sort(scores, descending=True, stable=True).indices[: options.max_instances]
    scores, labels, probabilities = scores[order], labels[order], probabilities[order]
    if not len(scores):
        return scores.numpy(), labels.numpy(), np.zeros((0, geometry.frame_height, geometry.frame_width), bool)
    size = (geometry.input_height, geometry.input_width)
    large = F.interpolate(probabilities[None], size=size, mode="bilinear", align_corners=False)
    large = large[:, :, : geometry.resized_height, : geometry.resized_width]
    size = (geometry.frame_height, geometry.frame_width)
    masks = F.interpolate(large, size=size, mode="bilinear", align_corners=False)[0] > options.mask_threshold
    return scores.numpy(), labels.numpy(), masks.numpy()


def assert_matches_reference(raw: RawOutputs, geometry: Geometry, spec: ModelSpec, options: DecodeOptions) -> Instances:
    scores, labels, masks = reference_decode(raw, geometry, spec, options)
    instances = decode(raw, geometry, spec, options)
    np.testing.assert_allclose(instances.scores, scores, atol=2e-6)
    np.testing.assert_array_equal(instances.labels, labels)
    assert masks.shape == instances.masks.shape
    assert np.count_nonzero(instances.masks != masks) <= 1 + 1e-6 * masks.size
    return instances


OPTIONS = {
    "defaults": DecodeOptions(),
    "linear": DecodeOptions(nms_kernel="linear"),
    "narrow sigma": DecodeOptions(nms_sigma=0.5),
    "other thresholds": DecodeOptions(score_threshold=0.3, keep_threshold=0.2, mask_threshold=0.3),
    "few": DecodeOptions(max_candidates=7, max_instances=3),
    "no points NMS": DecodeOptions(points_nms=False),
    "no area filter": DecodeOptions(area_filter=False),
    "everything": DecodeOptions(score_threshold=0, keep_threshold=0, max_candidates=10**6, max_instances=10**6),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_dense_reference(name: str, seed: int) -> None:
    instances = assert_matches_reference(random_raw(seed), GEOMETRY, SPEC, OPTIONS[name])
    assert len(instances) > 0


@pytest.mark.torch
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    ties=st.booleans(),
    frame=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    resized=st.tuples(st.integers(1, 96), st.integers(1, 160)),
)
def test_equals_the_dense_reference_at_any_geometry(
    seed: int, share: float, ties: bool, frame: tuple[int, int], resized: tuple[int, int]
) -> None:
    geometry = Geometry(*frame, *resized, 96, 160)
    raw = random_raw(seed, share=share, ties=ties)
    # Ties of equal scores can change places by a rounding of maskness, so labels are compared as multisets there.
    scores, labels, masks = reference_decode(raw, geometry, SPEC, DecodeOptions())
    instances = decode(raw, geometry, SPEC)
    np.testing.assert_allclose(instances.scores, scores, atol=2e-6)
    assert sorted(instances.labels) == sorted(labels)
    np.testing.assert_allclose(sorted(instances.areas), sorted(masks.sum((1, 2))), atol=1)


def one_blob(
    scores: list[float], labels_at: list[tuple[int, int]], *, area: tuple[int, int] = (10, 12), logit: float = 4.0
) -> RawOutputs:
    """Raw outputs whose every kernel gives the same rectangle of the given quarter-scale height and width."""
    features = np.zeros((4, 24, 40), np.float32)
    features[0] = -logit
    features[0, 3 : 3 + area[0], 5 : 5 + area[1]] = logit
    kernels = np.zeros((SPEC.num_cells, 4), np.float32)
    kernels[:, 0] = 1
    class_scores = np.zeros((SPEC.num_cells, SPEC.num_classes), np.float32)
    for score, (cell, label) in zip(scores, labels_at, strict=True):
        class_scores[cell, label] = score
    return RawOutputs(class_scores, kernels, features)


def test_no_candidate_is_a_normal_result() -> None:
    instances = decode(one_blob([], []), GEOMETRY, SPEC)
    assert len(instances) == 0
    assert instances.masks.shape == (0, 150, 233)
    assert instances.class_names == SPEC.class_names


def test_score_threshold_is_strict_and_keep_threshold_is_not() -> None:
    raw = one_blob([0.25], [(0, 1)], logit=50.0)  # maskness exactly 1
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(score_threshold=0.25))) == 0
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(score_threshold=0.2499, keep_threshold=0.25))) == 1
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(keep_threshold=0.2501))) == 0


@pytest.mark.parametrize(
    ("cell", "area", "found"),
    [
        (0, (2, 4), 0),  # stride 8: 8 pixels are not more than 8
        (0, (3, 3), 1),
        (25 + 16, (4, 4), 0),  # first cell of the third level, stride 16
        (25 + 16, (1, 17), 1),
        (54, (4, 8), 0),  # the one cell of the last level, stride 32
        (54, (3, 11), 1),
    ],
)
def test_area_filter_compares_pixels_with_the_level_stride(cell: int, area: tuple[int, int], found: int) -> None:
    raw = one_blob([0.9], [(cell, 0)], area=area)
    assert len(decode(raw, GEOMETRY, SPEC)) == found
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(area_filter=False))) == 1


def test_an_empty_mask_is_dropped_even_without_the_area_filter() -> None:
    raw = one_blob([0.9], [(0, 0)])
    raw = replace(raw, mask_features=np.zeros_like(raw.mask_features))  # probability exactly 0.5
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(area_filter=False))) == 0


def test_score_is_class_score_times_mean_probability() -> None:
    instances = decode(one_blob([0.8], [(7, 2)], logit=1.5), GEOMETRY, SPEC)
    np.testing.assert_allclose(instances.scores, 0.8 / (1 + np.exp(-1.5)), rtol=1e-6)
    assert instances.labels.tolist() == [2]


def test_equal_scores_keep_candidate_order_and_one_cell_may_give_several() -> None:
    # The same mask in three classes at one cell and in one class at a far cell: equal scores all.
    raw = one_blob([0.5] * 4, [(24, 2), (3, 1), (3, 2), (3, 0)])
    instances = decode(raw, GEOMETRY, SPEC, DecodeOptions(keep_threshold=0.0))
    assert instances.labels.tolist() == [0, 1, 2, 2]
    assert instances.scores[:3].tolist() == [instances.scores[0]] * 3
    np.testing.assert_allclose(instances.scores[3], instances.scores[0] * np.exp(-2.0), rtol=1e-6)
    assert instances.cropped.crops[0] is instances.cropped.crops[1]  # one cell, one mask


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_exact_duplicates(kernel: str) -> None:
    raw = one_blob([0.9, 0.8, 0.7], [(0, 0), (4, 0), (24, 0)])
    instances = decode(raw, GEOMETRY, SPEC, DecodeOptions(nms_kernel=kernel))
    assert len(instances) == {"gaussian": 3, "linear": 1}[kernel]
    assert np.isfinite(instances.scores).all()


def test_a_mask_covering_everything_covers_the_frame() -> None:
    raw = one_blob([0.9], [(54, 0)])
    raw = replace(raw, mask_features=np.ones_like(raw.mask_features))
    instances = decode(raw, GEOMETRY, SPEC)
    assert instances.masks.all()
    assert instances.masks.shape == (1, 150, 233)


def test_a_mask_in_the_padding_stays_as_an_empty_one() -> None:
    raw = one_blob([0.9], [(0, 0)])
    features = np.full_like(raw.mask_features, -4)
    features[:, :, 38:] = 4  # columns from input pixel 152; the frame ends at 141
    instances = decode(replace(raw, mask_features=features), GEOMETRY, SPEC)
    assert len(instances) == 1
    assert instances.areas.tolist() == [0]
    assert instances.boxes.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 8000), (5000, 3)])
def test_extreme_frames(height: int, width: int) -> None:
    geometry = Geometry(height, width, 1 if height == 1 else 96, 1 if width == 1 else min(width, 160), 96, 160)
    raw = one_blob([0.9], [(54, 0)])
    raw = replace(raw, mask_features=np.ones_like(raw.mask_features))
    assert decode(raw, geometry, SPEC).masks.shape == (1, height, width)
    assert decode(raw, geometry, SPEC).masks.all()


@pytest.mark.parametrize("wanted", [1, 500, 10000])
def test_many_candidates_in_chunks_equal_one_piece(wanted: int) -> None:
    spec = replace(SPEC, grids=(40, 36, 24, 16, 12), class_names=tuple(f"class {i}" for i in range(20)))
    rng = np.random.default_rng(wanted)
    scores = np.zeros(spec.num_cells * 20, np.float32)
    scores[rng.choice(scores.size, wanted, replace=False)] = rng.uniform(0.2, 1, wanted).round(2)
    # Whole numbers make every product exact, so that chunks of another shape cannot round another way.
    kernels = rng.integers(-2, 3, (spec.num_cells, 4)).astype(np.float32)
    features = np.kron(rng.integers(-2, 3, (4, 6, 10)), np.ones((4, 4))).astype(np.float32)
    raw = RawOutputs(scores.reshape(-1, 20), kernels, features)
    options = DecodeOptions(points_nms=False)
    whole = decode(raw, GEOMETRY, spec, options)
    pieces = decode(raw, GEOMETRY, spec, options, chunk_bytes=7 * 4 * 24 * 40)
    assert 1 <= len(whole) <= 100
    np.testing.assert_array_equal(whole.scores, pieces.scores)
    np.testing.assert_array_equal(whole.labels, pieces.labels)
    np.testing.assert_array_equal(whole.masks, pieces.masks)


def test_results_stay_as_they_are_while_other_frames_are_decoded_in_other_threads() -> None:
    frames = [random_raw(seed, share=0.3) for seed in range(6)]
    expected = [decode(raw, GEOMETRY, SPEC).masks for raw in frames]
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda raw: decode(raw, GEOMETRY, SPEC), frames * 4))
    for instances, masks in zip(kept, expected * 4, strict=True):
        np.testing.assert_array_equal(instances.masks, masks)


@pytest.mark.parametrize("chunk_bytes", [1, 3 * 4 * 24 * 40])
@pytest.mark.parametrize("channel", [0, 3])
def test_a_bad_feature_is_found_in_whatever_chunks_masks_are_made(channel: int, chunk_bytes: int) -> None:
    raw = random_raw(0, share=0.3)
    raw.mask_features[channel, -1, -1] = np.nan
    with pytest.raises(SolovEdgeError, match="mask features"):
        decode(raw, GEOMETRY, SPEC, chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("field", ["class_scores", "kernels", "mask_features"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_outputs_are_refused(field: str, value: Any) -> None:
    raw = random_raw(0)
    array = getattr(raw, field).copy()
    array.flat[3] = value
    with pytest.raises(SolovEdgeError, match="non-finite"):
        decode(replace(raw, **{field: array}), GEOMETRY, SPEC)


def test_huge_finite_outputs_saturate() -> None:
    raw = one_blob([0.9], [(54, 0)])
    raw = replace(raw, kernels=raw.kernels * np.float32(1e30), mask_features=raw.mask_features * np.float32(1e30))
    instances = decode(raw, GEOMETRY, SPEC)
    np.testing.assert_allclose(instances.scores, [0.9], rtol=1e-6)
    assert instances.areas[0] > 0


@pytest.mark.parametrize(
    ("spec", "geometry", "message"),
    [
        (replace(SPEC, class_names=("a",)), GEOMETRY, "class scores must be 55 cells x 1 classes"),
        (replace(SPEC, grids=(6, 4, 3, 2, 1)), GEOMETRY, "66 cells"),
        (SPEC, replace(GEOMETRY, input_width=192), "mask features must be"),
    ],
)
def test_outputs_of_another_network_are_refused(spec: ModelSpec, geometry: Geometry, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode(random_raw(0), geometry, spec)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score_threshold", -0.1),
        ("score_threshold", 1.0),
        ("score_threshold", float("nan")),
        ("score_threshold", "0.1"),
        ("keep_threshold", 1.5),
        ("mask_threshold", 0.0),
        ("mask_threshold", 1.0),
        ("max_candidates", 0),
        ("max_instances", 2.5),
        ("max_instances", True),
        ("nms_kernel", "soft"),
        ("nms_sigma", 0.0),
        ("nms_sigma", float("inf")),
        ("points_nms", 1),
        ("area_filter", None),
    ],
)
def test_options_out_of_range_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        DecodeOptions(**{option: value})
