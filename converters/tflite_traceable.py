"""The network as TFLite wants it: group norms, deformable convolutions and cells with the channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solov2_edge.converters.tflite_deform import GatheredDeformConv2d
from solov2_edge.converters.tflite_norm import ChannelwiseGroupNorm
from solov2_edge.converters.traceable import Traceable, replace_modules
from solov2_edge.deform import DeformConv2d
from solov2_edge.layers import ConvNormReLU
from solov2_edge.manifest import OUTPUT_NAMES, InputContract
from solov2_edge.model import SOLOv2

__all__ = ["TfliteTraceable", "with_named_outputs"]


GUARD = 1 / 8  # a power of two, which float32 takes without rounding; eps stays within float16


class TfliteTraceable(Traceable):
    """A :class:`Traceable` whose maps can be stored with the channels last from the input to the outputs.

    The converter moves the layout: what is written here as (1, C, H, W) becomes (1, H, W, C), and a permutation to
    that order costs nothing.
    """

    lowerings = ("lowered",)
    group_norm = ChannelwiseGroupNorm

    def __init__(self, model: SOLOv2, contract: InputContract) -> None:
        super().__init__(model, contract, "lowered")
        for module in self.network.modules():
            if isinstance(module, ConvNormReLU):
                _guard_squares(module)

    def replace_deform_convs(self) -> int:
        """Replace the deformable convolutions of the copied network; return how many there were."""
        return replace_modules(self.network, DeformConv2d, GatheredDeformConv2d)

    def cells(self, maps: list[Tensor]) -> Tensor:
        """Return (cells, C) of the levels' (1, C, S, S) maps: levels in order, row-major inside a level."""
        return torch.cat([grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1]) for grid in maps])


def _guard_squares(module: ConvNormReLU) -> None:
    """Let convolution and group norm meet at a smaller scale; what comes out is the same to the last bit.

    Devices that compute in float16 overflow in the square of anything beyond 256, and the bundled network reaches 99.
    """
    module.conv.get_parameter("weight").data.mul_(GUARD)
    module.gn.eps *= GUARD**2


class _Named(nn.Module):
    def __init__(self, traceable: Traceable) -> None:
        super().__init__()
        self.traceable = traceable

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(OUTPUT_NAMES, self.traceable(image), strict=True))


def with_named_outputs(traceable: Traceable) -> nn.Module:
    """Return ``traceable`` as a module whose signature carries the names: ``image`` in, the contract's outputs out."""
    return _Named(traceable)
