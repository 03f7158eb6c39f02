"""The SOLOv2 head: class logits and dynamic kernels for every grid cell of every level (paper section 3.2.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from solov2_edge.layers import ConvNormReLU, append_coordinates, resize
from solov2_edge.mask_feature import MaskFeatureHead, SeparateMaskFeatureHead
from solov2_edge.spec import ModelSpec

__all__ = ["SOLOv2Head"]

PRIOR = 0.01  # probability every class starts with (Lin et al., Focal Loss, section 4.1)


class SOLOv2Head(nn.Module):
    """Class tower, kernel tower and mask feature branch; tower weights are shared by all levels."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.grids = spec.grids
        self.kernel_coordinates = spec.kernel_coordinates
        self.separate = spec.mask_features == "separate"
        self.cls_convs = self._tower(spec, spec.pyramid_width)
        # The two coordinate channels are the kernel tower's alone.
        self.kernel_convs = self._tower(spec, spec.pyramid_width + 2 * spec.kernel_coordinates)
        self.conv_cls = _output(spec.tower_width, spec.num_classes, bias=-math.log((1 - PRIOR) / PRIOR))
        self.conv_kernel = _output(spec.tower_width, spec.kernel_length, bias=0.0)
        branch = SeparateMaskFeatureHead if self.separate else MaskFeatureHead
        self.mask_feature_head: MaskFeatureHead | SeparateMaskFeatureHead = branch(spec)

    @staticmethod
    def _tower(spec: ModelSpec, in_channels: int) -> nn.ModuleList:
        """Build one tower; in the authors' light code only its last convolution is deformable, in the full one all."""
        first = 0 if spec.tower_dcn_convs == "all" else spec.tower_depth - 1
        return nn.ModuleList(
            ConvNormReLU(
                in_channels if i == 0 else spec.tower_width,
                spec.tower_width,
                spec.norm_groups,
                dcn=spec.tower_dcn if i >= first else "none",
            )
            for i in range(spec.tower_depth)
        )

    def forward(self, pyramid: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map P2..P6 to class logits (n, cells, classes), kernels (n, cells, E), mask features (n, E, H/4, W/4).

        Cells: levels in order, row-major inside a level. For 3x3 kernels and separate mask features see
        ``ModelSpec.kernel_length`` and ``ModelSpec.feature_channels``.
        """
        p2, p3, p4, p5, p6 = pyramid
        levels = (
            resize(p2, p2.shape[-2] // 2, p2.shape[-1] // 2),  # at a factor of 2: the mean of 2x2 blocks
            p3,
            p4,
            p5,
            resize(p6, p5.shape[-2], p5.shape[-1]),
        )
        logits, kernels = [], []
        for level, grid in zip(levels, self.grids, strict=True):
            # Coordinates are made at the level map's own size, before it is resized to the grid.
            x = resize(append_coordinates(level), grid, grid)
            class_x = x[:, :-2]
            kernel_x = x if self.kernel_coordinates else class_x
            for conv in self.kernel_convs:
                kernel_x = conv(kernel_x)
            for conv in self.cls_convs:
                class_x = conv(class_x)
            kernels.append(self.conv_kernel(kernel_x).flatten(2))
            logits.append(self.conv_cls(class_x).flatten(2))
        features = self.mask_feature_head(levels if self.separate else (p2, p3, p4, p5))
        return torch.cat(logits, 2).transpose(1, 2), torch.cat(kernels, 2).transpose(1, 2), features


def _output(in_channels: int, out_channels: int, bias: float) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]  # Conv2d's bias is typed optional; it is on
    return conv
