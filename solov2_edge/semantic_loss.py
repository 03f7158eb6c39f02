"""The loss of the semantic branch: cross-entropy of every pixel at full size (Panoptic-FPN, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.layers import resize

__all__ = ["SEMANTIC_WEIGHT", "UNLABELLED", "count_labelled", "semantic_loss"]

SEMANTIC_WEIGHT = 0.5  # lambda_s beside instance losses of weight 1, Panoptic-FPN's for COCO
UNLABELLED = 255  # in label maps: void and padding, which teach nothing


def count_labelled(labels: Sequence[Tensor]) -> Tensor:
    """Return how many pixels of the label maps have a label, () float64."""
    return torch.stack([(each != UNLABELLED).sum() for each in labels]).sum().double()


def semantic_loss(logits: Tensor, labels: Sequence[Tensor], count: Tensor) -> Tensor:
    """Return the weighted cross-entropy of a batch in float32, summed over its pixels and divided by ``count``.

    Args:
        logits: (n, stuff + 1, H / 4, W / 4) float; enlarged by 4 first, as at inference.
        labels: per picture (H, W) uint8: index of stuff, their number for every thing, or :data:`UNLABELLED`.
        count: () float, labelled pixels: of the batch, or of the step it is part of.
    """
    targets = torch.stack(list(labels)).long()
    enlarged = resize(logits.float(), *targets.shape[-2:])
    total = functional.cross_entropy(enlarged, targets, ignore_index=UNLABELLED, reduction="sum")
    return SEMANTIC_WEIGHT * total / count.clamp(min=1)
