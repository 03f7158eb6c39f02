"""The unified mask feature branch (paper section 3.2.2): one map of E channels at a quarter of the input."""

from __future__ import annotations

from torch import Tensor, nn

from solov2_edge.layers import ConvNormReLU, append_coordinates, resize

__all__ = ["MaskFeatureHead"]


class MaskFeatureHead(nn.Module):
    """P2..P5 each brought to 1/4 scale by (convolution, x2 bilinear) steps, summed, then a 1x1 convolution.

    P5 gets coordinates before its first convolution. Parameter names are mmdetection's:
    ``convs_all_levels.{l}.conv{j}.{conv,gn}`` and ``conv_pred.{conv,gn}``.
    """

    def __init__(self, pyramid_width: int, width: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.convs_all_levels = nn.ModuleList()
        for level in range(4):
            steps = nn.Module()
            for step in range(max(level, 1)):
                # The coordinates of the coarsest level are two more input channels of its first convolution.
                channels = pyramid_width + 2 * (level == 3) if step == 0 else width
                steps.add_module(f"conv{step}", ConvNormReLU(channels, width, groups))
            self.convs_all_levels.append(steps)
        self.conv_pred = ConvNormReLU(width, out_channels, groups, kernel_size=1)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Map P2..P5 (n, pyramid_width, H / s, W / s) to mask features (n, E, H / 4, W / 4), non-negative."""
        total = None
        for level, (steps, x) in enumerate(zip(self.convs_all_levels, pyramid, strict=True)):
            if level == 3:
                x = append_coordinates(x)
            for step in range(max(level, 1)):
                x = steps.get_submodule(f"conv{step}")(x)
                if level > 0:
                    x = resize(x, x.shape[-2] * 2, x.shape[-1] * 2)
            total = x if total is None else total + x
        features: Tensor = self.conv_pred(total)
        return features
