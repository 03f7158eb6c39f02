"""GroupNorm in operators that TFLite runs fast, that keep to rank 4 and that stay accurate when weights are int8."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ChannelwiseGroupNorm"]


class ChannelwiseGroupNorm(nn.Module):
    """GroupNorm from statistics of single channels, which are then gathered per group.

    With m_c and v_c the mean and the variance of channel c over the map, a group's mean is m = mean(m_c) and its
    variance mean(v_c + (m_c - m)^2), exactly. Only two means, one difference, one square, one product and one sum run
    over the whole map, all with (1, 1, 1, C) operands that need no broadcasting to be written out; everything else
    works on C numbers as (1, 1, groups, C / groups). Group means written as a 1x1 convolution would be quantised with
    the weights, and dynamic int8 makes noise of them.
    """

    def __init__(self, source: nn.GroupNorm) -> None:
        super().__init__()
        self.eps = source.eps
        shape = (1, 1, source.num_groups, source.num_channels // source.num_groups)
        self.scale = nn.Parameter(source.weight.detach().clone().view(shape), requires_grad=False)
        self.shift = nn.Parameter(source.bias.detach().clone().view(shape), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (1, C, H, W) per group of channels."""
        rows = x.permute(0, 2, 3, 1)
        flat, grouped = (1, 1, 1, rows.shape[3]), self.scale.shape
        means = rows.mean((1, 2), keepdim=True)
        centred = rows - means
        variances = (centred * centred).mean((1, 2), keepdim=True).reshape(grouped)
        means = means.reshape(grouped)
        mean = means.mean(3, keepdim=True)
        apart = means - mean
        variance = (variances + apart * apart).mean(3, keepdim=True)
        factor = torch.rsqrt(variance + self.eps) * self.scale
        normal = rows * factor.reshape(flat) + (self.shift - mean * factor).reshape(flat)
        return normal.permute(0, 3, 1, 2)
