"""A fine-tuned network's weights as its int8 artefact has them: the checkpoint holds what was trained, exactly.

Exporters are free to round a weight up or down, by what its layer computes in float. Weights that already lie on the
steps leave them no choice, and every other precision of the same checkpoint computes with the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solov2_edge.fake_quant import fold_norm, round_weight
from solov2_edge.qat_network import RoundedSOLOv2

__all__ = ["weights_on_steps"]

FIRST = "backbone.conv1"
# Convolutions whose last two input channels are coordinates, if any are; these stay float and set no step.
KERNEL_FIRST = "mask_head.kernel_convs.0.conv"
FEATURE_FIRST = "mask_head.mask_feature_head.convs_all_levels.3.conv0.conv"


def weights_on_steps(network: RoundedSOLOv2) -> dict[str, Tensor]:
    """Return the network's state with the weights of integer convolutions moved to the steps they are rounded to.

    Batch norms are not folded, so a weight is what gives the rounded one when its norm is. Rounding the result again
    changes nothing but float32's last bits.
    """
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    modules = dict(network.named_modules())
    places = {KERNEL_FIRST: network.spec.kernel_coordinates, FEATURE_FIRST: network.spec.feature_coordinates}
    for name, conv in modules.items():
        floating = name.endswith("conv_offset") or (name == FIRST and not network.rules.first)
        if not isinstance(conv, nn.Conv2d) or floating:
            continue
        factor = _factor(conv.weight, modules.get(_norm_of(name)))
        if name == FIRST:  # its steps are of weights for pixels
            factor = factor / factor.new_tensor(network.spec.std).view(1, 3, 1, 1)
        integer = slice(0, conv.weight.shape[1] - 2 * places.get(name, False))
        exact = conv.weight.detach()[:, integer]
        moved = round_weight((exact * factor).float()).double() / factor
        state[f"{name}.weight"][:, integer] = torch.where(factor == 0, exact, moved).to(conv.weight.dtype)
    return state


def _norm_of(name: str) -> str:
    """Return the name that a batch norm behind the convolution ``name`` would have."""
    parent, _, child = name.rpartition(".")
    return f"{parent}.{'1' if child == '0' else child.replace('conv', 'bn')}"


def _factor(weight: Tensor, norm: nn.Module | None) -> Tensor:
    """Return (O, 1, 1, 1) float64: what folding ``norm`` multiplies a weight by, 1 without one."""
    ones = torch.ones(len(weight), 1, 1, 1, device=weight.device, dtype=torch.float64)
    return fold_norm(ones, norm)[0].detach() if isinstance(norm, nn.BatchNorm2d) else ones
