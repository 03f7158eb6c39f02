"""ONNX files that decode: the same instances as those of a file that leaves it to the host."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, shape_inference

from solov2_edge.converters import graph_decode, to_onnx
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.onnx_decode import PREFIX, append_decoder, judge_appended, network_of
from solov2_edge.converters.onnx_passes import passes_for
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.verify import verify
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import DECODED_NAMES, GraphDecode, Manifest, manifest_path, sha256_of
from solov2_edge.runtime import load

DECODE = GraphDecode(max_candidates=300, max_instances=40)
# All of them in TensorRT's and CUDA's lists, and none that depends on the data for its shape or its course.
ORDINARY = {
    *("Add", "Div", "Exp", "Mul", "Neg", "Sigmoid", "Sqrt", "Sub", "Clip", "MatMul", "Mod", "Cast", "Where"),
    *("And", "Or", "Equal", "Greater", "GreaterOrEqual", "Less", "ReduceMax", "ReduceMin", "ReduceSum"),
    *("Concat", "Gather", "MaxPool", "Pad", "Reshape", "Slice", "Split", "TopK", "Transpose", "Unsqueeze"),
}


@pytest.fixture(scope="module")
def decoded(tmp_path_factory, plain):
    """The small network, float32, decoding in the graph; made from the very export of ``plain``."""
    path = tmp_path_factory.mktemp("decoded") / "small.fp32-decoded.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "_trace", lambda *_: onnx.load(plain.path))
        patch.setattr(to_onnx, "passes_for", lambda _: passes_for("fp32")[:1])
        export_onnx(plain.model, path, height=64, width=96, decode=DECODE, source_sha256=sha256_of(plain.checkpoint))
    return path


def pictures(count):
    """Noise of several grains: the coarser, the more the network finds."""
    rng = np.random.default_rng(3)
    for number in range(count):
        side = 2 ** (number % 5)
        yield cv2.resize(rng.integers(0, 256, (64 // side + 1, 96 // side + 1, 3), np.uint8), (130, 80))


def test_instances_are_the_hosts(plain, decoded):
    found, equal = [], []
    with load(plain.path) as host, load(decoded) as graph:
        for frame in [*pictures(10), np.full((50, 60, 3), 120, np.uint8)]:
            expected, got = host(frame)[: DECODE.max_instances], graph(frame)
            found.append(len(got))
            assert len(got) == len(expected)
            # A logit that is 0 up to rounding falls on either side, and these masks have few pixels.
            np.testing.assert_allclose(got.scores, expected.scores, rtol=0.05)
            equal.append(
                np.allclose(got.scores, expected.scores, rtol=1e-5)
                and np.array_equal(got.labels, expected.labels)
                and np.array_equal(got.masks, expected.masks)
            )
    assert max(found) > 5
    assert sum(equal) >= 9, equal
    assert graph.options.max_candidates == DECODE.max_candidates


def test_the_graph_is_made_of_ordinary_operators_and_fixed_shapes(decoded):
    model = shape_inference.infer_shapes(onnx.load(decoded), strict_mode=True, data_prop=True)
    own = [node for node in model.graph.node if node.name.startswith(PREFIX)]
    assert set(Counter(node.op_type for node in own)) <= ORDINARY
    assert not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    shapes = {value.name: value.type.tensor_type for value in (*model.graph.value_info, *model.graph.output)}
    for node in own:
        for name in node.output:
            assert all(side.HasField("dim_value") for side in shapes[name].shape.dim), name
    outputs = [
        (o.name, o.type.tensor_type.elem_type, [d.dim_value for d in o.type.tensor_type.shape.dim])
        for o in model.graph.output
    ]
    assert outputs == [
        ("scores", TensorProto.FLOAT, [40]),
        ("labels", TensorProto.INT32, [40]),
        ("masks", TensorProto.FLOAT, [40, 16, 24]),
    ]


def test_the_manifest_tells_and_the_network_inside_is_the_same(plain, decoded):
    manifest = Manifest.from_json(manifest_path(decoded).read_text())
    assert (manifest.decode, manifest.outputs) == (DECODE, DECODED_NAMES)
    assert set(manifest.parity) == {"class_scores", "kernels", "mask_features", "scores"}
    assert manifest.parity["scores"] < 1e-5
    network = network_of(onnx.load(decoded))
    assert [value.name for value in network.graph.output] == ["class_scores", "kernels", "mask_features"]


def test_a_float16_network_is_decoded_in_float32(native_half):
    spec, contract = native_half.manifest.spec, native_half.manifest.input
    decoder = GraphDecoder(spec, DECODE)
    joined = append_decoder(onnx.load(native_half.path), decoder, contract)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in shape_inference.infer_shapes(joined, strict_mode=True).graph.value_info
    }
    assert TensorProto.FLOAT16 in types.values()
    assert not [name for name, kind in types.items() if name.startswith(PREFIX) and kind == TensorProto.FLOAT16]
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((1, 3, 64, 96), np.float32) for _ in range(2)]
    assert judge_appended(joined, decoder, contract, batches, "a test") < 1e-5


def test_a_decoding_that_differs_writes_nothing(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(to_onnx, "_trace", lambda *_: onnx.load(plain.path))
    monkeypatch.setattr(to_onnx, "passes_for", lambda _: ())
    before = graph_decode._before
    monkeypatch.setattr(graph_decode, "_before", lambda scores, tie: before(-scores, tie))
    with pytest.raises(GateError, match=r"differs from the host's after exporting the decoding.*--decode host"):
        export_onnx(plain.model, tmp_path / "model.onnx", height=64, width=96, decode=DECODE)
    assert list(tmp_path.iterdir()) == []


def test_verify_compares_instances(decoded, plain, tmp_path):
    for number, frame in enumerate(pictures(4)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    result = verify(decoded, plain.checkpoint, tmp_path)
    assert result.passed, result.verdict
    assert result.verdicts == {"preprocess": True, "decode": True, "instances": True}
    assert result.matched > 5
    narrow = tmp_path / "narrow.onnx"
    model = onnx.load(decoded)
    exponent = next(node for node in model.graph.node if node.op_type == "Exp")
    exponent.op_type = "Sigmoid"  # a decay that nobody asked for
    narrow.write_bytes(model.SerializeToString())
    assert not verify(narrow, plain.checkpoint, tmp_path / "0.png").passed


def test_verify_says_where_candidates_are_too_many(plain, decoded, tmp_path):
    """The artefact's own limits bind both sides; that there were more candidates is told, not judged."""
    from solov2_edge.converters.verify_decoded import compare_decoded
    from solov2_edge.runtime.decoded import baked_options
    from solov2_edge.runtime.fake import FakeSession
    from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
    from solov2_edge.runtime.segmenter import Segmenter

    few = GraphDecode(max_candidates=4, max_instances=4)
    frame = next(iter(pictures(1)))
    with load(plain.path) as host:
        geometry = fixed_geometry(*frame.shape[:2], 64, 96)
        batch = preprocess(frame, geometry, "image", host.spec)
        raw = host.raw(frame)
        manifest = replace(host.manifest, decode=few, outputs=DECODED_NAMES)
    segment = Segmenter(FakeSession(manifest, GraphDecoder(host.spec, few).run(raw)))
    found = compare_decoded("a", frame, geometry, batch, raw, segment, plain.model, generated=False)
    row = found.findings[0]
    assert (row.quantity, row.passed) == ("candidates", True)
    assert row.value > 4
    assert "more than the 4 candidates the graph has room for" in row.note
    assert all(finding.passed for finding in found.findings)
    assert segment.options == baked_options(few)


@pytest.mark.parametrize(
    ("decode", "message"), [(GraphDecode(max_candidates=661), "at most 660, one for each cell and class of small")]
)
def test_more_room_than_there_are_candidates_is_refused(decode, message, plain, tmp_path):
    with pytest.raises(InputError, match=message):
        export_onnx(plain.model, tmp_path / "model.onnx", height=64, width=96, decode=decode)


def test_the_documented_example_needs_no_runtime_of_ours(decoded, plain):
    """The code in docs/graph-decode.md, run as it stands."""
    text = (Path(__file__).parents[2] / "docs" / "graph-decode.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "import solov2_edge" not in code
    frame = next(iter(pictures(1)))
    scope = {"path": str(decoded), "frame": frame}
    exec(compile(code, "docs/graph-decode.md", "exec"), scope)
    with load(decoded) as segment:
        expected = segment(frame)
    assert len(scope["masks"]) == len(expected) > 0
    np.testing.assert_array_equal(scope["scores"], expected.scores)
    np.testing.assert_array_equal(scope["labels"], expected.labels)
    assert np.mean(np.stack(scope["masks"]) != expected.masks) < 1e-4
