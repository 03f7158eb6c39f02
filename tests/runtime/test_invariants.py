"""What holds of decoding and Matrix NMS whatever the outputs, and of every engine whatever the frame."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime import load
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.matrix_nms import matrix_nms
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.rle import decode_rle, encode_mask
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

CHECKOUT = Path(__file__).resolve().parents[2]
SPEC = ModelSpec(
    name="tiny",
    class_names=("nut", "bolt", "nail"),
    pyramid_width=8,
    tower_width=8,
    mask_width=8,
    mask_channels=4,
    norm_groups=4,
    grids=(4, 3, 2, 2, 1),
)
GEOMETRY = fixed_geometry(90, 130, 64, 96)
seeds = st.integers(0, 2**32 - 1)


def random_outputs(seed: int) -> RawOutputs:
    draw = np.random.default_rng(seed)
    cells = SPEC.num_cells
    scores = (draw.random((cells, 3)) ** 3).astype(np.float32)
    kernels = draw.normal(size=(cells, 4)).astype(np.float32)
    features = draw.normal(size=(4, 4, 6)).repeat(4, 1).repeat(4, 2).astype(np.float32)
    return RawOutputs(scores, kernels, features)


def same(one: Instances, other: Instances, labels: NDArray[np.int64] | None = None) -> None:
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    np.testing.assert_array_equal(one.labels if labels is None else labels[one.labels], other.labels)
    np.testing.assert_array_equal(one.masks, other.masks)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=seeds)
def test_the_order_of_mask_channels_changes_nothing(seed: int) -> None:
    raw = random_outputs(seed)
    order = np.random.default_rng(seed).permutation(4)
    other = RawOutputs(raw.class_scores, raw.kernels[:, order].copy(), raw.mask_features[order].copy())
    same(decode(raw, GEOMETRY, SPEC), decode(other, GEOMETRY, SPEC))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=seeds)
def test_the_order_of_classes_renames_labels_alone(seed: int) -> None:
    raw = random_outputs(seed)
    order = np.random.default_rng(seed).permutation(3)
    other = RawOutputs(raw.class_scores[:, order].copy(), raw.kernels, raw.mask_features)
    one, two = decode(raw, GEOMETRY, SPEC), decode(other, GEOMETRY, SPEC)
    same(one, two, np.argsort(order))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=seeds, low=st.floats(0.0, 0.5), step=st.floats(0.0, 0.4))
def test_a_higher_keep_threshold_keeps_the_best_of_the_same(seed: int, low: float, step: float) -> None:
    raw = random_outputs(seed)
    few = decode(raw, GEOMETRY, SPEC, DecodeOptions(keep_threshold=low + step))
    many = decode(raw, GEOMETRY, SPEC, DecodeOptions(keep_threshold=low))
    assert len(few) == int((many.scores >= np.float32(low + step)).sum())
    same(few, many[: len(few)])


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=seeds, most=st.integers(1, 12))
def test_fewer_instances_are_the_best_of_the_same(seed: int, most: int) -> None:
    raw = random_outputs(seed)
    all_ = decode(raw, GEOMETRY, SPEC)
    same(decode(raw, GEOMETRY, SPEC, DecodeOptions(max_instances=most)), all_[:most])


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=seeds)
def test_masks_survive_run_lengths_twice(seed: int) -> None:
    for mask in decode(random_outputs(seed), GEOMETRY, SPEC, DecodeOptions(max_instances=5)).masks:
        once = encode_mask(mask)
        np.testing.assert_array_equal(decode_rle(once), mask)
        assert encode_mask(decode_rle(once)) == once


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=seeds, count=st.integers(1, 15), kernel=st.sampled_from(("gaussian", "linear")))
def test_matrix_nms_only_lowers_and_takes_masks_in_any_frame_of_pixels(seed: int, count: int, kernel: str) -> None:
    draw = np.random.default_rng(seed)
    masks = draw.random((count, 9, 11)) < 0.4
    scores = np.sort(draw.random(count).astype(np.float32))[::-1].copy()
    labels = draw.integers(0, 3, count)
    kept = matrix_nms(masks, scores, labels, kernel=kernel)
    assert ((kept >= 0) & (kept <= scores)).all()
    assert kept[0] == scores[0]
    # Pixels may stand anywhere, labels have no order, and what comes after a mask does nothing to it.
    pixels = draw.permutation(99)
    moved = masks.reshape(count, 99)[:, pixels].reshape(count, 9, 11)
    np.testing.assert_allclose(matrix_nms(moved, scores, labels, kernel=kernel), kept, rtol=1e-6)
    np.testing.assert_array_equal(matrix_nms(masks, scores, (labels + 1) % 3, kernel=kernel), kept)
    first = matrix_nms(masks[:-1], scores[:-1], labels[:-1], kernel=kernel)
    np.testing.assert_array_equal(first, kept[:-1])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with zipfile.ZipFile(CHECKOUT / "tests/data/schema1/artefacts.zip") as archive:
        archive.extractall(folder)
    return folder


def test_every_engine_gives_the_same_on_random_frames(kept: Path) -> None:
    draw = np.random.default_rng(3)
    frames = [draw.integers(0, 256, (20 + 30 * n, 130 - 20 * n, 3), np.uint8) for n in range(5)]
    found = {}
    for suffix, engine in (("onnx", "onnxruntime"), ("onnx", "openvino"), ("tflite", None), ("ncnn", None)):
        options: dict[str, Any] = {} if engine is None else {"engine": engine}
        with load(kept / f"tiny.fp32.{suffix}", threads=1, **options) as segment:
            found[engine or suffix] = [segment.raw(frame) for frame in frames]
    expected = found.pop("onnxruntime")
    for name, outputs in found.items():
        for raw, reference in zip(outputs, expected, strict=True):
            for part in ("class_scores", "kernels", "mask_features"):
                one, other = getattr(raw, part), getattr(reference, part)
                assert np.abs(one - other).max() <= 1e-4 * np.ptp(other), (name, part)


@settings(deadline=None, max_examples=10, derandomize=True)
@given(seed=seeds)
def test_a_segmenter_gives_what_decoding_its_sessions_outputs_gives(seed: int) -> None:
    raw = random_outputs(seed)
    frame = np.random.default_rng(seed).integers(0, 256, (90, 130, 3), np.uint8)
    manifest = Manifest(spec=SPEC, format="onnx", precision="fp32", input=InputContract("image", 64, 96))
    with Segmenter(FakeSession(manifest, raw)) as segment:
        same(segment(frame), decode(raw, fixed_geometry(90, 130, 64, 96), SPEC))
