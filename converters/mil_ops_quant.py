"""Quantised activations (iOS17) and compressed constants (iOS16, iOS18) of MIL, decoded in float32.

Reference: coremltools ``converters/mil/mil/ops/defs``: iOS16/constexpr_ops, iOS17/quantization_ops,
iOS18/compression. Two ops have the same name in iOS16 and iOS18 with other inputs; the presence of ``shape`` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_blob import unpack_bits
from solov2_edge.converters.mil_types import KINDS, Value
from solov2_edge.errors import require

__all__ = ["CONSTANT_OPS", "OPS", "along", "blockwise", "unpacked"]


def along(a: Arguments, values: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """Return a scalar, or a vector along ``axis``, so that it broadcasts to x."""
    if values.numel() == 1:
        return values.reshape(())
    require(
        axis is not None and values.dim() == 1 and len(values) == x.shape[axis],
        f"{a.what} has {values.numel()} scales or zero points, which fit no axis; convert the checkpoint again",
    )
    assert axis is not None  # required above
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


def blockwise(a: Arguments, values: Tensor, shape: torch.Size) -> Tensor:
    """Return one value per block, repeated to ``shape``; block sizes follow from the two shapes."""
    require(
        values.dim() == len(shape) and all(whole % part == 0 for whole, part in zip(shape, values.shape, strict=True)),
        f"{a.what} has blocks of shape {tuple(values.shape)} for {tuple(shape)}; convert the checkpoint again",
    )
    for axis, (whole, part) in enumerate(zip(shape, values.shape, strict=True)):
        values = values.repeat_interleave(whole // part, axis)
    return values


def unpacked(a: Arguments, data: Tensor, bits: int, shape: list[int]) -> Tensor:
    """Return uint8 bytes (M,) as indices of ``bits`` each, packed from the least significant bit up."""
    need = -(-bits * prod(shape) // 8)
    require(
        data.dtype == torch.uint8 and data.shape == (need,),
        f"{a.what} packs {prod(shape)} elements in {data.numel()} bytes, expected {need}; convert the checkpoint again",
    )
    return torch.from_numpy(unpack_bits(data.numpy(), bits, prod(shape))).long().reshape(shape)


def axis_of(a: Arguments) -> int | None:
    """Return ``axis`` where it is given."""
    return a.integer("axis") if a.has("axis") else None


def quantize(a: Arguments) -> Value:
    """round(input / scale) + zero_point, half to even, kept within the integers' range."""
    x, axis, kind = a.tensor("input"), axis_of(a), a.text("output_dtype", choices=("int8", "uint8"))
    zero = a.tensor("zero_point") if a.has("zero_point") else torch.zeros(())
    steps = torch.round(x / along(a, a.tensor("scale"), x, axis)) + along(a, zero.float(), x, axis)
    limits = torch.iinfo(KINDS[kind].held)
    return Value(steps.clamp(limits.min, limits.max), kind)


def dequantize(a: Arguments) -> Value:
    """(input - zero_point) * scale, of the scale's kind."""
    x, axis, scale = a.tensor("input").float(), axis_of(a), a.value("scale")
    zero = a.tensor("zero_point") if a.has("zero_point") else torch.zeros(())
    return Value((x - along(a, zero.float(), x, axis)) * along(a, scale.data, x, axis), scale.kind)


def constexpr_affine_dequantize(a: Arguments) -> Value:
    """(quantized_data - zero_point) * scale, along an axis (iOS16)."""
    x, axis, scale = a.tensor("quantized_data").float(), a.integer("axis"), a.value("scale")
    zero = along(a, a.tensor("zero_point").float(), x, axis)
    return Value((x - zero) * along(a, scale.data, x, axis), scale.kind)


def constexpr_blockwise_shift_scale(a: Arguments) -> Value:
    """(data - offset) * scale, block by block (iOS18)."""
    x, scale = a.tensor("data").float(), a.value("scale")
    if a.has("offset"):
        x = x - blockwise(a, a.tensor("offset").float(), x.shape)
    return Value(x * blockwise(a, scale.data, x.shape), scale.kind)


def constexpr_lut_to_dense(a: Arguments) -> Value:
    """The lookup table's entries at the indices: one table (iOS16), or one per block (iOS18)."""
    lut = a.value("lut")
    if a.has("shape"):
        count = lut.data.numel()
        require(lut.data.dim() == 1 and count in (2, 4, 16, 64, 256), f"{a.what} has a table of {count} entries")
        indices = unpacked(a, a.tensor("indices"), count.bit_length() - 1, a.ints("shape"))
        return Value(lut.data[indices], lut.kind)
    indices, table = a.tensor("indices").long(), lut.data
    require(table.dim() == indices.dim() + 2, f"{a.what} has a table of rank {table.dim()} for rank {indices.dim()}")
    require(table.shape[-1] == 1, f"{a.what} looks up vectors, which the interpreter does not support")
    if a.has("vector_axis"):
        a.integer("vector_axis")  # says nothing where the vectors have one element
    entries = table.shape[-2]
    require(int(indices.max()) < entries, f"{a.what} looks up entry {int(indices.max())} of {entries}; convert again")
    first = torch.arange(prod(table.shape[:-2])).reshape(table.shape[:-2]) * entries
    return Value(table.reshape(-1)[blockwise(a, first, indices.shape) + indices], lut.kind)


def constexpr_sparse_to_dense(a: Arguments) -> Value:
    """``nonzero_data``, one after the other where the mask is set, zeros elsewhere."""
    data = a.value("nonzero_data")
    mask = unpacked(a, a.tensor("mask"), 1, a.ints("shape")) if a.has("shape") else a.tensor("mask")
    places = mask != 0
    require(int(places.sum()) == data.data.numel(), f"{a.what} has {data.data.numel()} values for {int(places.sum())}")
    dense = torch.zeros(mask.shape, dtype=data.data.dtype)
    dense[places] = data.data
    return Value(dense, data.kind)


def constexpr_cast(a: Arguments) -> Value:
    """``source_val`` as ``output_dtype``."""
    return Value(a.tensor("source_val"), a.text("output_dtype", choices=("fp16", "fp32")))


OPS: dict[str, Callable[[Arguments], Tensor | Value]] = {"quantize": quantize, "dequantize": dequantize}
CONSTANT_OPS: dict[str, Callable[[Arguments], Value]] = {
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "constexpr_sparse_to_dense": constexpr_sparse_to_dense,
    "constexpr_cast": constexpr_cast,
}
