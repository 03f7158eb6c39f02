"""The paper's two losses (section 3.3): focal loss on class logits, dice loss on masks, ``L = L_class + 3 L_mask``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.dynamic_conv import dynamic_logits
from solov2_edge.model import HeadOutputs, PanopticOutputs
from solov2_edge.semantic_loss import count_labelled, semantic_loss
from solov2_edge.spec import ModelSpec

__all__ = ["BatchTargets", "Losses", "count_targets", "dice_loss", "focal_loss", "solov2_losses"]

FOCAL_ALPHA = 0.25  # Lin et al., Focal Loss; the authors' configuration
FOCAL_GAMMA = 2.0
MASK_WEIGHT = 3.0  # lambda of the paper's section 3.3
DICE_EPSILON = 0.001  # added to each squared sum, as in the authors' code


class BatchTargets(NamedTuple):
    """Targets of a batch of n pictures as tensors.

    Attributes:
        class_maps: (n, cells) int64, ``num_classes`` for background.
        cells: per picture (pairs,) int64.
        objects: per picture (pairs,) int64, index into ``masks``.
        masks: per picture (objects, H / 4, W / 4) float in [0, 1].
        semantic: per picture (H, W) uint8 labels, see ``semantic_loss``; empty where there is no stuff to learn.
    """

    class_maps: Tensor
    cells: Sequence[Tensor]
    objects: Sequence[Tensor]
    masks: Sequence[Tensor]
    semantic: Sequence[Tensor] = ()


class Losses(NamedTuple):
    """The terms of a batch, weighted; their sum is minimised. Without stuff ``semantic`` is 0."""

    mask: Tensor
    classes: Tensor
    semantic: Tensor


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return ``1 - 2 sum(p g) / (sum(p^2) + sum(g^2))`` per row of (pairs, pixels) inputs in [0, 1], as (pairs,)."""
    overlap = (probabilities * targets).sum(dim=1)
    squares = (probabilities * probabilities).sum(dim=1) + DICE_EPSILON
    target_squares = (targets * targets).sum(dim=1) + DICE_EPSILON
    return 1 - 2 * overlap / (squares + target_squares)


def focal_loss(logits: Tensor, class_map: Tensor) -> Tensor:
    """Return the sigmoid focal loss, summed over cells and classes.

    Args:
        logits: (cells, classes) float.
        class_map: (cells,) int64; a value equal to ``classes`` is background.
    """
    targets = functional.one_hot(class_map, logits.shape[1] + 1)[:, :-1].to(logits.dtype)
    p = logits.sigmoid()
    miss = (1 - p) * targets + p * (1 - targets)
    weight = (FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)) * miss.pow(FOCAL_GAMMA)
    return (functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight).sum()


def count_targets(targets: BatchTargets, classes: int) -> Tensor:
    """Return (2,) float64 on the targets' device: (object, cell) pairs, and distinct positive cells.

    With stuff it is (3,): labelled pixels come last.

    A step's losses are sums over all its passes and processes divided by these counts of the whole step, so that
    neither how many passes nor how many processes share it changes what is learnt.
    """
    pairs = sum(len(cells) for cells in targets.cells)
    positives = (targets.class_maps != classes).sum().double()
    counts = [positives.new_tensor(pairs), positives]
    return torch.stack([*counts, count_labelled(targets.semantic)] if targets.semantic else counts)


def solov2_losses(
    outputs: HeadOutputs | PanopticOutputs,
    targets: BatchTargets,
    dice_norm: str = "pairs",
    counts: Tensor | None = None,
    spec: ModelSpec | None = None,
) -> Losses:
    """Compute the losses of a batch in float32.

    Args:
        outputs: the network's answer for n pictures.
        targets: what they should have been.
        dice_norm: ``"pairs"`` averages the dice loss over (object, cell) pairs (the authors); ``"cells"`` divides
            its sum by the number of distinct positive cells (mmdetection).
        counts: what to divide by when the batch is part of a larger step, see :func:`count_targets`; default: the
            batch's own.
        spec: the network's; None: its kernels are 1x1 and its mask features unified, as in the paper.

    Returns:
        Losses. Without any object the mask loss is 0, still attached to the graph.
    """
    if counts is None:
        counts = count_targets(targets, outputs.class_logits.shape[2])
    pairs, positives, *labelled = counts.float()
    dice = []
    for kernels, features, cells, objects, masks in zip(
        outputs.kernels, outputs.mask_features, targets.cells, targets.objects, targets.masks, strict=True
    ):
        if len(cells):
            # Autocast would multiply in half precision; the dice loss sums thousands of these pixels.
            with torch.autocast(features.device.type, enabled=False):
                if spec is None or spec.plain_kernels:
                    logits = kernels[cells].float() @ features.flatten(1).float()  # (pairs, E) @ (E, h * w)
                else:
                    logits = dynamic_logits(kernels.float(), features.float(), cells, spec)
            dice.append(dice_loss(logits.sigmoid(), masks.flatten(1)[objects]))
    if dice:
        mask = torch.cat(dice).sum() / (positives if dice_norm == "cells" else pairs)
    else:
        mask = (outputs.kernels.float().sum() + outputs.mask_features.float().sum()) * 0
    classes = focal_loss(outputs.class_logits.float().flatten(0, 1), targets.class_maps.flatten())
    semantic = mask.new_zeros(())
    if isinstance(outputs, PanopticOutputs):
        semantic = semantic_loss(outputs.semantic_logits, targets.semantic, labelled[0])
    return Losses(MASK_WEIGHT * mask, classes / (positives + 1), semantic)
