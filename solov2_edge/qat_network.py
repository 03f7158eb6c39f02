"""The network with 8-bit rounding where the exporters put it: same parameters, same names, another way through them.

Integer convolutions take rounded maps and rounded weights, with batch norms folded into them; group norms, bilinear
resizing, coordinates, deformable convolutions and both ends stay float (``converters/onnx_islands.py`` says why).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.backbone import BasicBlock, Bottleneck
from solov2_edge.converters.scale import Scale
from solov2_edge.deform import DeformConv2d, deform_conv2d, split_offset
from solov2_edge.errors import require
from solov2_edge.fake_quant import fold_norm, round_activation, round_bias, round_weight
from solov2_edge.layers import ConvNormReLU, append_coordinates, resize
from solov2_edge.mask_feature import MaskFeatureHead
from solov2_edge.model import HeadOutputs, SOLOv2
from solov2_edge.qat_rules import Rules
from solov2_edge.spec import ModelSpec

__all__ = ["RoundedSOLOv2"]


class Rounded(NamedTuple):
    """A map whose values are whole multiples of ``step`` (0 while ranges are looked for, and of float maps)."""

    values: Tensor
    step: float


class RoundedSOLOv2(SOLOv2):
    """A :class:`SOLOv2` whose forward pass computes what its 8-bit artefact will.

    The state dict is that of SOLOv2. Batch norms keep their statistics: they are folded, in training as in evaluation.

    Args:
        spec: the member of the family.
        rules: what is rounded.

    Attributes:
        scales: place in the network -> how its values are rounded; from ``qat.calibrate``. Towers run on five levels
            with one set of weights, and have a scale per level.
        watch: called with (place, values) instead of rounding, while ranges are looked for; weights stay float then.
    """

    def __init__(self, spec: ModelSpec, rules: Rules) -> None:
        require(
            spec.mask_features == "unified",
            f"8-bit rounding is imitated for unified mask features, and {spec.name} has separate ones; "
            "train it without --qat",
        )
        super().__init__(spec)
        self.rules = rules
        self.scales: dict[str, Scale] = {}
        self.watch: Callable[[str, Tensor], None] | None = None

    def forward(self, images: Tensor) -> HeadOutputs:
        """Run the network; see :meth:`SOLOv2.forward`."""
        pyramid = self._pyramid(self._backbone(images))
        p2, p3, p4, p5 = (level.values for level in pyramid)
        pooled = functional.avg_pool2d(p2, 2)
        if self.rules.results:  # the exporter writes pooling as a convolution
            pooled = self._round("mask_head.pooled", pooled).values
        p6 = resize(functional.max_pool2d(p5, 1, stride=2), p5.shape[-2], p5.shape[-1])
        cells = [self._cells(number, level) for number, level in enumerate((pooled, p3, p4, p5, p6))]
        logits, kernels = (torch.cat([maps.flatten(2) for maps in kind], 2) for kind in zip(*cells, strict=True))
        return HeadOutputs(logits.transpose(1, 2), kernels.transpose(1, 2), self._mask_features(pyramid))

    def _round(self, place: str, x: Tensor) -> Rounded:
        if self.watch is not None:
            self.watch(place, x)
            return Rounded(x, 0.0)
        scale = self.scales[place]
        return Rounded(round_activation(x, scale), scale.step)

    def _result(self, place: str, x: Tensor) -> Tensor:
        """Round what a convolution gives, where that is done."""
        return self._round(f"{place}.result", x).values if self.rules.results else x

    def _resized(self, place: str, x: Tensor) -> Tensor:
        """Round a normalised map that is resized next, or added to such, if its convolution is an integer one."""
        rounded = self.rules.resized and self.spec.mask_dcn == "none"
        return self._round(f"{place}.resized", x).values if rounded else x

    def _multiply(
        self, x: Rounded, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1
    ) -> Tensor:
        """Convolve with a rounded weight (O, C, k, k) and, where it joins integer sums, a rounded bias (O,)."""
        if self.watch is None:
            if bias is not None and not self.rules.symmetric:
                bias = round_bias(bias, weight, x.step)
            weight = round_weight(weight)
        return functional.conv2d(x.values, weight, bias, stride, padding, groups=groups)

    def _convolve(self, x: Rounded, conv: nn.Module, norm: nn.Module | None = None) -> Tensor:
        """Convolve, with the batch norm folded in; deformable convolutions in float."""
        weight: Tensor = conv.get_parameter("weight")
        bias: Tensor | None = None
        if isinstance(norm, nn.BatchNorm2d):
            weight, bias = fold_norm(weight, norm)
        if isinstance(conv, DeformConv2d):
            offset, modulation = split_offset(conv.conv_offset(x.values), conv.flavour)
            out = deform_conv2d(x.values, offset, weight, conv.stride, conv.padding, modulation, conv.groups)
            return out if bias is None else out + bias.view(1, -1, 1, 1)
        assert isinstance(conv, nn.Conv2d)  # there is no third kind
        bias = conv.bias if bias is None else bias
        return self._multiply(x, weight, bias, conv.stride[0], int(conv.padding[0]), conv.groups)

    def _backbone(self, images: Tensor) -> list[Rounded]:
        """Return C2..C5."""
        net = self.backbone
        x = self._round("backbone.conv1", torch.relu(self._first(images)))
        if self.spec.backbone.stem == "conv7":
            x = Rounded(net.maxpool(x.values), x.step)
        else:
            x = self._round("backbone.conv2", torch.relu(self._convolve(x, net.conv2, net.bn2)))
        maps = []
        for number, stage in enumerate(net.stages(), start=1):
            for index, block in enumerate(stage.children()):
                x = self._block(f"backbone.layer{number}.{index}", x, block)
            maps.append(x)
        return maps

    def _first(self, images: Tensor) -> Tensor:
        """Return the first convolution of normalised pictures (n, 3, H, W).

        Integers are made of pixels, not of normalised values: the division by the standard deviation is the weights'.
        """
        conv = self.backbone.conv1
        weight, bias = fold_norm(conv.get_parameter("weight"), self.backbone.bn1)
        pad = weight.shape[-1] // 2
        if not self.rules.first:
            return functional.conv2d(images, weight, bias, 2, pad)
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.spec.mean, self.spec.std))
        weight = weight / std
        # The picture itself, less one grey and surrounded by whole pixel values; what that leaves of the mean is in
        # the bias (converters/onnx_stem.py).
        around, grey = mean.round(), mean.mean().round()
        pixels = functional.pad(images * std + (mean - around), [pad] * 4) + (around - grey)
        bias = bias - (weight * (mean - grey)).sum((1, 2, 3))
        return self._multiply(Rounded(pixels, 1.0), weight, bias, 2, 0)

    def _block(self, name: str, x: Rounded, block: nn.Module) -> Rounded:
        assert isinstance(block, BasicBlock | Bottleneck)  # stages hold nothing else
        shortcut = x
        if block.downsample is not None:
            shortcut = self._round(f"{name}.downsample", self._convolve(x, *block.downsample))
        out = torch.relu(self._convolve(x, block.conv1, block.bn1))
        if isinstance(block, BasicBlock):
            out = self._convolve(self._round(f"{name}.conv1", out), block.conv2, block.bn2)
        else:
            floating = isinstance(block.conv2, DeformConv2d) and not self.rules.results
            middle = Rounded(out, 0.0) if floating else self._round(f"{name}.conv1", out)
            middle = self._round(f"{name}.conv2", torch.relu(self._convolve(middle, block.conv2, block.bn2)))
            out = self._convolve(middle, block.conv3, block.bn3)
        branch = self._round(f"{name}.branch", out)
        return self._round(f"{name}.sum", torch.relu(branch.values + shortcut.values))

    def _pyramid(self, maps: list[Rounded]) -> list[Rounded]:
        """Return P2..P5."""
        neck, outputs = self.neck, []
        upper: Tensor | None = None
        for level in (3, 2, 1, 0):
            out = self._convolve(maps[level], neck.lateral_convs[level].get_submodule("conv"))
            lateral = self._round(f"neck.lateral_convs.{level}", out)
            if upper is not None:
                up = functional.interpolate(upper, size=lateral.values.shape[-2:], mode="nearest")
                lateral = self._round(f"neck.sum{level}", lateral.values + up)
            upper = lateral.values
            out = self._convolve(lateral, neck.fpn_convs[level].get_submodule("conv"))
            outputs.append(self._round(f"neck.fpn_convs.{level}", out))
        return outputs[::-1]

    def _cells(self, number: int, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (n, classes, S, S) and kernels (n, E, S, S) of one level."""
        head, grid = self.mask_head, self.spec.grids[number]
        placed = self.spec.kernel_coordinates
        coordinates = resize(append_coordinates(level[:1, :0]), grid, grid) if placed else None
        level = resize(level, grid, grid)
        results = []
        for tower, extra, last in (("cls_convs", None, "conv_cls"), ("kernel_convs", coordinates, "conv_kernel")):
            x = level
            for index, module in enumerate(head.get_submodule(tower).children()):
                x = self._normed(f"mask_head.{tower}.{index}.{number}", x, module, extra if index == 0 else None)
            place = f"mask_head.{last}.{number}"
            out = self._convolve(self._round(f"{place}.input", x), head.get_submodule(last))
            results.append(self._result(place, out))
        return results[0], results[1]

    def _normed(self, place: str, x: Tensor | Rounded, module: nn.Module, coordinates: Tensor | None = None) -> Tensor:
        """Return relu(group norm(convolution)), float, of a float map or of one that is rounded already."""
        assert isinstance(module, ConvNormReLU)  # towers and the mask branch hold nothing else
        conv = module.conv
        if isinstance(conv, DeformConv2d):
            values = x if isinstance(x, Tensor) else x.values
            if coordinates is not None:
                values = torch.cat([values, coordinates.expand(len(values), -1, -1, -1)], 1)
            return torch.relu(module.gn(self._convolve(Rounded(values, 0.0), conv)))
        if isinstance(x, Tensor):
            x = self._round(f"{place}.input", x)
        if coordinates is None:
            return torch.relu(module.gn(self._result(place, self._convolve(x, conv))))
        # conv([x, coordinates]) = conv(x) + conv(coordinates), and the second is a constant: float.
        weight, channels, pad = conv.get_parameter("weight"), x.values.shape[1], 1
        of_map = self._result(place, self._multiply(x, weight[:, :channels], None, 1, pad))
        return torch.relu(module.gn(of_map + functional.conv2d(coordinates, weight[:, channels:], padding=pad)))

    def _mask_features(self, pyramid: list[Rounded]) -> Tensor:
        """Return mask features (n, E, H / 4, W / 4); levels are added before the last, common resizing."""
        branch, name = self.mask_head.mask_feature_head, "mask_head.mask_feature_head"
        assert isinstance(branch, MaskFeatureHead)  # separate ones were refused
        placed = self.spec.feature_coordinates
        results = []
        for level, start in enumerate(pyramid):
            coordinates = append_coordinates(start.values[:1, :0]) if placed and level == 3 else None
            first, *others = branch.convs_all_levels[level].children()
            x = self._normed(f"{name}.{level}.0", start, first, coordinates)
            for step, module in enumerate(others, start=1):
                x = self._resized(f"{name}.{level}.{step - 1}", x)
                x = self._normed(f"{name}.{level}.{step}", resize(x, x.shape[-2] * 2, x.shape[-1] * 2), module)
            results.append(x)
        fine = self._round(f"{name}.fine", results[0]).values
        coarse = self._resized(f"{name}.1", results[1])
        for level in (2, 3):
            coarse = self._resized(f"{name}.sum{level}", coarse + self._resized(f"{name}.{level}", results[level]))
        coarse = resize(coarse, fine.shape[-2], fine.shape[-1])
        total = self._round(f"{name}.sum", fine + self._round(f"{name}.coarse", coarse).values)
        return self._normed(f"{name}.conv_pred", total, branch.conv_pred)
