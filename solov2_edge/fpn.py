"""The feature pyramid: P2..P6 from C2..C5.

Reference: Lin et al., Feature Pyramid Networks (CVPR 2017), as mmdetection configures it for SOLOv2: biases, no
norm, no activation, nearest upsampling, P6 by subsampling P5.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FPN"]


class ConvOnly(nn.Module):
    """A convolution under the name ``conv``, as mmcv's ConvModule stores it."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed optional; it is on

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, O, H, W)."""
        out: Tensor = self.conv(x)
        return out


class FPN(nn.Module):
    """1x1 laterals, top-down sums, 3x3 outputs."""

    def __init__(self, in_channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvOnly(channels, width, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(ConvOnly(width, width, 3) for _ in in_channels)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Map C2..C5 to P2..P6, each (n, width, H / s, W / s) for s = 4, 8, 16, 32, 64 (P6 rounds up)."""
        laterals = [conv(c) for conv, c in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            height, width = laterals[i - 1].shape[-2:]
            up = functional.interpolate(laterals[i], size=(height, width), mode="nearest")
            laterals[i - 1] = laterals[i - 1] + up
        p2, p3, p4, p5 = (conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True))
        return p2, p3, p4, p5, functional.max_pool2d(p5, 1, stride=2)
