"""The semantic branch of the panoptic extension: which stuff, or none of it, each pixel belongs to.

Reference: Kirillov et al., Panoptic Feature Pyramid Networks (CVPR 2019), section 3 and figure 3, on the pyramid of
SOLOv2 (paper section 4.4, panoptic segmentation).
"""

from __future__ import annotations

from torch import Tensor, nn

from solov2_edge.layers import ConvNormReLU, resize
from solov2_edge.spec import ModelSpec

__all__ = ["SemanticBranch"]


class SemanticBranch(nn.Module):
    """P2..P5 each brought to 1/4 scale by (3x3 convolution, GroupNorm, ReLU, x2 bilinear) steps, summed, then 1x1.

    P2 is there already: one convolution without enlarging. The channels are the spec's stuff in order, then "other",
    which stands for every thing. Width and groups are those of the mask feature branch (128 and 32 in the light models,
    128 in Panoptic-FPN). Parameter names are those of mmdetection's PanopticFPNHead:
    ``conv_upsample_layers.{l}.conv.{j}.{conv,gn}`` and ``conv_logits``.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv_upsample_layers = nn.ModuleList()
        for level in range(4):
            steps = nn.Module()
            steps.conv = nn.ModuleList(
                ConvNormReLU(spec.pyramid_width if step == 0 else spec.mask_width, spec.mask_width, spec.norm_groups)
                for step in range(max(level, 1))
            )
            self.conv_upsample_layers.append(steps)
        self.conv_logits = nn.Conv2d(spec.mask_width, len(spec.stuff_names) + 1, 1)
        nn.init.normal_(self.conv_logits.weight, std=0.01)
        nn.init.zeros_(self.conv_logits.bias)  # type: ignore[arg-type]  # Conv2d's bias is typed optional; it is on

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Map P2..P5 (n, pyramid_width, H / s, W / s) to logits (n, stuff + 1, H / 4, W / 4), before the softmax."""
        levels = []
        for level, (steps, x) in enumerate(zip(self.conv_upsample_layers, pyramid, strict=True)):
            for convolution in steps.get_submodule("conv").children():
                x = convolution(x)
                if level > 0:
                    x = resize(x, x.shape[-2] * 2, x.shape[-1] * 2)
            levels.append(x)
        total = levels[0] + levels[1] + levels[2] + levels[3]
        logits: Tensor = self.conv_logits(total)
        return logits
