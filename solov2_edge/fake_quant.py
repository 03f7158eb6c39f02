"""Rounding to 8 bits as a network in training sees it: integer values in the forward pass, gradients as if smooth.

Rounding has a gradient of zero almost everywhere, so it is taken to be the identity on the way back: the
straight-through estimator (Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013,
arXiv 1308.3432), with activations as Jacob et al. place them (Quantization and Training of Neural Networks, CVPR
2018). What a range cuts off gets no gradient. The rules of rounding are the exporters' (``converters/scale.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from solov2_edge.converters.scale import TINY, WEIGHT_LIMIT, Scale

__all__ = ["fold_norm", "round_activation", "round_bias", "round_weight"]


def round_activation(x: Tensor, scale: Scale) -> Tensor:
    """Return float ``x`` of any shape as the real numbers that its 8-bit integers mean.

    The gradient passes where ``x`` is within the range and is 0 where it is cut.
    """
    low, high = (-WEIGHT_LIMIT - 1, WEIGHT_LIMIT) if scale.signed else (0, 255)
    rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, scale.step, scale.zero, low, high)
    return rounded


def weight_steps(weight: Tensor) -> Tensor:
    """Return one step per output channel (O,) float64 of a weight (O, ...), as its int8 form has them."""
    return (weight.detach().abs().flatten(1).amax(1) / WEIGHT_LIMIT).clamp_min(TINY).double()


def round_weight(weight: Tensor) -> Tensor:
    """Return a weight (O, ...) as its int8 form means it, by the rule of ``converters.scale.quantise_weight``.

    The largest of every output channel is the largest integer, so nothing is cut and every weight gets its gradient.
    """
    return _to_multiples(weight, weight_steps(weight).view(-1, *[1] * (weight.dim() - 1)))


def round_bias(bias: Tensor, weight: Tensor, step: float) -> Tensor:
    """Return a bias (O,) as it joins the integer sums of products of ``weight`` with a map of ``step``."""
    return _to_multiples(bias, weight_steps(weight) * step)


def _to_multiples(x: Tensor, steps: Tensor) -> Tensor:
    rounded: Tensor = _ToMultiples.apply(x, steps)  # type: ignore[no-untyped-call]  # torch leaves it without types
    return rounded


class _ToMultiples(torch.autograd.Function):
    """Rounding to whole multiples of steps, computed in float64, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: Tensor) -> Tensor:
        return (torch.round(x.double() / steps) * steps).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def fold_norm(weight: Tensor, norm: torch.nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight (O, ...) and bias (O,) of the convolution that equals a bias-free one, then ``norm``.

    As ``converters.fold`` does it for export, with the running statistics, but differentiable in the weight and in
    the norm's own scale and shift, so that what is trained is what will be rounded.
    """
    assert norm.running_mean is not None  # the family's batch norms keep statistics
    assert norm.running_var is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    folded = weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))
    bias = norm.bias.double() - norm.running_mean.double() * factor
    return folded.to(weight.dtype), bias.to(weight.dtype)
