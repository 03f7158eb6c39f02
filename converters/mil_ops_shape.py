"""Ops of MIL (iOS15 to iOS18) that move numbers without changing them.

Reference: coremltools ``converters/mil/mil/ops/defs``: tensor_transformation, tensor_operation, scatter_gather.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_types import Value
from solov2_edge.errors import require

__all__ = ["OPS"]


def tensors(a: Arguments) -> list[Tensor]:
    """Return the list input ``values``, which must be of one kind."""
    values = a.values("values")
    kinds = sorted({value.kind for value in values})
    require(len(kinds) == 1, f"{a.what} joins values of kinds {', '.join(kinds)}; MIL wants one, convert again")
    return [value.data for value in values]


def identity(a: Arguments) -> Tensor:
    """X."""
    return a.tensor("x")


def reshape(a: Arguments) -> Tensor:
    """X in another shape: -1 is what remains, 0 keeps the size at that place if the rank stays."""
    x, shape = a.tensor("x"), a.ints("shape")
    require(0 not in shape or len(shape) == x.dim(), f"{a.what} keeps a size by 0 but changes the rank")
    return x.reshape([size or x.shape[i] for i, size in enumerate(shape)])


def transpose(a: Arguments) -> Tensor:
    """X with its dimensions in the order of ``perm``."""
    return a.tensor("x").permute(a.ints("perm"))


def expand_dims(a: Arguments) -> Tensor:
    """X with sizes of 1 inserted, so that they stand at ``axes`` of the result."""
    x, axes = a.tensor("x"), a.ints("axes")
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(a: Arguments) -> Tensor:
    """X without sizes of 1: those at ``axes``, by default all of them."""
    x = a.tensor("x")
    axes = a.ints("axes", [axis for axis, size in enumerate(x.shape) if size == 1])
    require(all(x.shape[axis] == 1 for axis in axes), f"{a.what} removes sizes {axes} of {tuple(x.shape)}, not all 1")
    return x.squeeze(axes)


def concat(a: Arguments) -> Tensor:
    """The values, one after the other along the axis."""
    require(not a.flag("interleave", False), f"{a.what} interleaves, which the interpreter does not support")
    return torch.cat(tensors(a), a.integer("axis"))


def stack(a: Arguments) -> Tensor:
    """The values, one after the other along a new axis."""
    return torch.stack(tensors(a), a.integer("axis"))


def split(a: Arguments) -> list[Tensor]:
    """X in ``num_splits`` equal parts, or in parts of ``split_sizes``, along the axis."""
    x, axis = a.tensor("x"), a.integer("axis")
    if not a.has("split_sizes"):
        count = a.integer("num_splits")
        require(x.shape[axis] % count == 0, f"{a.what} splits {x.shape[axis]} into {count} equal parts")
        return list(torch.chunk(x, count, axis))
    sizes = a.ints("split_sizes")
    require(a.integer("num_splits", len(sizes)) == len(sizes), f"{a.what} names {len(sizes)} sizes; convert again")
    return list(torch.split(x, sizes, axis))


def slice_by_index(a: Arguments) -> Tensor:
    """x[begin:end:stride] in every dimension, as numpy slices; masks leave an end open or pick one element."""
    x = a.tensor("x")
    rank, no = x.dim(), [0] * x.dim()
    begin, end, stride = a.ints("begin"), a.ints("end"), a.ints("stride", [1] * rank)
    open_begin, open_end = a.ints("begin_mask", no), a.ints("end_mask", no)
    pick = a.ints("squeeze_mask", no)
    lengths = {len(part) for part in (begin, end, stride, open_begin, open_end, pick)}
    require(lengths == {rank}, f"{a.what} slices {sorted(lengths)} dimensions of {rank}; convert again")
    for axis in range(rank):
        if pick[axis]:
            indices = [range(x.shape[axis])[begin[axis]]]
        else:
            low = None if open_begin[axis] else begin[axis]
            high = None if open_end[axis] else end[axis]
            indices = list(range(x.shape[axis])[slice(low, high, stride[axis])])
        x = x.index_select(axis, torch.tensor(indices, dtype=torch.int64))
    return x.reshape([size for axis, size in enumerate(x.shape) if not pick[axis]])


def slice_by_size(a: Arguments) -> Tensor:
    """``size`` elements from ``begin`` in every dimension; a size of -1 goes to the end."""
    x = a.tensor("x")
    for axis, (begin, size) in enumerate(zip(a.ints("begin"), a.ints("size"), strict=True)):
        x = x.narrow(axis, begin, x.shape[axis] - begin if size == -1 else size)
    return x


def pad(a: Arguments) -> Tensor:
    """X with its last dimensions padded: ``pad`` holds before and after of each, first dimension first."""
    x, amounts = a.tensor("x"), a.ints("pad")
    mode = a.text("mode", "constant", ("constant", "reflect", "replicate"))
    value = a.number("constant_val", 0.0)
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    first = x.dim() - len(pairs)
    a.fits([*x.shape[:first], *(size + sum(pair) for size, pair in zip(x.shape[first:], pairs, strict=True))])
    if mode == "constant":
        return functional.pad(x, [amount for pair in reversed(pairs) for amount in pair], value=value)
    for axis, (before, after) in enumerate(pairs, start=first):
        size = x.shape[axis]
        places = torch.arange(-before, size + after)
        if mode == "replicate":
            places = places.clamp(0, size - 1)
        else:
            require(max(before, after) < size, f"{a.what} reflects {max(before, after)} of {size} elements")
            places = (size - 1) - ((size - 1) - places.abs()).abs()
        x = x.index_select(axis, places)
    return x


def gather(a: Arguments) -> Tensor:
    """Elements of x along the axis at ``indices``, whose shape takes the axis' place."""
    x, indices, axis = a.tensor("x"), a.tensor("indices").long(), a.integer("axis", 0)
    require(a.integer("batch_dims", 0) == 0, f"{a.what} gathers by batch, which the interpreter does not support")
    a.flag("validate_indices", False)  # an index out of range fails here in any case
    axis %= x.dim()
    taken = x.index_select(axis, torch.where(indices < 0, indices + x.shape[axis], indices).reshape(-1))
    return taken.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def gather_along_axis(a: Arguments) -> Tensor:
    """Elements of x along the axis at ``indices``, which has the rank of x."""
    x, indices, axis = a.tensor("x"), a.tensor("indices").long(), a.integer("axis", 0)
    a.flag("validate_indices", False)
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


def tile(a: Arguments) -> Tensor:
    """X, repeated ``reps`` times in every dimension."""
    x, reps = a.tensor("x"), a.ints("reps")
    a.fits([*x.shape, *reps])
    return x.repeat(reps)


def reverse(a: Arguments) -> Tensor:
    """X backwards along ``axes``, by default along all."""
    x = a.tensor("x")
    return x.flip(a.ints("axes", range(x.dim())))


def pixel_shuffle(a: Arguments) -> Tensor:
    """(n, C r^2, H, W) as (n, C, H r, W r)."""
    return functional.pixel_shuffle(a.tensor("x"), a.integer("upscale_factor"))


def topk(a: Arguments) -> list[Value]:
    """The k largest (smallest) elements along the axis, -1 by default, and where they stand.

    In falling (rising) order, the lower index first where elements are equal. MIL leaves both to the engine where
    ``sort`` is false, and the second always.
    """
    x, axis, count = a.value("x"), a.integer("axis", -1), a.integer("k", 1)
    a.flag("sort", True)
    falling = not a.flag("ascending", False)
    order = torch.argsort(x.data, dim=axis, descending=falling, stable=True).narrow(axis, 0, count)
    kind = a.text("output_indices_dtype", "int32", ("int32", "uint16"))
    values = Value(torch.gather(x.data, axis, order), x.kind)
    return [values, Value(order, kind)] if a.flag("return_indices", True) else [values]


OPS: dict[str, Callable[[Arguments], Tensor | list[Tensor] | list[Value] | Value]] = {
    "identity": identity,
    "reshape": reshape,
    "transpose": transpose,
    "expand_dims": expand_dims,
    "squeeze": squeeze,
    "concat": concat,
    "stack": stack,
    "split": split,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "pad": pad,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "tile": tile,
    "reverse": reverse,
    "topk": topk,
    "pixel_shuffle": pixel_shuffle,
}
