"""Convolution, matrix products, pooling and normalisation of MIL (iOS15 to iOS18), in float32.

Reference: coremltools ``converters/mil/mil/ops/defs``: conv, linear, pool, normalization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_types import Value
from solov2_edge.errors import require

__all__ = ["OPS"]

PAD_TYPES = ("valid", "same", "same_lower", "custom")
CONVOLUTIONS = {3: torch.conv1d, 4: torch.conv2d, 5: torch.conv3d}  # by rank


def paddings(a: Arguments, size: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the padding (before, after) of each spatial dimension.

    ``same`` pads so that the output has ceil(size / stride) elements, the odd one after, ``same_lower`` before
    (TensorFlow's SAME). ``window`` is the kernel with its dilation.
    """
    kind = a.text("pad_type", "valid", PAD_TYPES)
    custom = a.ints("pad", [0] * 2 * len(size))
    require(len(custom) == 2 * len(size), f"{a.what} has {len(custom)} paddings for {len(size)} dimensions")
    if kind == "custom":
        return list(zip(custom[::2], custom[1::2], strict=True))
    if kind == "valid":
        return [(0, 0)] * len(size)
    totals = [max(0, s * -(-n // s) - n + k - s) for n, k, s in zip(size, window, strides, strict=True)]
    return [(t // 2, t - t // 2) if kind == "same" else (t - t // 2, t // 2) for t in totals]


def padded(a: Arguments, x: Tensor, pads: Sequence[tuple[int, int]], value: float) -> Tensor:
    """Return x with its last dimensions padded by a constant."""
    if not any(before or after for before, after in pads):
        return x
    inner = x.shape[x.dim() - len(pads) :]
    sizes = [size + max(before, 0) + max(after, 0) for size, (before, after) in zip(inner, pads, strict=True)]
    a.fits([*x.shape[: x.dim() - len(pads)], *sizes])
    flat = [amount for pair in reversed(pads) for amount in pair]  # torch counts from the last dimension
    return functional.pad(x, flat, value=value)


def conv(a: Arguments) -> Tensor:
    """Convolution of x (n, C, *size) with weight (O, C / groups, *kernel)."""
    x, weight, bias = a.tensor("x"), a.tensor("weight"), a.optional("bias")
    ones = [1] * (x.dim() - 2)
    strides, dilations, groups = a.ints("strides", ones), a.ints("dilations", ones), a.integer("groups", 1)
    require(x.dim() in CONVOLUTIONS, f"{a.what} convolves {x.dim()} dimensions, expected 3 to 5")
    window = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    spread = padded(a, x, paddings(a, x.shape[2:], window, strides), 0.0)
    result: Tensor = CONVOLUTIONS[x.dim()](spread, weight, bias, strides, 0, dilations, groups)
    return result


def linear(a: Arguments) -> Tensor:
    """X times the transposed weight (out, in), plus bias."""
    return functional.linear(a.tensor("x"), a.tensor("weight"), a.optional("bias"))


def matmul(a: Arguments) -> Tensor:
    """Matrix product of x and y, each transposed in its last two dimensions if so said; batches broadcast."""
    x, y = a.tensor("x"), a.tensor("y")
    x = x.mT if a.flag("transpose_x", False) else x
    y = y.mT if a.flag("transpose_y", False) else y
    return torch.matmul(x, y)


def windows(a: Arguments, fill: float) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Return what pooling of x (n, C, H, W) slides over, with its kernel and strides.

    The second tensor (1, 1, ...) tells the places apart: 1 inside x, 0.5 in the padding, 0 in what ``ceil_mode``
    adds beyond the padding so that the last window fits. As in PyTorch, a last window that would start beyond the
    input and the padding before it is left out.
    """
    x, kernel = a.tensor("x"), a.ints("kernel_sizes")
    require(x.dim() == 4 and len(kernel) == 2, f"{a.what} pools {x.dim() - 2} dimensions; the interpreter pools two")
    strides = a.ints("strides", [1, 1])
    pads = paddings(a, x.shape[2:], kernel, strides)
    extra = [(0, 0), (0, 0)]
    if a.flag("ceil_mode", False):
        for i, (size, k, s, (before, after)) in enumerate(zip(x.shape[2:], kernel, strides, pads, strict=True)):
            count = -(-(size + before + after - k) // s) + 1
            count -= (count - 1) * s >= size + before and before + after > 0
            extra[i] = (0, max(0, (count - 1) * s + k - (size + before + after)))
    place = padded(a, padded(a, torch.ones(1, 1, *x.shape[2:]), pads, 0.5), extra, 0.0)
    return padded(a, padded(a, x, pads, fill), extra, fill), place, kernel, strides


def max_pool(a: Arguments) -> Tensor:
    """Largest element of each window."""
    x, _, kernel, strides = windows(a, float("-inf"))
    return functional.max_pool2d(x, kernel, strides)


def avg_pool(a: Arguments) -> Tensor:
    """Mean of each window; padding counts as zeros unless it is excluded."""
    excluded = a.flag("exclude_padding_from_average", False)
    x, place, kernel, strides = windows(a, 0.0)
    counted = (place == 1 if excluded else place > 0).float()
    total = functional.avg_pool2d(x, kernel, strides, divisor_override=1)
    return total / functional.avg_pool2d(counted, kernel, strides, divisor_override=1)


def standardised(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    """Return (x - mean) / sqrt(variance + epsilon) over the axes; the variance is the biased one."""
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def affine(a: Arguments, x: Tensor, shape: list[int]) -> Tensor:
    """Return x * gamma + beta, both reshaped to broadcast; either may be missing."""
    gamma, beta = a.optional("gamma"), a.optional("beta")
    x = x if gamma is None else x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)


def batch_norm(a: Arguments) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta per channel, with constants."""
    x = a.tensor("x")
    shape = [1, -1] + [1] * (x.dim() - 2)
    deviation = torch.sqrt(a.tensor("variance").reshape(shape) + a.number("epsilon", 1e-5))
    return affine(a, (x - a.tensor("mean").reshape(shape)) / deviation, shape)


def instance_norm(a: Arguments) -> Tensor:
    """X (n, C, *size), standardised per picture and channel, times gamma plus beta."""
    x = a.tensor("x")
    axes = list(range(2, x.dim()))
    return affine(a, standardised(x, axes, a.number("epsilon", 1e-5)), [1, -1] + [1] * len(axes))


def layer_norm(a: Arguments) -> Tensor:
    """X, standardised over the axes, times gamma plus beta of the axes' shape."""
    x = a.tensor("x")
    axes = [axis % x.dim() for axis in a.ints("axes", range(x.dim()))]
    shape = [size if i in axes else 1 for i, size in enumerate(x.shape)]
    return affine(a, standardised(x, axes, a.number("epsilon", 1e-5)), shape)


OPS: dict[str, Callable[[Arguments], Tensor | Value]] = {
    "conv": conv,
    "linear": linear,
    "matmul": matmul,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
}
