"""The residual backbone: C2..C5 at 1/4, 1/8, 1/16, 1/32 of the input.

Reference: He et al., Deep Residual Learning (CVPR 2016), with torchvision's layout: batch norm eps 1e-5 and a
bottleneck's stride on its 3x3. Parameter names are torchvision's and mmdetection's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solov2_edge.deform import conv3x3
from solov2_edge.spec import BackboneSpec

__all__ = ["Backbone"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (in groups, deformable on request), 1x1 with four times the width, and a shortcut.

    ``inner`` is the number of channels of the 3x3: the width, but for a ResNeXt.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, style: str, dcn: str, inner: int, groups: int
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, second, dcn, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, 4 * width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + shortcut)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return the 1x1 projection a block needs when its shape changes, else None."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class Backbone(nn.Module):
    """Stem and four stages.

    The stem ``conv7`` is ``conv1, bn1`` and a 3x3 stride-2 max pool; ``conv3x2`` is ``conv1, bn1, conv2, bn2``,
    two 3x3 stride-2 convolutions, the first with half the width.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.spec = spec
        if spec.stem == "conv7":
            self.conv1 = nn.Conv2d(3, spec.stem_width, 7, 2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(spec.stem_width)
            self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        else:
            half = spec.stem_width // 2
            self.conv1 = conv3x3(3, half, 2)  # type: ignore[assignment]  # either is a bias-free convolution
            self.bn1 = nn.BatchNorm2d(half)
            self.conv2 = conv3x3(half, spec.stem_width, 2)
            self.bn2 = nn.BatchNorm2d(spec.stem_width)
        channels = spec.stem_width
        for number, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), start=1):
            stage = self._stage(number, depth, channels, width)
            self.add_module(f"layer{number}", stage)
            channels = spec.out_channels[number - 1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, number: int, depth: int, in_channels: int, width: int) -> nn.Sequential:
        """Build stage 1..4; its first block carries the stride, stages 2-4 carry the DCN."""
        blocks: list[nn.Module] = []
        for index in range(depth):
            stride = 2 if index == 0 and number > 1 else 1
            if self.spec.block == "basic":
                blocks.append(BasicBlock(in_channels, width, stride))
                in_channels = width
            else:
                dcn = self.spec.dcn if number > 1 else "none"
                inner, groups = self.spec.inner_widths[number - 1], self.spec.groups
                blocks.append(Bottleneck(in_channels, width, stride, self.spec.style, dcn, inner, groups))
                in_channels = width * Bottleneck.expansion
        return nn.Sequential(*blocks)

    def stages(self) -> list[nn.Module]:
        """Return stages 1..4 in order."""
        return [self.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map normalised images (n, 3, H, W), H and W multiples of 32, to C2..C5.

        Returns:
            Four maps (n, C, H / s, W / s) for s = 4, 8, 16, 32.
        """
        x = torch.relu(self.bn1(self.conv1(images)))
        x = self.maxpool(x) if self.spec.stem == "conv7" else torch.relu(self.bn2(self.conv2(x)))
        maps = []
        for stage in self.stages():
            x = stage(x)
            maps.append(x)
        c2, c3, c4, c5 = maps
        return c2, c3, c4, c5
