"""SOLOv2 as one module built from a ModelSpec; parameter names are mmdetection 3's."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from solov2_edge.backbone import Backbone
from solov2_edge.errors import require
from solov2_edge.fpn import FPN
from solov2_edge.head import SOLOv2Head
from solov2_edge.semantic import SemanticBranch
from solov2_edge.spec import ModelSpec

__all__ = ["HeadOutputs", "PanopticOutputs", "SOLOv2"]


class HeadOutputs(NamedTuple):
    """What the network returns for a batch.

    Attributes:
        class_logits: (n, cells, classes) float, before the sigmoid and before points NMS.
        kernels: (n, cells, E) float, rows as in ``class_logits``: levels in order, cells row-major. 9 E for 3x3
            kernels, see ``ModelSpec.kernel_length``.
        mask_features: (n, E, H / 4, W / 4) float, non-negative. 5 E where each level has its own, see
            ``ModelSpec.feature_channels``.
    """

    class_logits: Tensor
    kernels: Tensor
    mask_features: Tensor


class PanopticOutputs(NamedTuple):
    """What a network with stuff returns for a batch; the first three as in :class:`HeadOutputs`.

    Attributes:
        semantic_logits: (n, stuff + 1, H / 4, W / 4) float, before the softmax: the spec's stuff, then "other".
    """

    class_logits: Tensor
    kernels: Tensor
    mask_features: Tensor
    semantic_logits: Tensor


class SOLOv2(nn.Module):
    """Backbone, feature pyramid, head and, where there is stuff, a semantic branch; nothing of decoding is in here.

    Args:
        spec: the member of the family to build; weights are freshly initialised.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec.backbone)
        self.neck = FPN(spec.backbone.out_channels, spec.pyramid_width)
        self.mask_head = SOLOv2Head(spec)
        # Drawn last, so that a network without stuff draws the weights it always drew.
        self.semantic_head = SemanticBranch(spec) if spec.stuff_names else None

    def forward(self, images: Tensor) -> HeadOutputs | PanopticOutputs:
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
        pyramid = self.neck(self.backbone(images))
        if self.semantic_head is None:
            return HeadOutputs(*self.mask_head(pyramid))
        class_logits, kernels, features = self.mask_head(pyramid)
        return PanopticOutputs(class_logits, kernels, features, self.semantic_head(pyramid[:4]))
