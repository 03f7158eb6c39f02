"""The gate before any exporter has a say: the rewritten network against the original, both in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from solov2_edge.converters.damping import DAMPING, OFFSET_WEIGHT
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.converters.traceable import Traceable

__all__ = ["judge_rewriting", "offset_weights"]


def judge_rewriting(traceable: Traceable, probes: Probes, say: Callable[[str], None]) -> None:
    """Check folding, constant coordinates and lowered operators.

    A network that no probe can judge at float32 is judged with its offsets held still; see
    :mod:`solov2_edge.converters.damping`.

    Raises:
        GateError: the rewritten network computes something else.
    """
    stage = "rewriting the network for export"
    try:
        probes.judge(stage, traceable.run, "fp32")
    except UnsteadyNetworkError:
        say("rounding alone moves this network beyond the bound: parity is judged with its offsets held still")
        damped = copy.deepcopy(traceable)
        for weight in offset_weights(damped):
            weight *= DAMPING
        probes.damped().judge(stage, damped.run, "fp32")


def offset_weights(traceable: Traceable) -> list[torch.Tensor]:
    """Return the weights (O, I, 3, 3) of the convolutions that predict offsets, as the rewritten network holds them."""
    return [weight.data for name, weight in traceable.named_parameters() if name.endswith(OFFSET_WEIGHT)]
