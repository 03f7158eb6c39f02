"""Core ML packages that decode: appended to a network in any precision, the same instances as on the host."""

from dataclasses import replace

import numpy as np
import pytest

from solov2_edge.converters import mil_interpreter
from solov2_edge.converters.coreml_decode import PREFIX, append_decoder
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.mil_package import read_package
from solov2_edge.converters.mil_program import read_program
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import DECODED_NAMES, GraphDecode

DECODE = GraphDecode(max_candidates=300, max_instances=40)


def frames(count):
    rng = np.random.default_rng(6)
    return [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(count)]


def append(exported, target, decoder=None):
    whole = replace(exported.manifest, decode=DECODE, outputs=DECODED_NAMES, sha256="", size_bytes=0)
    decoder = decoder or GraphDecoder(exported.manifest.spec, DECODE)
    batches = [frame[None] for frame in frames(2)]
    return append_decoder(exported.path, target, decoder, exported.manifest, whole, "iOS16", batches)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_interpreter_finds_the_hosts_instances(coreml_export, tmp_path, precision):
    exported, target = coreml_export(precision), tmp_path / "decoded.mlpackage"
    assert append(exported, target) < 1e-5
    found = 0
    with mil_interpreter.load(exported.path) as host, mil_interpreter.load(target) as graph:
        for frame in frames(3):
            expected, got = host(frame)[: DECODE.max_instances], graph(frame)
            np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-5)
            np.testing.assert_array_equal(got.labels, expected.labels)
            np.testing.assert_array_equal(got.masks, expected.masks)
            found += len(got)
        with pytest.raises(InputError, match="no raw outputs"):
            graph.raw(frames(1)[0])
    assert found > 5
    with pytest.raises(InputError, match=r"exactly 0\.1, got 0\.2"):
        mil_interpreter.load(target, score_threshold=0.2)


def test_the_program_goes_on_in_float32_and_keeps_its_network(coreml_export, tmp_path):
    exported, target = coreml_export("fp16"), tmp_path / "decoded.mlpackage"
    append(exported, target)
    before, after = (read_package(path) for path in (exported.path, target))
    network, whole = (read_program(package.model, package.folder) for package in (before, after))
    assert whole.outputs == DECODED_NAMES
    own = [
        op for op in whole.operations if any(name.startswith(PREFIX) or name in DECODED_NAMES for name, _ in op.outputs)
    ]
    assert len(own) == len(whole.operations) - len(network.operations)
    assert {kind.kind for op in own for _, kind in op.outputs} == {"fp32", "int32", "bool"}
    assert [op.kind for op in own].count("topk") == 2
    described = [(entry.name, bool(entry.shortDescription)) for entry in after.model.description.output]
    assert described == [(name, True) for name in DECODED_NAMES]
    assert "instances" in after.model.description.metadata.shortDescription


def test_a_decoding_that_differs_is_refused(coreml_export, tmp_path, monkeypatch):
    exported = coreml_export("fp32")
    monkeypatch.setattr(GraphDecoder, "_decay", lambda _, binary, *rest: binary[:, 0] * 0 + 0.5)
    with pytest.raises(GateError, match="differs from the host's after appending the decoding"):
        append(exported, tmp_path / "decoded.mlpackage")
