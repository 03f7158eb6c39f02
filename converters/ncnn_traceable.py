"""The network as ncnn takes it: a trunk that runs once a picture, and a head that runs once a level.

ncnn reads the weights of a layer from where the layer stands, so that a head written out for each of the five levels
is stored, prepared and kept in memory five times. Its networks run at any size, though: the head is a network of its
own here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.converters.traceable import Traceable
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.session import RawOutputs

__all__ = ["NcnnHead", "NcnnTraceable"]


class WholeGroupNorm(nn.GroupNorm):
    """GroupNorm as it is: ncnn has it as one layer."""

    def __init__(self, source: nn.GroupNorm) -> None:
        super().__init__(source.num_groups, source.num_channels, source.eps)
        self.load_state_dict(source.state_dict())
        self.requires_grad_(False)


class NcnnTraceable(Traceable):
    """The trunk: picture in; what the head takes at each level, and the mask features, out.

    Deformable convolution stays what it is: ncnn has it as one layer.
    """

    lowerings: ClassVar[tuple[str, ...]] = ("native",)
    group_norm: ClassVar[type[nn.Module]] = WholeGroupNorm

    def normalise(self, image: Tensor) -> Tensor:
        """Return the (1, 3, H, W) network input of a float32 (1, 3, H, W) picture.

        What ncnn makes of the pixels of a picture are planes of 0..255. One convolution brings them to the network's
        channel order and normalises them.
        """
        if self.contract.kind == "tensor":
            return image
        order = torch.eye(3)[[2, 1, 0]] if self.spec.channel_order == "bgr" else torch.eye(3)
        mean, std = self.get_buffer("mean").view(3), self.get_buffer("std").view(3)
        return functional.conv2d(image, (order / std[:, None]).view(3, 3, 1, 1), -mean / std)

    def run(self, batch: NDArray[Any]) -> RawOutputs:
        """Run trunk and head on what the contract takes, as the runtime does."""
        image = torch.from_numpy(batch)
        if self.contract.kind == "image":
            image = image.permute(0, 3, 1, 2).float()
        head = NcnnHead(self.network)
        with torch.inference_mode():
            *levels, features = self(image)
            parts = [[output.flatten(2)[0].t() for output in head(level)] for level in levels]
        scores, kernels = (torch.cat(rows).contiguous().numpy() for rows in zip(*parts, strict=True))
        return RawOutputs(scores, kernels, features[0].numpy())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the trunk.

        Args:
            image: (1, 3, H, W) float32: RGB in 0..255, or normalised where the contract says tensor.

        Returns:
            of the five levels, finest first, (1, C + 2, S, S) features and coordinates (C without coordinates); then
            the (1, E, H/4, W/4) mask features.
        """
        pyramid = self.network.neck(self.network.backbone(self.normalise(image)))
        placed = [self.placed(grid_map, number) for number, grid_map in enumerate(self.grid_maps(pyramid))]
        return *placed, self._mask_features(pyramid)


class NcnnHead(nn.Module):
    """The head at one level.

    Args:
        model: the rewritten network of a :class:`NcnnTraceable`.
    """

    def __init__(self, model: SOLOv2) -> None:
        super().__init__()
        self.head = model.mask_head
        self.channels = model.spec.pyramid_width
        self.eval()

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Run the head at one level.

        Args:
            level: (1, C + 2, S, S) features and coordinates, (1, C, S, S) without coordinates.

        Returns:
            class scores (1, classes, S, S) in [0, 1] before points NMS, and kernels (1, E, S, S).
        """
        class_x, kernel_x = level[:, : self.channels], level
        for convolution in self.head.kernel_convs:
            kernel_x = convolution(kernel_x)
        for convolution in self.head.cls_convs:
            class_x = convolution(class_x)
        return self.head.conv_cls(class_x).sigmoid(), self.head.conv_kernel(kernel_x)
