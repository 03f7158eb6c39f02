from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.onnx_file import read_manifest_text

MakeOnnx = Callable[..., Path]


def test_the_manifest_is_the_one_the_engine_gives(make_onnx: MakeOnnx, tiny_manifest: Manifest) -> None:
    text = read_manifest_text(make_onnx())
    assert text is not None
    assert Manifest.from_json(text) == tiny_manifest


def test_a_file_that_other_tools_wrote_is_read(checkout: Path) -> None:
    text = read_manifest_text(checkout / "solov2_edge/assets/nano-nuclei.fp32.onnx")
    assert text is not None
    assert Manifest.from_json(text).precision == "fp32"


def test_a_file_without_a_manifest(make_onnx: MakeOnnx) -> None:
    assert read_manifest_text(make_onnx(embed=False)) is None


def test_other_metadata_is_stepped_over(make_onnx: MakeOnnx, tiny_manifest: Manifest) -> None:
    path = make_onnx(embed=False)
    text = tiny_manifest.embedded().to_json().encode()
    name = b"solov2_edge.manifest"
    entry = bytes([0x0A, len(name)]) + name + bytes([0x12, len(text) & 0x7F | 0x80, len(text) >> 7]) + text
    other = bytes([0x72, 6, 0x0A, 1, 0x61, 0x12, 1, 0x62])  # {"a": "b"}
    fixed = bytes([0x0D, 1, 2, 3, 4, 0x09, 1, 2, 3, 4, 5, 6, 7, 8])  # fields no ModelProto has
    path.write_bytes(
        path.read_bytes() + other + fixed + bytes([0x72, len(entry) & 0x7F | 0x80, len(entry) >> 7]) + entry
    )
    assert read_manifest_text(path) == text.decode()


@pytest.mark.parametrize("cut", [1, 30, 500])
def test_a_file_cut_short_is_one_sentence(make_onnx: MakeOnnx, cut: int) -> None:
    path = make_onnx()
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"tiny\.onnx: it is not an ONNX model, or a damaged one; copy it again"):
        read_manifest_text(path)


@pytest.mark.parametrize("content", [b"\xff" * 40, b"\x0b" * 8, b"PK\x03\x04 a zip", b"\x80"])
def test_what_is_no_onnx_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="it is not an ONNX model"):
        read_manifest_text(path)


def test_empty_missing_and_garbled_files(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_manifest_text(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read_manifest_text(path)
    name = b"solov2_edge.manifest"
    entry = bytes([0x0A, len(name)]) + name + b"\x12\x01\xff"
    path.write_bytes(bytes([0x72, len(entry)]) + entry)
    with pytest.raises(InputError, match="the manifest inside is not text"):
        read_manifest_text(path)
