"""The network traced as ONNX engines run it fastest."""

from __future__ import annotations

import torch
from torch import Tensor

from solov2_edge.converters.traceable import Traceable

__all__ = ["OnnxTraceable"]


class OnnxTraceable(Traceable):
    """The traceable network with cells gathered row by row: convolutions often have the channels last anyway."""

    def cells(self, maps: list[Tensor]) -> Tensor:
        """Return (cells, C) of the levels' (1, C, S, S) maps: levels in order, row-major inside a level."""
        return torch.cat([grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1]) for grid in maps], 0)
