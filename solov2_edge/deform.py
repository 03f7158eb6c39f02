"""Deformable convolution, v1 and v2, in plain PyTorch.

References: Dai et al., Deformable Convolutional Networks (ICCV 2017) for v1; Zhu et al., Deformable ConvNets v2
(CVPR 2019) for the modulation. Channel layout and sampling as in mmcv's operator, which the published weights use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PER_TAP", "DeformConv2d", "conv3x3", "deform_conv2d", "split_offset"]

KERNEL = 3  # side of the family's deformable convolutions, but for the 1x1 that ends a deformable mask feature branch
PER_TAP = {"v1": 2, "v2": 3}  # offset channels per tap of the kernel: dy, dx and, in v2, modulation


def deform_conv2d(
    images: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    modulation: Tensor | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolve with each tap of the kernel moved by its own offset; no bias, dilation 1, one deformable group.

    Tap t samples at ``stride * out - padding + (t // k, t % k) + (dy, dx)``, bilinearly, each neighbour outside the
    image counting 0.

    Args:
        images: (n, C, H, W) float.
        offset: (n, 2 k^2, oh, ow) float, in input pixels; channel 2t is dy and 2t + 1 is dx of tap t, taps row-major.
        weight: (O, C / groups, k, k) float.
        stride: step of the output grid in input pixels.
        padding: zero border in input pixels.
        modulation: (n, k^2, oh, ow) in [0, 1], a factor per tap (v2), or None (v1).
        groups: of the convolution itself; all share the offsets.

    Returns:
        (n, O, oh, ow) float.
    """
    n, channels, height, width = images.shape
    out_h, out_w = offset.shape[-2:]
    side = weight.shape[-1]
    count = side * side
    taps = torch.arange(count, device=images.device)
    rows = torch.arange(out_h, device=images.device) * stride - padding
    cols = torch.arange(out_w, device=images.device) * stride - padding
    base_y = rows[None, :, None] + (taps // side)[:, None, None]  # (k^2, oh, 1)
    base_x = cols[None, None, :] + (taps % side)[:, None, None]  # (k^2, 1, ow)
    shifts = offset.reshape(n, count, 2, out_h, out_w)
    y = shifts[:, :, 0] + base_y
    x = shifts[:, :, 1] + base_x  # (n, k^2, oh, ow)

    flat = images.flatten(2)  # (n, C, H * W)
    top, left = y.floor(), x.floor()
    below, right = y - top, x - left
    columns: Tensor | None = None
    # Corners and products in mmcv's order, so that float32 rounds alike.
    for corner_y, weight_y in ((top, 1 - below), (top + 1, below)):
        for corner_x, weight_x in ((left, 1 - right), (left + 1, right)):
            inside = (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
            factor = weight_y * weight_x * inside
            index = corner_y.clamp(0, height - 1) * width + corner_x.clamp(0, width - 1)
            index = index.long().reshape(n, 1, -1).expand(-1, channels, -1)
            part = flat.gather(2, index) * factor.reshape(n, 1, -1)
            columns = part if columns is None else columns + part
    assert columns is not None  # the loops above run four times; this is for the type checker
    columns = columns.reshape(n, channels, count, out_h, out_w)
    if modulation is not None:
        columns = columns * modulation.reshape(n, 1, count, out_h, out_w)
    # As a 1x1 convolution over (channel, tap) the sum rounds as in the recorded runs of mmdetection; a plain matrix
    # product differs in the last bits, which a dozen deformable layers amplify a hundredfold.
    return functional.conv2d(columns.flatten(1, 2), weight.reshape(weight.shape[0], -1, 1, 1), groups=groups)


def split_offset(predicted: Tensor, flavour: str) -> tuple[Tensor, Tensor | None]:
    """Split the offset convolution's output into offsets (n, 2 k^2, oh, ow) and modulation (n, k^2, oh, ow) or None.

    The first channels are offsets in both flavours; v2's last third passes a sigmoid, without a factor 2.
    """
    if flavour == "v1":
        return predicted, None
    offsets = predicted.shape[1] // PER_TAP["v2"] * 2
    return predicted[:, :offsets], predicted[:, offsets:].sigmoid()


class DeformConv2d(nn.Module):
    """A deformable convolution without bias that keeps the size; offsets come from its child ``conv_offset``.

    Parameter names are mmdetection's: ``weight``, ``conv_offset.weight`` (at 3x3 18 rows for v1, 27 for v2) and
    ``conv_offset.bias``. The offset convolution has the same kernel size, as in mmcv, but no groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        flavour: str = "v1",
        kernel_size: int = KERNEL,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.flavour = flavour
        self.stride = stride
        self.padding = kernel_size // 2
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        rows = PER_TAP[flavour] * kernel_size**2
        self.conv_offset = nn.Conv2d(in_channels, rows, kernel_size, stride, padding=self.padding)
        # Zero offsets make a fresh layer an ordinary convolution.
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed optional; it is on

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, O, H / stride, W / stride)."""
        offset, modulation = split_offset(self.conv_offset(images), self.flavour)
        return deform_conv2d(images, offset, self.weight, self.stride, self.padding, modulation, self.groups)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, dcn: str = "none", groups: int = 1) -> nn.Module:
    """Return a bias-free 3x3 convolution of padding 1, deformable unless ``dcn`` is ``"none"``."""
    if dcn == "none":
        return nn.Conv2d(in_channels, out_channels, KERNEL, stride, padding=1, groups=groups, bias=False)
    return DeformConv2d(in_channels, out_channels, stride, dcn, groups=groups)
