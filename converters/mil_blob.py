"""Weight files of ML Programs: MILBlob storage, version 2.

Little endian: a 64-byte header (count uint32, version uint32), then per blob 64 bytes of metadata (sentinel uint32
0xDEADBEEF, element type uint32, size in bytes uint64, offset of the data uint64, unused bits at the data's end
uint64) and its data, everything aligned to 64 bytes. A program names a blob by the offset of its metadata.
Source: coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp and BlobDataType.hpp.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from solov2_edge.converters.mil_types import KINDS, TensorType, Value
from solov2_edge.errors import InputError, require

__all__ = ["BlobFile", "decode", "unpack_bits"]

HEADER = struct.Struct("<II56x")
METADATA = struct.Struct("<IIQQQ32x")
ALIGNMENT = 64
VERSION = 2
SENTINEL = 0xDEADBEEF
WHOLE: dict[str, Any] = {
    "bool": np.bool_,
    "fp16": "<f2",
    "fp32": "<f4",
    "int8": np.int8,
    "int16": "<i2",
    "int32": "<i4",
    "uint8": np.uint8,
    "uint16": "<u2",
    "uint32": "<u4",
}


class BlobFile:
    """One weight file; every read is checked against its bounds and its own description."""

    def __init__(self, path: Path) -> None:
        """Map a file.

        Raises:
            InputError: it cannot be read, or is not such a file.
        """
        self._path = path
        try:
            self._bytes: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise InputError(f"the weight file {path} cannot be read ({error}); convert again") from error
        require(len(self._bytes) >= HEADER.size, f"the weight file {path} is too short; copy it again")
        _, version = HEADER.unpack(self._bytes[: HEADER.size].tobytes())
        require(version == VERSION, f"the weight file {path} has version {version}, expected {VERSION}; convert again")

    def read(self, offset: int, declared: TensorType, what: str) -> Value:
        """Return the tensor whose metadata lies at ``offset``.

        Args:
            offset: where the metadata starts, in bytes.
            declared: kind and shape, as the program says.
            what: name of the constant, for messages.

        Raises:
            InputError: the place is outside the file, is no metadata, or describes something else than declared.
        """
        name, size = f"{self._path.name}: constant {what!r}", len(self._bytes)
        require(
            offset % ALIGNMENT == 0 and HEADER.size <= offset <= size - METADATA.size,
            f"{name} points to byte {offset} of {size}; the file is damaged, copy or convert it again",
        )
        sentinel, blob, length, start, padding = METADATA.unpack(self._bytes[offset : offset + METADATA.size].tobytes())
        kind = KINDS.get(declared.kind)
        require(
            sentinel == SENTINEL and kind is not None and blob == kind.blob,
            f"{name} is declared {declared}, but the bytes there describe something else; convert again",
        )
        assert kind is not None  # required above
        bits = declared.elements * kind.bits
        require(
            length * 8 - padding == bits and 0 <= padding < 8,
            f"{name} is declared {declared}, {bits} bits, but {length * 8 - padding} are stored; convert again",
        )
        require(
            start % ALIGNMENT == 0 and offset + METADATA.size <= start and start + length <= size,
            f"{name} needs bytes {start} to {start + length} of {size}; the file is cut short, copy it again",
        )
        return decode(self._bytes[start : start + length], declared)


def decode(data: NDArray[np.uint8], declared: TensorType) -> Value:
    """Return the tensor that packed bytes hold; the caller has checked that there are enough of them.

    Elements of less than a byte are packed from the least significant bit up, over byte boundaries.
    """
    kind = KINDS[declared.kind]
    if declared.kind in WHOLE:
        array: NDArray[Any] = np.frombuffer(data.tobytes(), WHOLE[declared.kind])[: declared.elements]
    else:
        array = unpack_bits(data, kind.bits, declared.elements)
        if kind.signed:
            array = np.where(array >= 1 << (kind.bits - 1), array.astype(np.int16) - (1 << kind.bits), array)
    wide = torch.from_numpy(array.astype(_held_type(kind.held))).reshape(declared.shape)
    return Value(wide, declared.kind)


def unpack_bits(data: NDArray[np.uint8], bits: int, elements: int) -> NDArray[np.uint8]:
    """Return numbers of ``bits`` (1 to 8) each, packed from the least significant bit up, over byte boundaries."""
    flags = np.unpackbits(data, bitorder="little", count=elements * bits).reshape(elements, bits)
    return np.packbits(flags, axis=1, bitorder="little")[:, 0]


def _held_type(dtype: torch.dtype) -> Any:
    return torch.zeros((), dtype=dtype).numpy().dtype
