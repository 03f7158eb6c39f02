"""SOLOv2 as one module built from a ModelSpec; parameter names are mmdetection 3's."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from solov2_edge.backbone import Backbone
from solov2_edge.errors import require
from solov2_edge.fpn import FPN
from solov2_edge.head import SOLOv2Head
from solov2_edge.spec import ModelSpec

__all__ = ["HeadOutputs", "SOLOv2"]


class HeadOutputs(NamedTuple):
    """What the network returns for a batch.

    Attributes:
        class_logits: (n, cells, classes) float, before the sigmoid and before points NMS.
        kernels: (n, cells, E) float, rows as in ``class_logits``: levels in order, cells row-major.
        mask_features: (n, E, H / 4, W / 4) float, non-negative.
    """

    class_logits: Tensor
    kernels: Tensor
    mask_features: Tensor


class SOLOv2(nn.Module):
    """Backbone, feature pyramid and head; nothing of decoding is in here.

    Args:
        spec: the member of the family to build; weights are freshly initialised.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec.backbone)
        self.neck = FPN(spec.backbone.out_channels, spec.pyramid_width)
        self.mask_head = SOLOv2Head(spec)

    def forward(self, images: Tensor) -> HeadOutputs:
        """Run the network.

        Args:
            images: (n, 3, H, W) float, normalised, in the spec's channel order; H and W multiples of 32.

        Raises:
            InputError: a side is not a multiple of 32.
        """
        height, width = images.shape[-2:]
        require(
            height % 32 == 0 and width % 32 == 0,
            f"images must be padded to multiples of 32, got {height} x {width} (H x W)",
        )
        return HeadOutputs(*self.mask_head(self.neck(self.backbone(images))))
