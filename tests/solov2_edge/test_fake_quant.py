"""Rounding in training against the exporters' own rounding, and what gradients see of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from solov2_edge.converters.fold import folded
from solov2_edge.converters.scale import Scale, quantise_weight
from solov2_edge.fake_quant import fold_norm, round_activation, round_bias, round_weight

UNSIGNED, SIGNED = Scale(0.5, 3, False), Scale(0.5, 0, True)


def test_weights_round_to_the_exporters_integers_bit_for_bit() -> None:
    weight = torch.randn(64, 16, 3, 3, generator=torch.Generator().manual_seed(1))
    weight[3] = 0  # a channel that was pruned away
    weight[4, 0, 0, :2] = torch.tensor([127.0, 0.5])  # half a step: to the even neighbour
    weight[5] *= 1e-30
    integers, steps = quantise_weight(weight.numpy())
    expected = (integers.astype(np.float64) * steps.astype(np.float64)[:, None, None, None]).astype(np.float32)
    np.testing.assert_array_equal(round_weight(weight).numpy(), expected)


@pytest.mark.parametrize(
    ("scale", "values", "expected"),
    [
        (UNSIGNED, [-9.0, -1.5, -0.2, 0.3, 0.75, 126.0, 200.0], [-1.5, -1.5, 0.0, 0.5, 1.0, 126.0, 126.0]),
        (SIGNED, [-99.0, -64.0, -0.2, 0.3, 0.75, 63.5, 99.0], [-64.0, -64.0, 0.0, 0.5, 1.0, 63.5, 63.5]),
    ],
)
def test_activations_round_and_clip_as_quantize_linear_does(
    scale: Scale, values: list[float], expected: list[float]
) -> None:
    x = torch.tensor(values, requires_grad=True)
    rounded = round_activation(x, scale)
    assert rounded.tolist() == expected
    rounded.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]  # nothing where the range cuts


def test_gradients_pass_weights_and_biases_as_if_nothing_were_rounded() -> None:
    weight, bias = torch.randn(4, 2, 1, 1, requires_grad=True), torch.randn(4, requires_grad=True)
    upstream = torch.randn(4)
    (round_weight(weight).sum((1, 2, 3)) * upstream + round_bias(bias, weight, 0.25) * upstream).sum().backward()
    assert weight.grad is not None
    assert bias.grad is not None
    torch.testing.assert_close(weight.grad, upstream.view(4, 1, 1, 1).expand(4, 2, 1, 1))
    torch.testing.assert_close(bias.grad, upstream)


def test_a_bias_is_a_whole_number_of_products() -> None:
    weight = torch.tensor([[127.0], [254.0]]).view(2, 1, 1, 1)
    assert round_bias(torch.tensor([0.6, 0.6]), weight, 0.5).tolist() == [0.5, 1.0]


def test_a_batch_norm_folds_as_for_export_and_still_learns() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5).train()
    norm(torch.randn(8, 5, 3, 3) * 3 + 1)  # statistics that are not the fresh ones
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    weight = torch.randn(5, 2, 3, 3, requires_grad=True)
    got, expected = fold_norm(weight, norm), folded(weight, None, norm)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    (got[0].sum() + got[1].sum()).backward()
    for parameter in (weight, norm.weight, norm.bias):
        assert parameter.grad is not None
        assert bool(parameter.grad.abs().min() > 0)
