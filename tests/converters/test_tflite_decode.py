"""TFLite models that decode: appended to a network in any precision, the same instances as on the host."""

from dataclasses import replace

import numpy as np
import pytest

from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.tflite_decode import TfliteGraphDecoder, append_decoder, judge_appended
from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.converters.tflite_metadata import embed_manifest
from solov2_edge.converters.tflite_pack import packed
from solov2_edge.converters.tflite_quantise import quantise
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import DECODED_NAMES, GraphDecode, Manifest
from solov2_edge.runtime import load

DECODE = GraphDecode(max_candidates=300, max_instances=40)


@pytest.fixture(scope="module")
def appended(tflite_plain):
    traceable = tflite_plain.traceable
    return append_decoder(tflite_plain.flatbuffer, TfliteGraphDecoder(traceable.spec, DECODE), traceable.contract)


def batches(count):
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (1, 64, 96, 3), np.uint8) for _ in range(count)]


def test_the_runtime_finds_the_hosts_instances(tflite_plain, appended, tmp_path):
    traceable = tflite_plain.traceable
    manifest = Manifest(spec=traceable.spec, format="tflite", precision="fp32", input=traceable.contract)
    for name, content, written in (
        ("host", tflite_plain.flatbuffer, manifest),
        ("graph", appended, replace(manifest, decode=DECODE, outputs=DECODED_NAMES)),
    ):
        (tmp_path / f"{name}.tflite").write_bytes(embed_manifest(content, written.to_json()))
    found = 0
    with load(tmp_path / "host.tflite") as host, load(tmp_path / "graph.tflite") as graph:
        for batch in batches(3):
            expected, got = host(batch[0])[: DECODE.max_instances], graph(batch[0])
            np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-5)
            np.testing.assert_array_equal(got.labels, expected.labels)
            np.testing.assert_array_equal(got.masks, expected.masks)
            found += len(got)
        with pytest.raises(InputError, match="no raw outputs"):
            graph.raw(batches(1)[0][0])
    assert found > 5


def test_it_is_made_of_builtin_operators_of_fixed_shapes(tflite_plain, appended):
    facts, network = read_facts(appended), read_facts(tflite_plain.flatbuffer)
    assert (facts.custom_ops, facts.dynamic_tensors, facts.max_rank) == ((), 0, 4)
    assert "GATHER_ND" not in facts.ops
    assert facts.ops["TOPK_V2"] == 2
    assert all(facts.ops[name] >= count for name, count in network.ops.items())
    ((inputs, outputs),) = facts.signatures.values()
    assert (set(inputs), set(outputs)) == ({"image"}, set(DECODED_NAMES))


def test_an_integer_network_is_decoded_in_float32(tflite_plain):
    traceable = tflite_plain.traceable
    network = packed(quantise(tflite_plain.flatbuffer, "int8-dynamic"))
    decoder = TfliteGraphDecoder(traceable.spec, DECODE)
    joined = append_decoder(network, decoder, traceable.contract)
    assert judge_appended(network, joined, decoder, traceable.contract, batches(2), "a test") < 1e-5
    kinds, before = read_facts(joined).tensor_types, read_facts(network).tensor_types
    assert kinds["int8"] == before["int8"]


def test_a_decoding_that_differs_is_refused(tflite_plain, monkeypatch):
    traceable = tflite_plain.traceable
    halved = TfliteGraphDecoder(traceable.spec, DECODE)
    monkeypatch.setattr(GraphDecoder, "_decay", lambda _, binary, *rest: binary[:, 0] * 0 + 0.5)
    with pytest.raises(GateError, match="differs from the host's after converting the decoding"):
        append_decoder(tflite_plain.flatbuffer, halved, traceable.contract)


def test_a_model_that_cannot_run_is_told(tflite_plain):
    decoder = TfliteGraphDecoder(tflite_plain.traceable.spec, DECODE)
    damaged = tflite_plain.flatbuffer[:1000]
    with pytest.raises(GateError, match="LiteRT cannot run the model after a test"):
        judge_appended(damaged, damaged, decoder, tflite_plain.traceable.contract, batches(1), "a test")
