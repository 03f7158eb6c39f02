"""Exponential moving average of a model's weights: what is evaluated and shipped."""

from __future__ import annotations

import copy

import torch

from solov2_edge.model import SOLOv2

__all__ = ["ModelEma"]


class ModelEma:
    """A frozen copy of a model that follows it slowly.

    Args:
        model: the model in training.
        decay: share of the average kept per step, reached gradually: ``min(decay, (1 + step) / (10 + step))``, so
            that the first steps are not averaged with random weights.
    """

    def __init__(self, model: SOLOv2, decay: float) -> None:
        self.decay = decay
        self.average = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: SOLOv2, step: int) -> None:
        """Move the average towards ``model`` after optimiser step ``step`` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(current[name])
