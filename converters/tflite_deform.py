"""Deformable convolution in TFLite's own operators: four gathers of rows over all taps, then one 1x1 convolution.

Rank 4 at most, no custom operator. The feature map gets a border of zeros, so that samples outside need no masks:
positions are clamped to the border and find zeros there. Positions, their fractions and the indices must stay float32
and int32 whatever the artefact's precision: int8 knows 256 positions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.deform import DeformConv2d

__all__ = ["GatheredDeformConv2d", "add_border", "gather_rows"]


@torch.library.custom_op("solov2_edge::gather_rows", mutates_args=())
def _gather_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Return rows (m,) int32 of a table (n, C) as (m, C)."""
    return table.index_select(0, rows)


@_gather_rows.register_fake
def _(table: Tensor, rows: Tensor) -> Tensor:
    return table.new_empty(rows.shape[0], table.shape[1])


@torch.library.custom_op("solov2_edge::add_border", mutates_args=())
def _add_border(rows: Tensor) -> Tensor:
    """Return (1, H, W, C) with a border of zeros, (1, H + 2, W + 2, C)."""
    return functional.pad(rows, (0, 0, 1, 1, 1, 1))


@_add_border.register_fake
def _(rows: Tensor) -> Tensor:
    n, height, width, channels = rows.shape
    return rows.new_empty(n, height + 2, width + 2, channels)


# Operators the converter sees as one, and writes as one of TFLite's; see :mod:`~solov2_edge.converters.tflite_lower`.
gather_rows = torch.ops.solov2_edge.gather_rows.default
add_border = torch.ops.solov2_edge.add_border.default


class GatheredDeformConv2d(nn.Module):
    """A deformable convolution with the weights of ``source`` and a bias, which batch norm folding fills.

    The offset convolution's rows are reordered to all dy, all dx, all modulations, and its bias takes the taps' own
    positions, so that what it returns is a position but for the output pixel's.
    """

    def __init__(self, source: DeformConv2d) -> None:
        super().__init__()
        self.flavour, self.stride, self.padding = source.flavour, source.stride, source.padding
        side = source.weight.shape[-1]
        count = self.count = side * side
        # Rows of a gathered map hold (tap, channel).
        weight = _ungrouped(source).permute(0, 2, 3, 1).flatten(1)[:, :, None, None].contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(len(weight)), requires_grad=False)
        self.conv_offset = copy.deepcopy(source.conv_offset)
        assert self.conv_offset.bias is not None  # offset convolutions have one
        order = torch.arange(2 * count).view(count, 2).t().flatten()
        rows = torch.cat([order, torch.arange(2 * count, self.conv_offset.weight.shape[0])])
        taps = torch.arange(count)
        self.conv_offset.weight.data = self.conv_offset.weight.data[rows]
        self.conv_offset.bias.data = self.conv_offset.bias.data[rows]
        self.conv_offset.bias.data[: 2 * count] += torch.cat([taps // side, taps % side]) - self.padding

    def forward(self, images: Tensor) -> Tensor:
        """Map (1, C, H, W) to (1, O, H / stride, W / stride)."""
        _, channels, height, width = images.shape
        predicted = self.conv_offset(images).permute(0, 2, 3, 1)
        out_height, out_width = predicted.shape[1:3]
        count = self.count
        y = predicted[..., :count] + (torch.arange(out_height) * self.stride).float().view(1, -1, 1, 1)
        x = predicted[..., count : 2 * count] + (torch.arange(out_width) * self.stride).float().view(1, 1, -1, 1)
        y, top = _split(y, height)
        x, left = _split(x, width)
        # Row-major numbers of the pixels of a map with a border of one; float32 counts exactly to 2^24.
        stride = width + 2
        first = (top * stride + (left + (stride + 1))).reshape(-1).to(torch.int32)
        bordered = add_border(images.permute(0, 2, 3, 1)).reshape(-1, channels)
        modulation = predicted[..., 2 * count :].sigmoid() if self.flavour == "v2" else None
        samples: Tensor | None = None
        corners = ((0, (1 - y) * (1 - x)), (1, (1 - y) * x), (stride, y * (1 - x)), (stride + 1, y * x))
        for step, factor in corners:
            if modulation is not None:
                factor = factor * modulation
            part = gather_rows(bordered, first + step) * factor.reshape(-1, 1)
            samples = part if samples is None else samples + part
        assert samples is not None  # the loop above runs four times; this is for the type checker
        columns = samples.reshape(1, out_height, out_width, count * channels).permute(0, 3, 1, 2)
        return functional.conv2d(columns, self.weight, self.bias)


def _ungrouped(source: DeformConv2d) -> Tensor:
    """Return the weight as (O, C, k, k) of one group: 0 where a group does not look. TFLite's rows mix all channels."""
    weight = source.weight.detach()
    out_channels, per_group, side, _ = weight.shape
    whole = weight.new_zeros(out_channels, per_group * source.groups, side, side)
    rows = out_channels // source.groups
    for group in range(source.groups):
        own = slice(group * rows, (group + 1) * rows)
        whole[own, group * per_group : (group + 1) * per_group] = weight[own]
    return whole


def _split(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the fraction in [0, 1] and the integral part in [-1, size - 1] of positions along an axis of ``size``.

    A position before -1 or behind ``size`` has nothing but zeros around it, as the ends themselves do.
    """
    inside = position.clamp(-1, size)
    before = inside.floor().clamp(max=size - 1)
    return inside - before, before
