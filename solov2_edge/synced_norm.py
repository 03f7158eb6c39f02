"""Batch norm over the pictures of all processes, so that sharing a step changes nothing of what it learns.

PyTorch's own is for GPUs only; this one exchanges sums over any backend.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["SyncedBatchNorm2d", "sync_norms"]


class _Total(torch.autograd.Function):
    """Sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        out = values.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        out = gradient.clone()
        dist.all_reduce(out)
        return out


def _total(values: Tensor) -> Tensor:
    out: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]  # torch leaves it without types
    return out


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose training statistics are those of all processes' pictures together, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, H, W)."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        values = x.float()
        ones = values.new_tensor([values.numel() // values.shape[1]])
        sums = _total(torch.cat([values.sum((0, 2, 3)), ones]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        # Around the common mean: squares of the values themselves would cancel.
        centred = values - mean.view(1, -1, 1, 1)
        squares = _total((centred * centred).sum((0, 2, 3)))
        variance = squares / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(squares / (count - 1), self.momentum)
        scale = (self.weight * torch.rsqrt(variance + self.eps)).view(1, -1, 1, 1)
        return (centred * scale + self.bias.view(1, -1, 1, 1)).to(x.dtype)


def sync_norms(model: nn.Module) -> None:
    """Let every batch norm of ``model`` take its statistics over all processes; names and weights stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
