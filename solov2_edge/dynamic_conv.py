"""The dynamic convolution in PyTorch, for training and the oracle; ``runtime/dynamic_conv.py`` is the devices'."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.spec import ModelSpec

__all__ = ["dynamic_logits"]


def dynamic_logits(kernels: Tensor, features: Tensor, cells: Tensor, spec: ModelSpec) -> Tensor:
    """Return the mask logits of some cells.

    Args:
        kernels: (cells, L) of one picture, L the spec's ``kernel_length``.
        features: (C, h, w) mask features, C the spec's ``feature_channels``.
        cells: (k,) int64, rows of ``kernels``.
        spec: kernel size, kind of mask features and grids.

    Returns:
        (k, h * w). A 3x3 kernel convolves with padding 1; a cell of separate mask features sees its level's only.
    """
    if spec.plain_kernels:
        return kernels[cells] @ features.flatten(1)
    if spec.mask_features == "unified":
        return _convolved(kernels[cells], features, spec.kernel_size)
    logits = kernels.new_empty(len(cells), features[0].numel())
    first = 0
    for grid, of_level in zip(spec.grids, torch.split(features, spec.mask_channels), strict=True):
        own = (cells >= first) & (cells < first + grid * grid)
        first += grid * grid
        logits = logits.masked_scatter(own[:, None], _convolved(kernels[cells[own]], of_level, spec.kernel_size))
    return logits


def _convolved(kernels: Tensor, features: Tensor, size: int) -> Tensor:
    """Return (k, h * w) of kernels (k, C * size^2) over features (C, h, w), zeros around them."""
    if not len(kernels):
        return kernels.new_zeros(0, features[0].numel())
    weight = kernels.reshape(len(kernels), -1, size, size)
    return functional.conv2d(features[None].to(weight.dtype), weight, padding=size // 2)[0].flatten(1)
