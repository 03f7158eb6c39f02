"""Scale, shift and ReLU of group normalisation written into the rounding that follows it.

What stands between a normalisation and an integer convolution is round(relu(scale * x + shift) / step). With a step
and a zero of its own per channel, QuantizeLinear computes all of it: x / (step / scale) + zero, cut off below at the
integer 0. Two passes over every map less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from solov2_edge.converters.onnx_graph import Graph

__all__ = ["norms_into_rounding"]

CANDIDATES = 257  # offsets tried per group, so that the channels' zeros are nearly whole numbers together
SMALLEST = 1e-3  # of the largest scale: below, a channel's step would be too coarse to write the others' offset in


def norms_into_rounding(model: ModelProto) -> ModelProto:
    """Rewrite InstanceNormalization, Reshape, Mul, Add, QuantizeLinear without the Mul and the Add where that is exact.

    Integers cannot mean less than 0, so a negative shift has no zero of its own: the normalised values of a group are
    first raised by one number, in the normalisation's own bias, and every channel's zero lowered by as much. Where
    scales are not positive, or a zero does not fit, the graph stays as it is.
    """
    graph = Graph(model)
    for rounding in graph.of_type("QuantizeLinear"):
        add = graph.producer(rounding.input[0])
        mul = None if add is None or add.op_type != "Add" else graph.producer(add.input[0])
        reshape = None if mul is None or mul.op_type != "Mul" else graph.producer(mul.input[0])
        norm = None if reshape is None or reshape.op_type != "Reshape" else graph.producer(reshape.input[0])
        if add is None or mul is None or reshape is None or norm is None or norm.op_type != "InstanceNormalization":
            continue
        if any(graph.uses(node.output[0]) != 1 for node in (norm, reshape, mul, add)):
            continue
        scale, shift = graph.constant(mul.input[1]), graph.constant(add.input[1])
        step, zero = graph.constant(rounding.input[1]), graph.constant(rounding.input[2])
        unit, offset = graph.constant(norm.input[1]), graph.constant(norm.input[2])
        if any(value is None for value in (scale, shift, step, zero, unit, offset)):
            continue
        assert scale is not None and shift is not None and step is not None  # noqa: PT018 - seen above
        assert zero is not None and unit is not None and offset is not None  # noqa: PT018 - seen above
        if zero.dtype != np.uint8 or zero.any() or (unit != 1).any() or offset.any():
            continue
        found = _zeros(scale.ravel().astype(np.float64), shift.ravel() / float(step), float(step), unit.size)
        if found is None:
            continue
        raised, zeros = found
        name = rounding.output[0]
        graph.store(f"{name}_raised", raised)
        graph.store(f"{name}_steps", (float(step) / scale.ravel().astype(np.float64)).astype(np.float32))
        graph.store(f"{name}_zeros", zeros)
        new_norm = NodeProto()
        new_norm.CopyFrom(norm)
        new_norm.input[2] = f"{name}_raised"
        inputs = [reshape.output[0], f"{name}_steps", f"{name}_zeros"]
        new = helper.make_node("QuantizeLinear", inputs, [name], name=rounding.name, axis=1)
        graph.replace(norm, [new_norm])
        graph.replace(rounding, [new])
        graph.remove(mul, add)
    return graph.finish()


def _zeros(
    scale: NDArray[np.float64], shift: NDArray[np.float64], step: float, groups: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
    """Return what each group's values are raised by and each channel's zero, None where there is no such pair.

    A value raised by r comes out of scaling r * scale / step too high; the zero takes it back, so it must be the
    whole number nearest to shift - r * scale / step... with the sign that QuantizeLinear adds.

    Args:
        scale: (C,) of the normalisation.
        shift: (C,) of it, in steps.
        step: of the rounded values.
        groups: of the normalisation.
    """
    if scale.min() <= SMALLEST * scale.max():
        return None
    slopes, shifts = (value.reshape(groups, -1) for value in (scale / step, shift))
    lowest = np.maximum(-shifts / slopes, 0).max(1)  # from here on all zeros of a group are at least 0
    # One more step of the steepest channel covers every fraction its zero can have.
    tries = lowest[:, None] + np.linspace(0, 1, CANDIDATES) / slopes.max(1)[:, None] * 4
    exact = tries[..., None] * slopes[:, None] + shifts[:, None]  # (groups, tries, channels)
    best = np.square(exact - np.rint(exact)).sum(2).argmin(1)
    chosen = exact[np.arange(groups), best]
    zeros = np.rint(chosen)
    if zeros.min() < 0 or zeros.max() > 255:
        return None
    return -tries[np.arange(groups), best].astype(np.float32), zeros.ravel().astype(np.uint8)
