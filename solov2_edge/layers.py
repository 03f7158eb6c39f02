"""What the head and the mask feature branch share: normalised convolutions, coordinates, bilinear resizing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.deform import DeformConv2d, conv3x3

__all__ = ["ConvNormReLU", "append_coordinates", "resize"]


class ConvNormReLU(nn.Module):
    """Bias-free convolution, GroupNorm (eps 1e-5), ReLU; parameter names ``conv.*`` and ``gn.*``."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, kernel_size: int = 3, dcn: str = "none"):
        super().__init__()
        if kernel_size == 3:
            self.conv = conv3x3(in_channels, out_channels, dcn=dcn)
        elif dcn == "none":
            self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        else:
            self.conv = DeformConv2d(in_channels, out_channels, flavour=dcn, kernel_size=1)
        nn.init.normal_(self.conv.weight, std=0.01)  # type: ignore[arg-type]  # both kinds hold a Parameter here
        self.gn = nn.GroupNorm(groups, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to non-negative (n, O, H, W)."""
        return torch.relu(self.gn(self.conv(x)))


def append_coordinates(x: Tensor) -> Tensor:
    """Append two channels to (n, C, H, W): x then y, each linspace(-1, 1) over the map's own width and height.

    The paper's CoordConv (section 3.2.1); ends included, x first, as in the authors' code.
    """
    n, _, height, width = x.shape
    xs = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype)
    ys = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
    grid_x = xs.view(1, 1, 1, width).expand(n, 1, height, width)
    grid_y = ys.view(1, 1, height, 1).expand(n, 1, height, width)
    return torch.cat([x, grid_x, grid_y], dim=1)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Resize (n, C, H, W) to (n, C, height, width): bilinear, half-pixel centres, no antialiasing."""
    if tuple(x.shape[-2:]) == (height, width):
        return x
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
