"""GroupNorm in operators that TFLite runs fast, that keep to rank 4 and that stay accurate when weights are int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ChannelwiseGroupNorm", "group_norm", "normalised"]


def normalised(rows: Any, scale: Any, shift: Any, eps: float, rsqrt: Callable[[Any], Any]) -> Any:
    """Normalise per group of channels, from statistics of single channels that are then gathered per group.

    With m_c and v_c the mean and the variance of channel c over the map, a group's mean is m = mean(m_c) and its
    variance mean(v_c + (m_c - m)^2), exactly. Only two means, a difference, a square, a product and a sum run over the
    whole map, all with (1, 1, 1, C) operands that need no broadcasting to be written out; everything else works on C
    numbers as (1, 1, groups, C / groups). Group means written as a 1x1 convolution would be quantised with the
    weights, and dynamic int8 makes noise of them.

    One formula for PyTorch and for JAX, through which the converter takes it.

    Args:
        rows: (1, H, W, C), a tensor or JAX's.
        scale: (1, 1, groups, C / groups), likewise.
        shift: the same.
        eps: added to the variance.
        rsqrt: the library's reciprocal square root.
    """
    flat, grouped = (1, 1, 1, rows.shape[3]), tuple(scale.shape)
    means = rows.mean(axis=(1, 2), keepdims=True)
    centred = rows - means
    variances = (centred * centred).mean(axis=(1, 2), keepdims=True).reshape(grouped)
    means = means.reshape(grouped)
    mean = means.mean(axis=3, keepdims=True)
    apart = means - mean
    variance = (variances + apart * apart).mean(axis=3, keepdims=True)
    factor = rsqrt(variance + eps) * scale
    return rows * factor.reshape(flat) + (shift - mean * factor).reshape(flat)


@torch.library.custom_op("solov2_edge::group_norm", mutates_args=())
def _group_norm(rows: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    result: Tensor = normalised(rows, scale, shift, eps, torch.rsqrt)
    return result


@_group_norm.register_fake
def _(rows: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return torch.empty_like(rows, memory_format=torch.contiguous_format)


# One operator until the last step: taken apart at once, the 28 of a network double the time its conversion takes.
group_norm = torch.ops.solov2_edge.group_norm.default


class ChannelwiseGroupNorm(nn.Module):
    """GroupNorm by :func:`normalised`."""

    def __init__(self, source: nn.GroupNorm) -> None:
        super().__init__()
        self.eps = source.eps
        shape = (1, 1, source.num_groups, source.num_channels // source.num_groups)
        self.scale = nn.Parameter(source.weight.detach().clone().view(shape), requires_grad=False)
        self.shift = nn.Parameter(source.bias.detach().clone().view(shape), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (1, C, H, W)."""
        rows: Tensor = group_norm(x.permute(0, 2, 3, 1), self.scale, self.shift, self.eps)
        return rows.permute(0, 3, 1, 2)
