"""The network as Core ML wants it: planes in, normalisation in the graph, group norms that float16 cannot overflow."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from solov2_edge.converters.traceable import InstanceFormGroupNorm, Traceable
from solov2_edge.manifest import InputContract
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.session import RawOutputs

__all__ = ["GUARD", "CoremlNetwork", "GuardedGroupNorm"]

# Squares of float16 numbers overflow beyond 255; those of a sixteenth of them do not below 4095. A power of two, so
# that nothing is rounded.
GUARD = 1 / 16


class GuardedGroupNorm(InstanceFormGroupNorm):
    """GroupNorm in instance form of :data:`GUARD` times the input: equal, with eps times the guard's square."""

    def __init__(self, source: nn.GroupNorm) -> None:
        super().__init__(source)
        self.eps = source.eps * GUARD**2

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, H, W) per picture and group of channels."""
        return super().forward(x * GUARD)


class CoremlNetwork(Traceable):
    """:class:`Traceable` with Core ML's input: (1, 3, H, W) float32, of an image the RGB planes 0..255.

    Core ML makes the planes of an image input from a pixel buffer itself. For a network that takes BGR the first
    convolution's input channels are put into RGB order, which costs nothing at run time.
    """

    group_norm: ClassVar = GuardedGroupNorm

    def __init__(self, model: SOLOv2, contract: InputContract) -> None:
        super().__init__(model, contract, lowering="lowered")
        if contract.kind == "image" and self.spec.channel_order == "bgr":
            first = self.network.backbone.conv1
            assert isinstance(first, nn.Conv2d)  # both stems begin with one
            first.weight.data = first.weight.data.flip(1)
            self.mean, self.std = self.get_buffer("mean").flip(1), self.get_buffer("std").flip(1)

    def normalise(self, image: Tensor) -> Tensor:
        """Return the normalised planes of what the contract takes, both (1, 3, H, W)."""
        if self.contract.kind == "tensor":
            return image
        return (image - self.get_buffer("mean")) / self.get_buffer("std")

    def run(self, batch: NDArray[Any]) -> RawOutputs:
        """Run on the contract's batch in PyTorch: (1, H, W, 3) uint8 RGB or (1, 3, H, W) float32."""
        if self.contract.kind == "image":
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)
        return super().run(batch)
