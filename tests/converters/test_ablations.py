"""The paper's ablations: PyTorch, the oracle, numpy's decoding and the artefact say the same of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.ncnn_traceable import NcnnTraceable
from solov2_edge.converters.tflite_traceable import TfliteTraceable
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.traceable import Traceable
from solov2_edge.manifest import GraphDecode, InputContract
from solov2_edge.reference import oracle_decode, reference_from_model
from solov2_edge.runtime import load
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.decoded import baked_options, decoded_instances
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

ABLATIONS = {
    "kernels 3x3": {"kernel_size": 3},
    "mask features separate": {"mask_features": "separate"},
    "separate, 3x3, no coordinates there": {
        "mask_features": "separate",
        "kernel_size": 3,
        "feature_coordinates": False,
    },
    "no coordinates in the kernel tower": {"kernel_coordinates": False},
    "no coordinates in the mask features": {"feature_coordinates": False},
    "no coordinates": {"kernel_coordinates": False, "feature_coordinates": False},
    "E = 64": {"mask_channels": 64},
    "deformable everywhere": {"tower_dcn": "v2", "tower_dcn_convs": "all", "mask_dcn": "v2"},
}
# With how many classes; each takes seconds.
EXPORTED = {"separate, 3x3, no coordinates there": 3, "no coordinates": 1203}
GEOMETRY = fixed_geometry(64, 96, 64, 96)


def ablated(specs: dict[str, ModelSpec], name: str) -> ModelSpec:
    return replace(specs["plain"], **ABLATIONS[name])


def assert_same(ours: Instances, theirs: Instances) -> None:
    """Same instances, but for what a pixel on the threshold, which may fall on either side, does to an overlap."""
    assert abs(len(ours) - len(theirs)) <= 1
    assert len(ours) > 10
    theirs_masks, apart = theirs.masks.reshape(len(theirs), -1), 0
    for mask, score, label in zip(ours.masks.reshape(len(ours), -1), ours.scores, ours.labels, strict=True):
        iou = (theirs_masks & mask).sum(1) / np.maximum((theirs_masks | mask).sum(1), 1)
        near = (theirs.labels == label) & (np.abs(theirs.scores - score) < 2e-4) & ((iou > 0.99) | (mask.sum() == 0))
        apart += not near.any()
    assert apart <= 0.1 * len(ours)


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_rewritten_networks_give_what_the_model_gives(name, specs, make_model, frame):
    model = make_model(ablated(specs, name))
    expected = reference_from_model(model, input_size=(64, 96)).raw(frame[..., ::-1])
    contract = InputContract("image", 64, 96)
    for traceable in (Traceable, TfliteTraceable, NcnnTraceable):
        raw = traceable(model, contract).run(frame[None])
        for got, want in zip(
            (raw.class_scores, raw.kernels, raw.mask_features),
            (expected.class_scores, expected.kernels, expected.mask_features),
            strict=True,
        ):
            np.testing.assert_allclose(got, want, atol=2e-4 * float(np.ptp(want)))
    assert_same(decode(expected, GEOMETRY, model.spec), oracle_decode(expected, GEOMETRY, model.spec, DecodeOptions()))


@pytest.mark.parametrize(("name", "classes"), EXPORTED.items())
def test_an_artefact_segments_like_pytorch(name, classes, specs, make_model, frame, tmp_path: Path):
    names = tuple(f"thing {number}" for number in range(classes))
    model = make_model(replace(ablated(specs, name), class_names=names))
    path = tmp_path / "ablated.onnx"
    manifest = export_onnx(model, path, height=64, width=96)
    assert manifest.spec == model.spec
    reference = reference_from_model(model, input_size=(64, 96))
    with load(path) as segment:
        assert segment.spec == model.spec  # read back from the file
        assert_same(segment(frame), reference(frame))


@pytest.mark.parametrize("name", ["kernels 3x3", "mask features separate", "separate, 3x3, no coordinates there"])
def test_decoding_in_the_graph_equals_the_host(name, specs):
    spec = ablated(specs, name)
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:16, 0:24].astype(np.float32) / 8
    smooth = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.sin(3 * x), np.cos(3 * y)])
    raw = RawOutputs(
        rng.random((spec.num_cells, 3), np.float32),
        rng.normal(0, 2, (spec.num_cells, spec.kernel_length)).astype(np.float32),
        np.tile(smooth, (spec.feature_channels // 8, 1, 1)).astype(np.float32),
    )
    baked = GraphDecode(max_candidates=spec.num_cells * 3, max_instances=100)
    outputs = GraphDecoder(spec, baked).run(raw)
    host = decode(raw, GEOMETRY, spec, baked_options(baked))
    assert_same(decoded_instances(outputs, GEOMETRY, spec, baked_options(baked)), host)
