"""The mask feature branch: one map for all levels (paper section 3.2.2), or one for each (Table 3d)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solov2_edge.layers import ConvNormReLU, append_coordinates, resize
from solov2_edge.spec import ModelSpec

__all__ = ["MaskFeatureHead", "SeparateMaskFeatureHead"]

SEPARATE_DEPTH = 7  # 3x3 convolutions, as in SOLO's mask branch


class MaskFeatureHead(nn.Module):
    """P2..P5 each brought to 1/4 scale by (convolution, x2 bilinear) steps, summed, then a 1x1 convolution.

    P5 gets coordinates before its first convolution unless the spec leaves them out. Parameter names are
    mmdetection's: ``convs_all_levels.{l}.conv{j}.{conv,gn}`` and ``conv_pred.{conv,gn}``.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width, groups, dcn = spec.mask_width, spec.norm_groups, spec.mask_dcn
        self.coordinates = spec.feature_coordinates
        self.convs_all_levels = nn.ModuleList()
        for level in range(4):
            steps = nn.Module()
            for step in range(max(level, 1)):
                # The coordinates of the coarsest level are two more input channels of its first convolution.
                channels = spec.pyramid_width + 2 * (level == 3 and self.coordinates) if step == 0 else width
                steps.add_module(f"conv{step}", ConvNormReLU(channels, width, groups, dcn=dcn))
            self.convs_all_levels.append(steps)
        self.conv_pred = ConvNormReLU(width, spec.mask_channels, groups, kernel_size=1, dcn=dcn)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Map P2..P5 (n, pyramid_width, H / s, W / s) to mask features (n, E, H / 4, W / 4), non-negative."""
        total = None
        for level, (steps, x) in enumerate(zip(self.convs_all_levels, pyramid, strict=True)):
            if level == 3 and self.coordinates:
                x = append_coordinates(x)
            for step in range(max(level, 1)):
                x = steps.get_submodule(f"conv{step}")(x)
                if level > 0:
                    x = resize(x, x.shape[-2] * 2, x.shape[-1] * 2)
            total = x if total is None else total + x
        features: Tensor = self.conv_pred(total)
        return features


class SeparateMaskFeatureHead(nn.Module):
    """Mask features for each level of the head on its own (paper section 4.2, Table 3d), as SOLO predicts masks.

    Seven 3x3 convolutions with weights shared by all levels, on the level's map with coordinates, x2 bilinear and a
    1x1 convolution; so a coarse level has coarse masks. Each level's E channels are then brought to 1/4 scale, which
    a kernel commutes with, and the levels follow one another in the channels.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.coordinates = spec.feature_coordinates
        first = spec.pyramid_width + 2 * self.coordinates
        self.convs = nn.ModuleList(
            ConvNormReLU(first if i == 0 else spec.mask_width, spec.mask_width, spec.norm_groups)
            for i in range(SEPARATE_DEPTH)
        )
        self.conv_pred = ConvNormReLU(spec.mask_width, spec.mask_channels, spec.norm_groups, kernel_size=1)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Map the head's levels (n, pyramid_width, H / s, W / s), s = 8, 8, 16, 32, 32, to (n, 5 E, H / 4, W / 4)."""
        height, width = (2 * side for side in levels[0].shape[-2:])
        features = []
        for x in levels:
            if self.coordinates:
                x = append_coordinates(x)
            for conv in self.convs:
                x = conv(x)
            x = self.conv_pred(resize(x, x.shape[-2] * 2, x.shape[-1] * 2))
            features.append(resize(x, height, width))
        return torch.cat(features, 1)
