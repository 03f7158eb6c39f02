"""Deformable convolution in exported graphs: as ONNX's ``DeformConv``, or lowered to operators every engine has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.deform import DeformConv2d, deform_conv2d, split_offset

__all__ = ["LoweredDeformConv2d", "NativeDeformConv2d", "replace_deform_convs", "translation_table"]

NATIVE_OPSET = 19  # the first with DeformConv


@torch.library.custom_op("solov2_edge::deform_conv2d", mutates_args=())
def deform_operator(
    images: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    modulation: Tensor | None,
    stride: int,
    padding: int,
    groups: int,
) -> Tensor:
    """Compute :func:`solov2_edge.deform.deform_conv2d` plus a bias (O,), as one operator the exporter can see."""
    return deform_conv2d(images, offset, weight, stride, padding, modulation, groups) + bias.view(1, -1, 1, 1)


@deform_operator.register_fake
def _(
    images: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    modulation: Tensor | None,
    stride: int,
    padding: int,
    groups: int,
) -> Tensor:
    return images.new_empty(images.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the exporter's translation of the operator above into ONNX ``DeformConv`` (opset 19 and later).

    ONNX takes the offsets in the same channel order (dy before dx, taps row-major), so nothing is rearranged.
    """
    from onnxscript import opset19

    def translate(
        images: Any, offset: Any, weight: Any, bias: Any, modulation: Any, stride: int, padding: int, groups: int
    ) -> Any:
        return opset19.DeformConv(
            images,
            weight,
            offset,
            bias,
            modulation,
            kernel_shape=[2 * padding + 1] * 2,  # every deformable convolution keeps the size at stride 1
            strides=[stride, stride],
            pads=[padding] * 4,
            group=groups,
        )

    return {torch.ops.solov2_edge.deform_conv2d.default: translate}


class _ExportedDeformConv2d(nn.Module):
    """A deformable convolution with the weights of ``source`` and a bias, which batch norm folding fills."""

    def __init__(self, source: DeformConv2d) -> None:
        super().__init__()
        self.flavour, self.stride, self.padding = source.flavour, source.stride, source.padding
        self.groups, self.side = source.groups, source.weight.shape[-1]
        self.conv_offset = source.conv_offset
        self.weight = nn.Parameter(source.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(self.weight.shape[0]), requires_grad=False)


class NativeDeformConv2d(_ExportedDeformConv2d):
    """One ``DeformConv`` node."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, O, H / stride, W / stride)."""
        offset, modulation = split_offset(self.conv_offset(images), self.flavour)
        out: Tensor = deform_operator(
            images, offset, self.weight, self.bias, modulation, self.stride, self.padding, self.groups
        )
        return out


class LoweredDeformConv2d(_ExportedDeformConv2d):
    """Portable operators: one ``GridSample`` of all taps, then a 1x1 convolution over channels x taps.

    The offset convolution's rows are reordered to dx before dy, GridSample's order, and its bias takes the taps' own
    positions, so that only a scale, a shift and a transposition stand between it and the sampling. In ONNX Runtime on
    the CPU this took 1.0 to 1.4 times as long as ``DeformConv``; four gathers and a matrix product took 1.2 to 3.2
    times as long.
    """

    def __init__(self, source: DeformConv2d) -> None:
        super().__init__(source)
        side, count = self.side, self.side**2
        order = torch.arange(2 * count).view(count, 2).flip(1).flatten()
        rows = torch.cat([order, torch.arange(2 * count, source.conv_offset.weight.shape[0])])
        taps = torch.tensor([[tap % side, tap // side] for tap in range(count)], dtype=torch.float32).flatten()
        self.weight.data = self.weight.data.reshape(self.weight.shape[0], -1, 1, 1)
        self.conv_offset = copy.deepcopy(source.conv_offset)
        assert self.conv_offset.bias is not None  # offset convolutions have one
        self.conv_offset.weight.data = self.conv_offset.weight.data[rows]
        self.conv_offset.bias.data = self.conv_offset.bias.data[rows]
        self.conv_offset.bias.data[: 2 * count] += taps

    def forward(self, images: Tensor) -> Tensor:
        """Map (1, C, H, W) to (1, O, H / stride, W / stride)."""
        offset, modulation = split_offset(self.conv_offset(images), self.flavour)
        _, channels, height, width = images.shape
        out_height, out_width = offset.shape[-2:]
        count = self.side**2
        rows = count * out_height
        # GridSample counts from -1 to 1 between the outer edges of the border pixels (align_corners False).
        scale = torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)
        x = torch.arange(out_width) * self.stride - self.padding
        y = torch.arange(out_height) * self.stride - self.padding
        x = ((x + 0.5) * (2 / width) - 1).expand(out_height, out_width)
        y = ((y + 0.5) * (2 / height) - 1)[:, None].expand(out_height, out_width)
        positions = offset.reshape(count, 2, out_height, out_width) * scale + torch.stack([x, y])
        grid = positions.permute(0, 2, 3, 1).reshape(1, rows, out_width, 2)
        samples = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        if modulation is not None:
            samples = samples * modulation.reshape(1, 1, rows, out_width)
        columns = samples.reshape(1, channels * count, out_height, out_width)
        return functional.conv2d(columns, self.weight, self.bias, groups=self.groups)


def replace_deform_convs(network: nn.Module, lowering: str) -> int:
    """Replace every :class:`DeformConv2d` of ``network``, a copy the caller owns, and return how many there were.

    Args:
        network: any module holding deformable convolutions.
        lowering: ``"native"`` or ``"lowered"``.
    """
    exported = NativeDeformConv2d if lowering == "native" else LoweredDeformConv2d
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, DeformConv2d)]
    for name, module in found:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, exported(module))
    return len(found)
