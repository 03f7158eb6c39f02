from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY
from solov2_edge.runtime.flatbuffer import FlatBuffer
from solov2_edge.runtime.tflite_file import IDENTIFIER, read_manifest_text, read_metadata

ARRAYS = {"mask_features": np.ones((2, 2), np.float32)}
METADATA = {"min_runtime_version": b"2.3.0\0\0", METADATA_KEY: '{"name": "Käfer"}'.encode(), "empty": b""}


@pytest.fixture
def model(tflite_builder: ModuleType) -> bytes:
    data: bytes = tflite_builder.tiny_tflite(ARRAYS, (1, 2, 2, 3), metadata=METADATA)
    return data


def test_the_metadata_of_a_model(model: bytes, tmp_path: Path) -> None:
    assert read_metadata(model) == METADATA
    path = tmp_path / "tiny.tflite"
    path.write_bytes(model)
    assert read_manifest_text(path) == '{"name": "Käfer"}'


def test_a_model_without_metadata(tflite_builder: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tflite_builder.tiny_tflite(ARRAYS, (1, 2, 2, 3)))
    assert read_metadata(path.read_bytes()) == {}
    assert read_manifest_text(path) is None


def test_content_behind_the_flatbuffer(model: bytes) -> None:
    far = b"content of a file above 2 GB"

    def moved(offset: int) -> bytes:
        unpacked = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        buffer = unpacked.buffers[unpacked.metadata[1].buffer]
        buffer.data, buffer.offset, buffer.size = None, offset, len(far)
        builder = flatbuffers.Builder(1024)
        builder.Finish(unpacked.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    length = len(moved(10_000))
    assert read_metadata(moved(length) + far)[METADATA_KEY] == far
    with pytest.raises(InputError, match="the file is truncated"):
        read_metadata(moved(length) + far[:-1])
    with pytest.raises(InputError, match="the file is truncated"):
        read_metadata(moved(2**64 - 1) + far)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x08", "not a TFL3 FlatBuffer"),
        (b"PK\x03\x04 and so on", "not a TFL3 FlatBuffer"),
        (b"\xff\xff\xff\xffTFL3", "truncated or damaged"),
        (b"\x08\0\0\0TFL3", "truncated or damaged"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest_text(path)
    assert str(path) in str(caught.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.tflite"):
        with pytest.raises(InputError, match="cannot be read"):
            read_manifest_text(path)


def test_a_manifest_that_is_not_text(tflite_builder: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tflite_builder.tiny_tflite(ARRAYS, (1, 2, 2, 3), metadata={METADATA_KEY: b"\xff\xfe"}))
    with pytest.raises(InputError, match="is not text"):
        read_manifest_text(path)


def test_every_truncation_and_damage_ends_in_an_input_error_or_a_reading(model: bytes) -> None:
    def read(data: bytes) -> None:
        try:
            total = sum(len(content) for content in read_metadata(data).values())
        except InputError:
            return
        assert total <= len(data)

    for length in range(0, len(model), 3):
        read(model[:length])
    source = random.Random(0)
    for _ in range(3000):
        damaged = bytearray(model)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(model))
            damaged[at] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))
        read(bytes(damaged))


def hostile(**counts: int) -> bytes:
    """A root table whose metadata vector claims ``entries`` items that all lead to one entry with one huge buffer."""
    entries, size = counts["entries"], counts["size"]
    data = bytearray(b"\0\0\0\0TFL3")

    def add(code: str, *values: int) -> int:
        at = len(data)
        data.extend(struct.pack(f"<{code}", *values))
        return at

    vtable = add("9H", 18, 12, 0, 0, 0, 0, 4, 0, 8)
    add("H", 0)
    root = add("iII", len(data) - vtable, 0, 0)
    struct.pack_into("<I", data, 0, root)
    small = add("4H", 6, 8, 4, 0)
    entry_vtable = add("4H", 8, 8, 0, 4)  # no name, a buffer number
    struct.pack_into("<I", data, root + 8, len(data) - root - 8)
    add("I", entries)
    vector = add(f"{entries}I", *([0] * entries))
    entry = add("iI", len(data) - entry_vtable, 0)
    for number in range(entries):
        at = vector + 4 * number
        struct.pack_into("<I", data, at, entry - at)
    struct.pack_into("<I", data, root + 4, len(data) - root - 4)
    add("II", 1, 4)
    add("iI", len(data) - small, 4)
    add("I", size)
    data.extend(bytes(size))
    return bytes(data)


def test_entries_that_share_one_content_are_read_once() -> None:
    assert read_metadata(hostile(entries=1000, size=100_000)) == {"": bytes(100_000)}
    with pytest.raises(InputError, match="1025 metadata entries"):
        read_metadata(hostile(entries=1025, size=8))


def test_a_vtable_that_points_outside(model: bytes) -> None:
    damaged = bytearray(model)
    root = struct.unpack_from("<I", damaged)[0]
    for distance in (2**31 - 1, -(2**31), root + 1):
        struct.pack_into("<i", damaged, root, distance)
        with pytest.raises(InputError, match="truncated or damaged"):
            read_metadata(bytes(damaged))


def test_steps_are_checked(model: bytes) -> None:
    walk = FlatBuffer(model, IDENTIFIER)
    for at in (-1, len(model) - 3, len(model)):
        with pytest.raises(InputError):
            walk.number("I", at)
    root = walk.root()
    assert walk.scalar(root, 0, "I") == 3
    assert walk.text(root, 3) == "tiny"
    assert walk.field(root, 99) is None
    assert walk.scalar(root, 99, "Q", 7) == 7
    assert walk.vector(root, 99, 4) == (0, 0)


def test_reading_needs_no_toolchain(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(model)
    code = (
        "import sys\n"
        "for name in ('flatbuffers', 'ai_edge_litert', 'tensorflow', 'tflite_runtime', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from solov2_edge.runtime.tflite_file import read_manifest_text\n"
        "print(read_manifest_text(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '{"name": "Käfer"}'


def test_memory_stays_with_the_file(model: bytes) -> None:
    """A vector that claims four billion items is refused before anything is allocated for it."""
    walk: Any = FlatBuffer(model, IDENTIFIER)
    root = walk.root()
    metadata = walk.follow(walk.field(root, 6))
    damaged = bytearray(model)
    struct.pack_into("<I", damaged, metadata, 2**32 - 1)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_metadata(bytes(damaged))


@pytest.mark.parametrize("root", [0, 4, 7, 99])
def test_a_root_in_the_head_or_outside_is_refused(root: int) -> None:
    data = root.to_bytes(4, "little") + b"TFL3" + bytes(64)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_metadata(data)
