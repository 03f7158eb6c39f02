"""The network as converters need it: one picture of a fixed size in, three named outputs, preprocessing inside.

The model itself is never patched: :class:`Traceable` works on a copy, rewritten into what engines run fastest and
convert most faithfully. Every rewriting is exact up to rounding, and the converters check it by parity.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.converters.deform_export import replace_deform_convs
from solov2_edge.converters.fold import fold_batch_norms
from solov2_edge.errors import require
from solov2_edge.layers import append_coordinates, resize
from solov2_edge.manifest import InputContract
from solov2_edge.mask_feature import SeparateMaskFeatureHead
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.session import RawOutputs

__all__ = ["LOWERINGS", "InstanceFormGroupNorm", "Traceable", "replace_modules"]

LOWERINGS = ("native", "lowered")
Module = TypeVar("Module", bound=nn.Module)


class InstanceFormGroupNorm(nn.Module):
    """GroupNorm written as instance normalisation of (n, groups, C / groups * H, W), then scale and shift.

    Rank 4 throughout. In ONNX this is InstanceNormalization at every opset; GroupNormalization (opset 21) is taken
    apart by ONNX Runtime on the CPU and made the whole nano network 8 % slower.
    """

    def __init__(self, source: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = source.num_groups, source.eps
        self.scale = nn.Parameter(source.weight.detach().clone().view(1, -1, 1, 1), requires_grad=False)
        self.shift = nn.Parameter(source.bias.detach().clone().view(1, -1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, H, W) per picture and group of channels."""
        n, channels, height, width = x.shape
        grouped = x.reshape(n, self.groups, channels // self.groups * height, width)
        normal = functional.instance_norm(grouped, eps=self.eps).reshape(n, channels, height, width)
        return normal * self.scale + self.shift


class Traceable(nn.Module):
    """A fixed-size, batch-free view of a SOLOv2 network, ready for tracing.

    A format with habits of its own subclasses this, sets ``lowerings`` and ``group_norm`` and overrides
    :meth:`replace_deform_convs` and :meth:`cells`.

    Args:
        model: the network; it is copied, never changed.
        contract: the input: kind, height H and width W in pixels.
        lowering: how deformable convolutions are written: ``"native"`` or ``"lowered"``.

    Raises:
        InputError: an unknown lowering.
    """

    lowerings: ClassVar[tuple[str, ...]] = LOWERINGS
    group_norm: ClassVar[type[nn.Module]] = InstanceFormGroupNorm

    def __init__(self, model: SOLOv2, contract: InputContract, lowering: str = "native") -> None:
        super().__init__()
        require(lowering in self.lowerings, f"dcn must be one of {', '.join(self.lowerings)}, got {lowering!r}")
        self.contract, self.lowering = contract, lowering
        self.spec = model.spec
        self.network = copy.deepcopy(model).float().eval().requires_grad_(False)
        self.deform_convs = self.replace_deform_convs()
        fold_batch_norms(self.network)
        replace_modules(self.network, nn.GroupNorm, self.group_norm)
        self.register_buffer("mean", torch.tensor(self.spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(self.spec.std).view(1, 3, 1, 1))
        height, width = contract.height, contract.width
        sizes = [(height // s, width // s) for s in (8, 8, 16, 32, 32)]  # of the level maps, before the grid resize
        for level, (size, grid) in enumerate(zip(sizes, self.spec.grids, strict=True)):
            # Bilinear resizing treats every channel alone, so the coordinates can be resized here, once and for all.
            if self.spec.kernel_coordinates:
                self.register_buffer(f"coordinates{level}", resize(_coordinates(*size), grid, grid))
            if self.spec.feature_coordinates and self.spec.mask_features == "separate":
                self.register_buffer(f"mask_coordinates{level}", _coordinates(*size))
        if self.spec.feature_coordinates and self.spec.mask_features == "unified":
            self.register_buffer("mask_coordinates", _coordinates(height // 32, width // 32))
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the network on one picture.

        Args:
            image: what the contract says: (1, H, W, 3) uint8 RGB, or (1, 3, H, W) float32, normalised.

        Returns:
            class scores (cells, classes) in [0, 1] before points NMS, kernels (cells, E), mask features (E, H/4, W/4).
        """
        pyramid = self.network.neck(self.network.backbone(self.normalise(image)))
        scores, kernels = self._head(pyramid)
        outputs = (scores, kernels, self._mask_features(pyramid).flatten(0, 1))
        if self.network.semantic_head is None:
            return outputs
        return *outputs, self.network.semantic_head(pyramid[:4]).flatten(0, 1)

    def run(self, batch: NDArray[Any]) -> RawOutputs:
        """Run on numpy's (1, ...) input in PyTorch, as an engine would."""
        with torch.inference_mode():
            outputs = self(torch.from_numpy(batch))
        return RawOutputs(*(output.contiguous().numpy() for output in outputs))

    @property
    def numbers(self) -> int:
        """How many floating-point numbers the rewritten network holds, constants included."""
        tensors = {id(t): t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point()}
        return sum(tensor.numel() for tensor in tensors.values())

    def replace_deform_convs(self) -> int:
        """Replace the deformable convolutions of the copied network; return how many there were."""
        return replace_deform_convs(self.network, self.lowering)

    def cells(self, maps: list[Tensor]) -> Tensor:
        """Return (cells, C) of the levels' (1, C, S, S) maps: levels in order, row-major inside a level."""
        return torch.cat([grid.reshape(grid.shape[1], -1) for grid in maps], 1).t()

    def normalise(self, image: Tensor) -> Tensor:
        """Return the (1, 3, H, W) float32 network input of what the contract takes."""
        if self.contract.kind == "tensor":
            return image
        planes = image.permute(0, 3, 1, 2).contiguous().float()
        if self.spec.channel_order == "bgr":
            planes = planes.flip(1)
        return (planes - self.get_buffer("mean")) / self.get_buffer("std")

    def _head(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return class scores (cells, classes) and kernels (cells, E) of P2..P6, as the model's head does."""
        head = self.network.mask_head
        logits, kernels = [], []
        for number, class_x in enumerate(self.grid_maps(pyramid)):
            kernel_x = self.placed(class_x, number)
            for convolution in head.kernel_convs:
                kernel_x = convolution(kernel_x)
            for convolution in head.cls_convs:
                class_x = convolution(class_x)
            kernels.append(head.conv_kernel(kernel_x))
            logits.append(head.conv_cls(class_x))
        return self.cells(logits).sigmoid(), self.cells(kernels)

    def grid_maps(self, pyramid: tuple[Tensor, ...]) -> list[Tensor]:
        """Return the five (1, C, S, S) maps the towers start from, finest first."""
        return [resize(level, grid, grid) for level, grid in zip(_levels(pyramid), self.spec.grids, strict=True)]

    def placed(self, grid_map: Tensor, number: int) -> Tensor:
        """Return what the kernel tower takes at level ``number``: the grid's map, with coordinates if the spec asks."""
        if not self.spec.kernel_coordinates:
            return grid_map
        return torch.cat([grid_map, self.get_buffer(f"coordinates{number}")], dim=1)

    def _mask_features(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Return the (1, E, H / 4, W / 4) mask features of P2..P5, with constant coordinates on P5.

        The model resizes three levels from 1/8 to 1/4 and adds them there. Resizing is linear: here they are added
        first and resized once.
        """
        branch = self.network.mask_head.mask_feature_head
        if isinstance(branch, SeparateMaskFeatureHead):
            return self._separate_features(branch, pyramid)
        p2, p3, p4, p5 = pyramid[:4]
        if self.spec.feature_coordinates:
            p5 = torch.cat([p5, self.get_buffer("mask_coordinates")], dim=1)
        levels = []
        for steps, x in zip(branch.convs_all_levels, (p2, p3, p4, p5), strict=True):
            for step, convolution in enumerate(steps.children()):
                if step > 0:
                    x = resize(x, x.shape[-2] * 2, x.shape[-1] * 2)
                x = convolution(x)
            levels.append(x)
        fine, *coarse = levels
        total = coarse[0] + coarse[1] + coarse[2]
        features: Tensor = branch.conv_pred(fine + resize(total, *fine.shape[-2:]))
        return features

    def _separate_features(self, branch: SeparateMaskFeatureHead, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Return the (1, 5 E, H / 4, W / 4) mask features of the five levels, one after the other."""
        features = []
        for number, x in enumerate(_levels(pyramid)):
            if self.spec.feature_coordinates:
                x = torch.cat([x, self.get_buffer(f"mask_coordinates{number}")], dim=1)
            for convolution in branch.convs:
                x = convolution(x)
            x = branch.conv_pred(resize(x, x.shape[-2] * 2, x.shape[-1] * 2))
            features.append(resize(x, self.contract.height // 4, self.contract.width // 4))
        return torch.cat(features, dim=1)


def _levels(pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the maps of the head's five levels, of P2..P6."""
    p2, p3, p4, p5, p6 = pyramid
    # The mean of 2x2 blocks is what bilinear resizing by a half computes, and engines pool faster than they resize.
    return functional.avg_pool2d(p2, 2), p3, p4, p5, resize(p6, p5.shape[-2], p5.shape[-1])


def _coordinates(height: int, width: int) -> Tensor:
    """Return the two coordinate channels (1, 2, H, W) of a map, x first."""
    return append_coordinates(torch.zeros(1, 0, height, width)).contiguous()


def replace_modules(network: nn.Module, kind: type[Module], make: Callable[[Module], nn.Module]) -> int:
    """Replace every module of ``kind`` in ``network``, a copy the caller owns, by ``make`` of it; count them."""
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
    for name, module in found:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, make(module))
    return len(found)
