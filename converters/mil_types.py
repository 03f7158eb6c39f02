"""The types of an ML Program: element kinds, tensor types, and the values a program computes with.

A value of kind ``fp16`` is held as a float32 tensor whose every number is a float16: ops compute in float32 and
:mod:`~solov2_edge.converters.mil_precision` rounds their results, so no op has to think of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from solov2_edge.errors import InputError, require

__all__ = ["KINDS", "MAX_ELEMENTS", "Kind", "TensorType", "Value", "read_type"]

MAX_ELEMENTS = 1 << 28  # 1 GiB; far above any tensor of these networks, more is a damaged or hostile file


@dataclass(frozen=True, slots=True)
class Kind:
    """One element kind.

    Attributes:
        mil: its number in MIL.proto's ``DataType``.
        blob: its number in MILBlob's ``BlobDataType``, or 0 where weight files cannot hold it.
        bits: bits per element as stored.
        signed: whether integers have a sign.
        held: dtype of the tensors that hold it here.
    """

    mil: int
    blob: int
    bits: int
    signed: bool
    held: torch.dtype


KINDS = {
    "bool": Kind(1, 0, 8, False, torch.bool),
    "fp16": Kind(10, 1, 16, True, torch.float32),
    "fp32": Kind(11, 2, 32, True, torch.float32),
    "int8": Kind(21, 4, 8, True, torch.int8),
    "int16": Kind(22, 6, 16, True, torch.int32),
    "int32": Kind(23, 14, 32, True, torch.int32),
    "int4": Kind(25, 8, 4, True, torch.int8),
    "uint8": Kind(31, 3, 8, False, torch.uint8),
    "uint16": Kind(32, 7, 16, False, torch.int32),
    "uint32": Kind(33, 15, 32, False, torch.int64),
    "uint4": Kind(35, 11, 4, False, torch.uint8),
    "uint2": Kind(36, 10, 2, False, torch.uint8),
    "uint1": Kind(37, 9, 1, False, torch.uint8),
    "uint6": Kind(38, 13, 6, False, torch.uint8),
    "uint3": Kind(39, 12, 3, False, torch.uint8),
}
STRING = 2  # MIL.proto's number of strings, which are no tensors here
NAMES = {kind.mil: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class TensorType:
    """Kind and shape of a tensor; ``kind`` is ``"string"`` for text."""

    kind: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.kind}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Value:
    """What a name of the program stands for: a tensor and its kind, or a text of kind ``"string"``."""

    data: Any
    kind: str

    @property
    def type(self) -> TensorType:
        """Kind and shape."""
        return TensorType(self.kind, tuple(self.data.shape) if isinstance(self.data, torch.Tensor) else ())


def read_type(declared: Any, what: str) -> TensorType:
    """Return the tensor type of a ``ValueType`` message.

    Args:
        declared: the message.
        what: whose type it is, for messages.

    Raises:
        InputError: not a tensor, an unknown element kind, or a size that is not fixed.
    """
    require(
        declared.WhichOneof("type") == "tensorType",
        f"{what} is no tensor but a {declared.WhichOneof('type')}, which the interpreter does not support",
    )
    tensor = declared.tensorType
    shape = tuple(_size(dimension, what) for dimension in tensor.dimensions)
    require(tensor.rank == len(shape), f"{what} declares rank {tensor.rank} and {len(shape)} sizes; convert again")
    kind = "string" if tensor.dataType == STRING else NAMES.get(tensor.dataType)
    if kind is None:
        raise InputError(f"{what} has element type {tensor.dataType}, which the interpreter does not support")
    require(prod(shape) <= MAX_ELEMENTS, f"{what} declares {_join(shape)} elements, more than any network here has")
    return TensorType(kind, shape)


def _size(dimension: Any, what: str) -> int:
    require(
        dimension.WhichOneof("dimension") == "constant",
        f"{what} has a size that is not fixed; the interpreter runs programs of fixed sizes, as convert makes them",
    )
    return int(dimension.constant.size)


def _join(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
