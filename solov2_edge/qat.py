"""Fine-tuning for integers: a trained network is trained on with the rounding of its 8-bit artefact.

Ranges come from calibration pictures as the exporters take them, once, from the weights at the start, and stay: what
is trained is then what ``convert`` will write, which takes its ranges anew from the same pictures. Learnt ranges
(Esser et al., Learned Step Size Quantization, ICLR 2020) would be lost there; docs/qat.md has what they bring.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from solov2_edge.converters.scale import scale_of
from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.errors import require
from solov2_edge.qat_network import RoundedSOLOv2
from solov2_edge.qat_rules import RULES
from solov2_edge.spec import ModelSpec

__all__ = ["calibrate", "rounded_network"]


def rounded_network(
    spec: ModelSpec, state: Mapping[str, Tensor], target: str, pictures: Iterable[Tensor]
) -> RoundedSOLOv2:
    """Return the network that imitates an int8 artefact, on the GPU where there is one.

    Args:
        spec: the network.
        state: its trained weights, by the names of ``SOLOv2(spec).state_dict()``; batch counters may be missing.
        target: whose rules of rounding hold, one of :data:`~solov2_edge.qat_rules.RULES`.
        pictures: calibration pictures (1, 3, H, W) float, normalised, one at a time.

    Raises:
        InputError: an unknown target, the weights are another network's, or there are no pictures.
    """
    require(target in RULES, f"the target must be one of {', '.join(RULES)}, got {target!r}")
    network = RoundedSOLOv2(spec, RULES[target])
    own = network.state_dict()
    wrong = [k for k, v in own.items() if not k.endswith("num_batches_tracked") and _shape(state.get(k)) != v.shape]
    require(
        not wrong,
        f"fine-tuning for integers starts from weights of the same network and classes, but {len(wrong)} tensors "
        f"differ, for example {wrong[:1]}; train it first, without --qat",
    )
    network.load_state_dict(own | dict(state))
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    calibrate(network, pictures)
    return network


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def calibrate(network: RoundedSOLOv2, pictures: Iterable[Tensor]) -> None:
    """Give ``network`` the scales of all its places, from the float values of its present weights.

    Args:
        network: its scales are replaced.
        pictures: (1, 3, H, W) float, normalised, one at a time.

    Raises:
        InputError: there are no pictures, or a value is not finite.
    """
    counts: dict[str, ValueCounts] = defaultdict(ValueCounts)
    network.watch = lambda place, values: counts[place].add(values.float().cpu().numpy())
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            for picture in pictures:
                network(picture.to(device))
    finally:
        network.watch = None
    require(bool(counts), "calibration needs pictures, got none")
    method, symmetric = network.rules.method, network.rules.symmetric
    network.scales = {place: scale_of(*count.range(method), symmetric=symmetric) for place, count in counts.items()}
