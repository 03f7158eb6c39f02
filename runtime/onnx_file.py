"""The metadata inside an .onnx file, read without onnx and before any engine opens it.

A ModelProto is a list of protobuf fields; ``metadata_props`` are the fields 14, each an entry of key (1) and value (2),
as ``onnx.proto`` numbers them. Everything else, the graph and its weights above all, is stepped over.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY

__all__ = ["read_manifest_text"]

METADATA_PROPS, KEY, VALUE = 14, 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
LONGEST_VARINT = 10  # bytes
DAMAGED = "it is not an ONNX model, or a damaged one; copy it again, or convert the checkpoint again"


def read_manifest_text(path: str | os.PathLike[str]) -> str | None:
    """Return the manifest's JSON text inside an .onnx file, None where it has none; weights are not read.

    Raises:
        InputError: the file cannot be read, is not an ONNX model, or is damaged.
    """
    try:
        with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for number, first, last in _fields(data, 0, len(data)):
                if number == METADATA_PROPS:
                    entry = {part: data[begin:end] for part, begin, end in _fields(data, first, last)}
                    if entry.get(KEY) == METADATA_KEY.encode():
                        return entry.get(VALUE, b"").decode()
            return None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the manifest inside is not text; convert the checkpoint again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # mmap's word for an empty file
        raise InputError(f"{path} is empty; copy it again, or convert the checkpoint again") from error


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, first byte, byte behind the last) of every field that holds bytes."""
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == BYTES:
            length, first = _varint(data, at, end)
            at = first + length
            if at <= end:
                yield tag >> 3, first, at
        elif kind == VARINT:
            at = _varint(data, at, end)[1]
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise InputError(DAMAGED)
    if at > end:
        raise InputError(DAMAGED)


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return a number and the byte behind it."""
    value = 0
    for place, byte in enumerate(data[at : min(at + LONGEST_VARINT, end)]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise InputError(DAMAGED)
