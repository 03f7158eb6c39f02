"""Batch normalisation folded into the convolution before it: the same function with one operation less."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from solov2_edge.errors import SolovEdgeError

__all__ = ["fold_batch_norms", "folded"]


def fold_batch_norms(network: nn.Module) -> None:
    """Replace every (convolution, batch norm) pair of ``network`` by one convolution with a bias, in place.

    Pairs are found by the names the backbone uses: ``conv<k>`` with ``bn<k>``, and a convolution followed by a batch
    norm in a Sequential. The statistics used are the running ones (evaluation mode).

    Args:
        network: a copy the caller owns. A deformable convolution in a pair must already hold a ``bias``.

    Raises:
        SolovEdgeError: a batch norm stands outside such a pair.
    """
    for parent, convolution_name, norm_name in list(_pairs(network)):
        convolution = parent.get_submodule(convolution_name)
        norm = parent.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d)  # _pairs yields nothing else
        weight, bias = convolution.weight, convolution.bias
        assert isinstance(weight, Tensor)  # every convolution has one
        new_weight, new_bias = folded(weight, bias if isinstance(bias, Tensor) else None, norm)
        convolution.register_parameter("weight", nn.Parameter(new_weight, requires_grad=False))
        convolution.register_parameter("bias", nn.Parameter(new_bias, requires_grad=False))
        setattr(parent, norm_name, nn.Identity())
    left = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        raise SolovEdgeError(f"cannot fold the batch norms {left}: no convolution with a matching name stands before")


def folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight (O, ...) and bias (O,) of the convolution that equals convolution, then ``norm``.

    Computed in float64, so that folding costs no more than float32's own rounding.
    """
    assert norm.running_mean is not None  # the family's batch norms keep statistics
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        offset = torch.zeros_like(scale) if bias is None else bias.double()
        new_weight = weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))
        new_bias = (offset - norm.running_mean.double()) * scale + norm.bias.double()
        return new_weight.to(weight.dtype), new_bias.to(weight.dtype)


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield (parent, convolution's name, batch norm's name)."""
    for parent in network.modules():
        children = dict(parent.named_children())
        names = list(children)
        for name, child in children.items():
            if not isinstance(child, nn.BatchNorm2d):
                continue
            if isinstance(parent, nn.Sequential) and names.index(name) > 0:
                before = names[names.index(name) - 1]
            else:
                before = name.replace("bn", "conv", 1)
            if before != name and before in children and hasattr(children[before], "weight"):
                yield parent, before, name
