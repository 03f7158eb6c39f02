from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from solov2_edge.converters import tflite_metadata
from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.converters.tflite_metadata import embed_manifest, embed_metadata
from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY
from solov2_edge.runtime.flatbuffer import FlatBuffer
from solov2_edge.runtime.tflite_file import IDENTIFIER, MODEL_BUFFERS, buffer_extent, read_metadata

ARRAYS = {
    name: np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for seed, (name, shape) in enumerate({"scores": (19, 2), "features": (4, 16, 24)}.items())
}
OLD = {"min_runtime_version": b"2.3.0\0\0\0", "other": b"\xff\0\xfe"}
TEXT = '{"a manifest": "Ä", "long": "' + 3000 * "x" + '"}'


@pytest.fixture
def model(tflite_builder: ModuleType) -> bytes:
    data: bytes = tflite_builder.tiny_tflite(ARRAYS, (1, 32, 64, 3), metadata=OLD)
    return data


def outputs(data: bytes) -> list[NDArray[Any]]:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    batch = np.random.default_rng(5).integers(0, 256, (1, 32, 64, 3), np.uint8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
    interpreter.invoke()
    return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]


def unpack(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def assert_same(left: Any, right: Any) -> None:
    """Compare two unpacked FlatBuffers, whatever they hold."""
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, list):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif hasattr(left, "__dict__"):
        for name, value in vars(left).items():
            assert_same(value, getattr(right, name))
    else:
        assert left == right


def test_a_manifest_is_added_and_everything_else_stays(model: bytes) -> None:
    embedded = embed_manifest(model, TEXT)
    assert read_metadata(embedded) == {**OLD, METADATA_KEY: TEXT.encode()}
    before, after = unpack(model), unpack(embedded)
    added, buffer = after.metadata.pop(), after.buffers.pop()
    assert added.name == METADATA_KEY.encode()
    assert added.buffer == len(before.buffers)
    assert buffer.data.tobytes() == TEXT.encode()
    assert_same(before, after)
    assert embedded.endswith(model[8:])
    assert len(embedded) - len(model) < len(TEXT) + 1024


def test_the_network_still_computes_the_same_bits(model: bytes) -> None:
    for before, after in zip(outputs(model), outputs(embed_manifest(model, TEXT)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_content_keeps_its_alignment(model: bytes) -> None:
    def places(data: bytes) -> list[int]:
        walk = FlatBuffer(data, IDENTIFIER)
        extents = [buffer_extent(walk, walk.follow(at)) for at in walk.tables(walk.root(), MODEL_BUFFERS)]
        return [first % 64 for first, count in extents if count]

    before, after = places(model), places(embed_manifest(model, TEXT))
    assert after[:-1] == before
    assert after[-1] % 16 == 0


def test_embedding_again_replaces(model: bytes) -> None:
    twice = embed_manifest(embed_manifest(model, TEXT), "{}")
    assert read_metadata(twice) == {**OLD, METADATA_KEY: b"{}"}
    np.testing.assert_array_equal(outputs(twice)[1], outputs(model)[1])


def test_a_model_without_metadata_of_its_own(tflite_builder: ModuleType) -> None:
    model = tflite_builder.tiny_tflite(ARRAYS, (1, 32, 64, 3))
    for stripped in (model, _without_lists(model)):
        assert read_metadata(embed_manifest(stripped, TEXT)) == {METADATA_KEY: TEXT.encode()}
        np.testing.assert_array_equal(outputs(embed_manifest(stripped, TEXT))[1], outputs(model)[1])


def _without_lists(model: bytes) -> bytes:
    """Leave the metadata and signature fields out of the root's vtable, as old converters did."""
    unpacked = unpack(model)
    unpacked.metadata = unpacked.signatureDefs = unpacked.description = None
    return pack(unpacked)


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 63, 64, 65, 5000])
def test_any_length_of_content(model: bytes, length: int) -> None:
    embedded = embed_metadata(model, "k" * (length % 9), bytes(range(256)) * 20)
    embedded = embed_metadata(embedded, "blob", b"\x07" * length)
    assert read_metadata(embedded)["blob"] == b"\x07" * length
    assert read_facts(embedded).ops == read_facts(model).ops


def test_content_outside_the_flatbuffer_is_refused(model: bytes) -> None:
    unpacked = unpack(model)
    unpacked.buffers[1].data, unpacked.buffers[1].offset, unpacked.buffers[1].size = None, 16, 8
    with pytest.raises(InputError, match="keeps content outside"):
        embed_manifest(pack(unpacked), TEXT)
    unpacked = unpack(model)
    unpacked.subgraphs[0].operators[0].largeCustomOptionsOffset = 16
    with pytest.raises(InputError, match="keeps content outside"):
        embed_manifest(pack(unpacked), TEXT)


def test_a_model_that_would_grow_too_large(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_metadata, "LARGEST", len(model) + 2000)
    assert embed_manifest(model, "{}")
    with pytest.raises(InputError, match="choose a smaller variant"):
        embed_manifest(model, TEXT)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x08\0\0\0TFL3", b"\0" * 100])
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(InputError):
        embed_manifest(data, TEXT)


def test_a_converted_network_keeps_its_bits(checkout: Path) -> None:
    """A whole network with its manifest replaced, thousands of bytes longer, runs to the same bits."""
    model = gzip.decompress((checkout / "tests/data/tflite/narrow.fp32.tflite.gz").read_bytes())
    embedded = embed_manifest(model, TEXT)
    assert read_metadata(embedded)[METADATA_KEY] == TEXT.encode()
    assert read_facts(embedded).ops == read_facts(model).ops
    results = []
    for data in (model, embedded):
        interpreter = Interpreter(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
        results.append(runner(image=np.random.default_rng(5).integers(0, 256, (1, 64, 96, 3), np.uint8)))
    assert list(results[0]) == ["class_scores", "kernels", "mask_features"]
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name])
