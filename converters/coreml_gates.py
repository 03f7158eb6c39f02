"""The gates of a Core ML export: the saved package, executed by the program interpreter, against PyTorch.

Compressed weights are held to their own rounding of the float weights, worked out here from the float weights and
not from the package: a wrong scale, a wrong table or a wrong entry shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.coreml_compress import Convolution
from solov2_edge.converters.damping import DAMPING, OFFSET_WEIGHT
from solov2_edge.converters.mil_program import Program
from solov2_edge.converters.mil_session import MilSession
from solov2_edge.converters.mil_types import Value
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.errors import GateError

__all__ = ["check_weights", "convolution_weights", "judge_package"]

HALF = 2.0**-11  # largest relative error of rounding to float16
TABLE = {"palette6": 64, "palette4": 16}
TINY = 2.0**-24  # float16's smallest number


def judge_package(path: Path, probes: Probes, stage: str, precision: str) -> dict[str, float]:
    """Return the largest difference from PyTorch per output, as the interpreter runs the package on the probes.

    A network that no probe can judge at float32 is judged with its offsets held still, in the program as saved;
    see :mod:`solov2_edge.converters.damping`.

    Raises:
        GateError: parity is lost; the message names ``stage``.
    """
    with MilSession(path) as session:
        try:
            return probes.judge(stage, session.run, precision)
        except UnsteadyNetworkError:
            if precision != "fp32":
                raise
            session.program = _damped(session.program)
            return probes.damped().judge(stage, session.run, precision)


def _damped(program: Program) -> Program:
    mark = OFFSET_WEIGHT.replace(".", "_")
    constants = {
        name: Value(value.data * np.float32(DAMPING), value.kind) if mark in name else value
        for name, value in program.constants.items()
    }
    return replace(program, constants=constants)


def convolution_weights(path: Path) -> list[NDArray[np.float32]]:
    """Return the weights (O, C, kh, kw) of a saved package's convolutions in the order they run, decoded."""
    with MilSession(path) as session:
        return [
            _constant(session.program.constants, operation.inputs["weight"][0])
            for operation in session.program.operations
            if operation.kind == "conv"
        ]


def _constant(constants: Mapping[str, Value], source: str | Value) -> NDArray[np.float32]:
    value = constants[source] if isinstance(source, str) else source
    array: NDArray[np.float32] = value.data.float().numpy()
    return array


def check_weights(
    precision: str,
    found: tuple[Convolution, ...],
    floats: list[NDArray[np.float32]],
    decoded: list[NDArray[np.float32]],
) -> float:
    """Hold every compressed weight to its own rounding of the float weight.

    Args:
        precision: of the compressed package.
        found: the convolutions, in order.
        floats: the float32 package's weights.
        decoded: the compressed package's.

    Returns:
        The largest distance from the float weight as a part of what is allowed, at most 1.

    Raises:
        GateError: a weight is further away, or the packages differ in their convolutions.
    """
    shapes = [tuple(convolution.shape) for convolution in found]
    if not shapes == [w.shape for w in floats] == [w.shape for w in decoded]:
        raise GateError(f"compression to {precision} changed the convolutions themselves; nothing was written")
    worst = 0.0
    for convolution, exact, got in zip(found, floats, decoded, strict=True):
        allowed = _allowed(precision, convolution, exact, got)
        part = float((np.abs(got.astype(np.float64) - exact) / allowed).max())
        if not part <= 1:
            raise GateError(
                f"compression to {precision} moved a weight of {convolution.weight} {part:.3g} times as far as its "
                "own rounding allows; nothing was written"
            )
        worst = max(worst, part)
    return worst


def _allowed(
    precision: str, convolution: Convolution, exact: NDArray[np.float32], got: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how far each weight may be from the float one, of ``exact``'s shape."""
    rounding = np.abs(exact.astype(np.float64)) * HALF + TINY
    if not convolution.compressed:
        return rounding
    if precision in TABLE:
        table = np.unique(got)
        if len(table) > TABLE[precision]:
            return np.zeros_like(rounding)  # no table of that size holds these: nothing passes
        middle = (table[1:] + table[:-1]) / 2
        nearest = table[np.searchsorted(middle, exact)]
        return np.abs(exact.astype(np.float64) - nearest) + 2 * rounding
    out, channels = exact.shape[:2]
    four = precision == "int4" and not convolution.sensitive
    levels, block = (7, convolution.block) if four else (127, channels)
    grouped = np.abs(exact.astype(np.float64)).reshape(out, channels // block, -1)
    largest = grouped.max(axis=2, keepdims=True)
    step = largest / levels
    # Half a step; float16's own rounding of the weight; and of the scale, which counts once per step.
    limits = step / 2 + 2 * largest * HALF + levels * TINY
    return np.broadcast_to(limits, grouped.shape).reshape(exact.shape)
