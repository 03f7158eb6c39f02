"""The losses against hand-computed values, and their edge cases."""

from __future__ import annotations

import math

import pytest
import torch

from solov2_edge.loss import BatchTargets, dice_loss, focal_loss, solov2_losses
from solov2_edge.model import HeadOutputs


def test_dice_by_hand() -> None:
    p = torch.tensor([[0.5, 1.0, 0.0]])
    g = torch.tensor([[1.0, 1.0, 0.0]])
    expected = 1 - 2 * 1.5 / ((1.25 + 0.001) + (2 + 0.001))
    assert dice_loss(p, g).item() == pytest.approx(expected, abs=1e-6)


def test_dice_of_a_perfect_soft_mask_is_nearly_zero() -> None:
    g = torch.tensor([[0.25, 1.0, 0.7, 0.0]])
    assert dice_loss(g, g).item() < 1e-3 < dice_loss(1 - g, g).item()


def test_focal_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0]])
    p = 1 / (1 + math.exp(-2.0))
    positive = 0.25 * 0.25 * -math.log(0.5)  # class 0 is right: alpha (1 - p)^2 * -log p
    negative = 0.75 * p * p * -math.log(1 - p)
    assert focal_loss(logits, torch.tensor([0])).item() == pytest.approx(positive + negative, rel=1e-6)


def test_background_is_the_value_after_the_last_class() -> None:
    logits = torch.zeros(1, 2)
    expected = 2 * 0.75 * 0.25 * -math.log(0.5)
    assert focal_loss(logits, torch.tensor([2])).item() == pytest.approx(expected, rel=1e-6)


def _batch(pairs: list[int]) -> tuple[HeadOutputs, BatchTargets]:
    torch.manual_seed(0)
    class_map = torch.full((1, 9), 2)
    class_map[0, pairs] = 0
    outputs = HeadOutputs(
        torch.randn(1, 9, 2, requires_grad=True),
        torch.randn(1, 9, 4, requires_grad=True),
        torch.rand(1, 4, 6, 6, requires_grad=True),
    )
    objects = torch.arange(len(pairs))
    masks = (torch.rand(len(pairs), 6, 6) > 0.5).float()
    return outputs, BatchTargets(class_map, [torch.tensor(pairs, dtype=torch.long)], [objects], [masks])


def test_the_two_normalisations_differ_by_pairs_per_distinct_cell() -> None:
    outputs, targets = _batch([1, 1, 4])  # cell 1 is claimed twice: three pairs, two cells
    ours, theirs = (solov2_losses(outputs, targets, norm) for norm in ("pairs", "cells"))
    assert theirs.mask.item() == pytest.approx(ours.mask.item() * 3 / 2, rel=1e-6)
    assert theirs.classes.item() == ours.classes.item()


def test_the_mask_term_is_three_times_the_mean_dice() -> None:
    outputs, targets = _batch([1, 4])
    logits = outputs.kernels[0, [1, 4]] @ outputs.mask_features[0].flatten(1)
    mean = dice_loss(logits.sigmoid(), targets.masks[0].flatten(1)).mean()
    assert solov2_losses(outputs, targets).mask.item() == pytest.approx(3 * mean.item(), rel=1e-6)


def test_the_class_term_divides_by_distinct_positive_cells_plus_one() -> None:
    outputs, targets = _batch([1, 1, 4])
    total = focal_loss(outputs.class_logits[0], targets.class_maps[0])
    assert solov2_losses(outputs, targets).classes.item() == pytest.approx(total.item() / 3, rel=1e-6)


def test_a_batch_without_objects_has_a_mask_loss_of_zero_that_can_be_differentiated() -> None:
    outputs, targets = _batch([])
    losses = solov2_losses(outputs, targets)
    assert losses.mask.item() == 0
    (losses.mask + losses.classes).backward()
    assert outputs.kernels.grad is not None
    assert (outputs.kernels.grad == 0).all()
    assert outputs.class_logits.grad is not None
    assert (outputs.class_logits.grad != 0).any()
