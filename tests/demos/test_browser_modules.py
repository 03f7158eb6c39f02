"""The JavaScript of the browser page, function by function, against the Python runtime's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime import load
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.decoded import decoded_instances
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.matrix_nms import matrix_nms
from solov2_edge.runtime.onnx_file import read_manifest_text
from solov2_edge.runtime.pictures import list_pictures, read_picture
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess
from solov2_edge.runtime.quarter_masks import logit_bound
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs
from solov2_edge.spec import ModelSpec

Javascript = Callable[..., list[Any]]
SPEC = ModelSpec(
    name="tiny",
    class_names=("a", "b", "c"),
    grids=(5, 4, 3, 2, 1),
    mask_channels=12,  # not a multiple of the channels taken together
    mask_width=4,
    tower_width=4,
    norm_groups=4,
)
GEOMETRY = Geometry(150, 233, 90, 140, 96, 160)


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
    centres = rng.uniform(0, 1, (SPEC.mask_channels, 2))
    features = [np.hypot(y / height - cy, x / width - cx) for cy, cx in centres]
    kernels = rng.normal(0, 4, (SPEC.num_cells, SPEC.mask_channels))
    return RawOutputs(scores.astype(np.float32), kernels.astype(np.float32), np.stack(features).astype(np.float32))


def camel(geometry: Geometry) -> dict[str, int]:
    values = asdict(geometry)
    return {name.split("_")[0] + name.split("_")[1].capitalize(): value for name, value in values.items()}


def raw_arguments(raw: RawOutputs) -> dict[str, NDArray[np.float32]]:
    return {
        "classScores": raw.class_scores.ravel(),
        "kernels": raw.kernels.ravel(),
        "maskFeatures": raw.mask_features.ravel(),
    }


def assert_same(got: dict[str, Any], expected: Instances) -> None:
    assert len(got["scores"]) == len(expected)
    assert got["labels"] == expected.labels.tolist()
    np.testing.assert_allclose(got["scores"], expected.scores, atol=1e-5)
    for mask, truth in zip(got["masks"], expected.masks, strict=True):
        y0, x0, height, width = (mask[name] for name in ("y0", "x0", "height", "width"))
        dense = np.zeros_like(truth)
        dense[y0 : y0 + height, x0 : x0 + width] = mask["data"].reshape(height, width)
        assert (
            np.count_nonzero(dense != truth) <= 1e-4 * truth.size
        )  # pixels of exactly the threshold, but for rounding


SIZES = [
    (256, 256, 448, 448), (256, 320, 358, 448), (896, 896, 448, 448), (540, 960, 252, 448), (37, 911, 18, 448),
    (911, 37, 448, 18), (1, 1, 64, 64), (1, 300, 1, 96), (300, 1, 96, 1), (5, 7, 64, 90), (449, 449, 448, 448),
    (500, 448, 224, 201), (64, 64, 192, 192), (96, 48, 48, 24), (96, 48, 48, 48), (50, 60, 50, 60),
]  # fmt: skip


def test_resizing_is_opencvs_bit_for_bit(javascript: Javascript) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (height, width, 4), dtype=np.uint8) for height, width, *_ in SIZES]
    calls = [("resize.mjs", "resize", frame.ravel(), *size) for frame, size in zip(frames, SIZES, strict=True)]
    for got, frame, (_, _, height, width) in zip(javascript(*calls), frames, SIZES, strict=True):
        expected = cv2.resize(frame[:, :, :3].copy(), (width, height), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(got.reshape(height, width, 3), expected)


@pytest.mark.parametrize("kind", ["image", "tensor"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_input_is_pythons_bit_for_bit(javascript: Javascript, kind: str, order: str) -> None:
    spec = ModelSpec.from_dict({**SPEC.to_dict(), "channel_order": order, "mean": (123.5, 116.28, 103.53)})
    manifest = {"input": {"kind": kind, "height": 96, "width": 160}, "spec": spec.to_dict()}
    frames = [np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(60, 60), (33, 200)]]
    geometries = [fixed_geometry(frame.shape[0], frame.shape[1], 96, 160) for frame in frames]
    laid = javascript(*(("preprocess.mjs", "fixedGeometry", *f.shape[:2], manifest["input"]) for f in frames))
    assert laid == [camel(geometry) for geometry in geometries]
    rgba = [cv2.cvtColor(frame, cv2.COLOR_BGR2RGBA).ravel() for frame in frames]
    calls = [
        ("preprocess.mjs", "preprocess", pixels, place, manifest) for pixels, place in zip(rgba, laid, strict=True)
    ]
    for got, frame, geometry in zip(javascript(*calls), frames, geometries, strict=True):
        expected = preprocess(frame, geometry, kind, spec)
        assert got["type"] == str(expected.dtype)
        assert got["dims"] == list(expected.shape)
        np.testing.assert_array_equal(got["data"], expected.ravel())


@pytest.mark.parametrize("points_nms", [True, False])
def test_candidates(javascript: Javascript, points_nms: bool) -> None:
    raw = random_raw(3, share=0.5, ties=True)
    expected = find_candidates(raw.class_scores, SPEC.grids, 0.3, points_nms)
    call = ("candidates.mjs", "findCandidates", raw.class_scores.ravel(), SPEC.grids, SPEC.num_classes, 0.3, points_nms)
    (got,) = javascript(call)
    assert len(expected) > 10
    assert [(c["cell"], c["label"]) for c in got] == list(zip(expected.cells, expected.labels, strict=True))
    np.testing.assert_array_equal([c["score"] for c in got], expected.scores)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms(javascript: Javascript, kernel: str) -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[0:40, 0:70]
    discs = [np.hypot(y - rng.uniform(0, 40), x - rng.uniform(0, 70)) < rng.uniform(2, 20) for _ in range(58)]
    masks = np.stack([*discs, discs[0], discs[0]])  # duplicates too
    scores = np.sort(rng.uniform(0.1, 1, len(masks)).astype(np.float32))[::-1]
    labels = rng.integers(0, 2, len(masks))
    logits = np.where(masks, np.float32(5), np.float32(-5)).reshape(len(masks), -1)
    packed = javascript(*(("quarter_masks.mjs", "packMask", one, 40, 70, 0.0) for one in logits))
    assert [one["area"] for one in packed] == masks.sum(axis=(1, 2)).tolist()
    options = {"kernel": kernel, "sigma": 2.0}
    (got,) = javascript(("matrix_nms.mjs", "matrixNms", packed, scores.tolist(), labels.tolist(), 3, options))
    expected = matrix_nms(masks, scores, labels, kernel=kernel)
    assert (expected < scores).sum() > 20
    np.testing.assert_allclose(got, expected, atol=1e-7)


OPTIONS = [
    DecodeOptions(),
    DecodeOptions(score_threshold=0.0, keep_threshold=0.0, max_candidates=40, points_nms=False, area_filter=False),
    DecodeOptions(nms_kernel="linear", max_instances=7, mask_threshold=0.4),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["reference", "everything", "linear"])
def test_random_outputs_decode_as_in_python(javascript: Javascript, options: DecodeOptions) -> None:
    raws = [random_raw(seed, share=share, ties=seed == 6) for seed, share in [(5, 0.1), (6, 0.4), (7, 0.0)]]
    plain = {"spec": SPEC.to_dict(), "geometry": camel(GEOMETRY)}
    calls = [
        ("decode.mjs", "decode", raw_arguments(raw), plain["geometry"], plain["spec"], asdict(options)) for raw in raws
    ]
    found = 0
    for got, raw in zip(javascript(*calls), raws, strict=True):
        expected = decode(raw, GEOMETRY, SPEC, options)
        assert_same(got, expected)
        found += len(expected)
    assert found > 5


def test_a_frame_without_candidates_decodes_to_nothing(javascript: Javascript) -> None:
    raw = planted_outputs(SPEC, GEOMETRY, 0)
    (got,) = javascript(("decode.mjs", "decode", raw_arguments(raw), camel(GEOMETRY), SPEC.to_dict()))
    assert got == {"scores": [], "labels": [], "masks": []}


@pytest.fixture(scope="module")
def recorded() -> tuple[Manifest, list[tuple[RawOutputs, Geometry, Instances]]]:
    """What the bundled network says about the bundled pictures, and what Python makes of it."""
    shipped = bundle()
    with load(shipped.artefact, threads=1) as segment:
        rows = []
        for path in list_pictures(shipped.pictures)[:2]:
            frame = read_picture(path)
            raw, geometry = segment.raw(frame), fixed_geometry(frame.shape[0], frame.shape[1], 448, 448)
            rows.append((raw, geometry, decode(raw, geometry, segment.spec)))
        return segment.manifest, rows


def test_recorded_outputs_decode_as_in_python(javascript: Javascript, recorded: Any) -> None:
    manifest, rows = recorded
    spec = manifest.spec.to_dict()
    calls = [("decode.mjs", "decode", raw_arguments(raw), camel(geometry), spec) for raw, geometry, _ in rows]
    for got, (_, _, expected) in zip(javascript(*calls), rows, strict=True):
        assert len(expected) > 20
        assert_same(got, expected)


def test_a_graph_that_decodes(javascript: Javascript) -> None:
    raw = random_raw(8)
    logits = np.tensordot(raw.kernels[:5], raw.mask_features, 1)
    logits[4] = 0
    outputs = DecodedOutputs(
        np.array([0.9, 0.6, 0.4, 0.04, 0], np.float32), np.array([2, 0, 1, 1, 0], np.int32), logits
    )
    options = DecodeOptions()
    given = {"scores": outputs.scores, "labels": outputs.labels, "masks": outputs.masks.ravel()}
    (got,) = javascript(("decode.mjs", "decodedInstances", given, camel(GEOMETRY), asdict(options)))
    expected = decoded_instances(outputs, GEOMETRY, SPEC, options)
    assert len(expected) == 3
    assert_same(got, expected)


def test_outputs_that_are_wrong_are_refused(javascript: Javascript) -> None:
    raw = random_raw(9)
    damaged = {name: values.copy() for name, values in raw_arguments(raw).items()}
    damaged["maskFeatures"][7] = np.nan
    short = {**raw_arguments(raw), "kernels": raw.kernels.ravel()[1:]}
    plain = camel(GEOMETRY), SPEC.to_dict()
    nan, length = javascript(("decode.mjs", "decode", damaged, *plain), ("decode.mjs", "decode", short, *plain))
    assert "non-finite values in its mask features" in str(nan)
    assert "values of kernels" in str(length)


def test_the_bound_on_logits_is_the_one_of_the_runtime(javascript: Javascript) -> None:
    thresholds = [0.05, 0.3, 0.5, 0.7, 0.95]
    got = javascript(*(("quarter_masks.mjs", "logitBound", threshold) for threshold in thresholds))
    np.testing.assert_allclose(got, [logit_bound(threshold) for threshold in thresholds], rtol=1e-6, atol=1e-7)


def test_the_manifest_inside_an_onnx_file(javascript: Javascript, recorded: Any) -> None:
    data = np.frombuffer(bundle().artefact.read_bytes(), np.uint8)
    graph_only = np.array([8, 9], np.uint8)  # ir_version = 9, no more
    inside, nothing, cut, other = javascript(
        ("manifest.mjs", "embeddedManifest", data),
        ("manifest.mjs", "embeddedManifest", graph_only),
        ("manifest.mjs", "embeddedManifest", data[:-100]),
        ("manifest.mjs", "embeddedManifest", np.full(64, 255, np.uint8)),
    )
    assert inside == read_manifest_text(bundle().artefact)
    assert nothing is None
    assert "cut short" in str(cut)
    assert "no ONNX file" in str(other)


def test_manifests_of_others_are_refused(javascript: Javascript) -> None:
    manifest = Manifest(spec=SPEC, format="tflite", precision="fp32", input=InputContract("image", 96, 160))
    other = manifest.to_json()
    later = other.replace('"schema_version": 1', '"schema_version": 9')
    assert later != other
    texts = [other, later, "{", "null"]
    wrong, unknown, broken, empty = javascript(*(("manifest.mjs", "parseManifest", text) for text in texts))
    assert "got one for tflite" in str(wrong)
    assert "schema version is 9" in str(unknown)
    assert "not JSON" in str(broken)
    assert "schema version is undefined" in str(empty)


def test_the_product_is_a_graph_onnx_runtime_runs(javascript: Javascript) -> None:
    (model,) = javascript(("product.mjs", "productModel"))
    session = onnxruntime.InferenceSession(model.tobytes(), providers=["CPUExecutionProvider"])
    a, b = (
        np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed, shape in [(0, (3, 5)), (1, (5, 7))]
    )
    np.testing.assert_allclose(session.run(["c"], {"a": a, "b": b})[0], a @ b, rtol=1e-5)


def test_outlines_enclose_what_the_mask_covers(javascript: Javascript) -> None:
    y, x = np.mgrid[0:40, 0:50]
    ring = (np.hypot(y - 20, x - 24) < 16) & (np.hypot(y - 20, x - 24) > 7)
    touching = np.kron(np.eye(2), np.ones((3, 3))) > 0
    crops = [ring, touching, np.ones((4, 5), np.bool_), np.zeros((3, 3), np.bool_)]
    masks = [
        {"y0": 100, "x0": 200, "height": crop.shape[0], "width": crop.shape[1], "data": crop.astype(np.uint8).ravel()}
        for crop in crops
    ]
    found = javascript(*(("outlines.mjs", "outlines", mask) for mask in masks))
    assert [len(polygons) for polygons in found] == [2, 2, 1, 0]
    for polygons, crop in zip(found, crops, strict=True):
        # A cut corner takes 1/8 of a pixel, an inner one gives it back, and an outline has four more outer ones.
        areas = [signed_area(np.array(polygon) - (200, 100)) for polygon in polygons]
        assert sum(areas) == crop.sum() - 0.5 * sum(np.sign(areas))
    (square,) = found[2]
    assert np.min(square, axis=0).tolist() == [200, 100]
    assert np.max(square, axis=0).tolist() == [205, 104]


def signed_area(points: NDArray[Any]) -> float:
    """Positive where the mask lies on the right of the walk, y pointing down."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
