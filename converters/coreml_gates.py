"""The gates of a Core ML export: the saved package, executed by the program interpreter, against PyTorch.

Compressed weights are held to their own rounding of the float weights, worked out here from the float weights and
not from the package: a wrong scale, a wrong table or a wrong entry shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.coreml_compress import Convolution
from solov2_edge.converters.damping import DAMPING, OFFSET_WEIGHT
from solov2_edge.converters.mil_program import Program
from solov2_edge.converters.mil_session import MilSession
from solov2_edge.converters.mil_types import Value
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.errors import GateError
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.session import RawOutputs

__all__ = [
    "check_compression",
    "check_rest",
    "check_weights",
    "convolution_weights",
    "judge_package",
    "measure_package",
]

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
            return probes.judge(stage, _raw_of(session), precision)
        except UnsteadyNetworkError:
            if precision != "fp32":
                raise
            session.program = _damped(session.program)
            return probes.damped().judge(stage, _raw_of(session), precision)


def _raw_of(session: MilSession) -> Callable[[NDArray[Any]], RawOutputs]:
    return lambda batch: undecoded(session.run(batch))


def _damped(program: Program) -> Program:
    mark = OFFSET_WEIGHT.replace(".", "_")
    constants = {
        name: Value(value.data * np.float32(DAMPING), value.kind) if mark in name else value
        for name, value in program.constants.items()
    }
    return replace(program, constants=constants)


def measure_package(path: Path, probes: Probes, stage: str, precision: str) -> dict[str, float]:
    """Return the differences as :func:`judge_package` does, with no bound but that they are finite.

    Raises:
        GateError: an output holds NaN or infinity; the message names ``stage``.
    """
    with MilSession(path) as session:
        worst = probes.measure(_raw_of(session))
    if not all(np.isfinite(value) for value in worst.values()):
        raise GateError(f"{precision} outputs hold NaN or infinity after {stage}; nothing was written")
    return worst


def check_compression(precision: str, found: Sequence[Convolution], exact: Path, half: Path, package: Path) -> float:
    """Hold every compressed weight to its own rounding of the float weight, and all else to the float16 package.

    Args:
        precision: of the compressed package.
        found: the convolutions, in order.
        exact: the saved float32 package.
        half: the saved float16 package.
        package: the saved compressed package.

    Returns:
        The largest distance of a weight from the float one as a part of what is allowed, at most 1.

    Raises:
        GateError: a weight is further away, or something else changed.
    """
    with MilSession(exact) as one, MilSession(half) as two, MilSession(package) as three:
        floats, program, compressed = one.program, two.program, three.program
        if precision != "w8a8":  # quantised activations are new operators
            check_rest(program, compressed, precision)
        return check_weights(precision, found, convolution_weights(floats), convolution_weights(compressed))


def check_rest(program: Program, compressed: Program, precision: str) -> None:
    """Refuse a compressed program that differs from the float16 one in more than the convolutions' weights."""
    mine, theirs = (list(_shape_of(each)) for each in (program, compressed))
    if len(mine) != len(theirs):
        raise GateError(f"compression to {precision} changed the program's operators; nothing was written")
    for expected, got in zip(mine, theirs, strict=True):
        if expected != got:
            raise GateError(f"compression to {precision} changed {expected[0]}; nothing was written")


def _shape_of(program: Program) -> Iterator[tuple[Any, ...]]:
    """Yield each operator with all its inputs, constants by value, except the weights of convolutions."""
    for operation in program.operations:
        inputs = []
        for name, sources in sorted(operation.inputs.items()):
            if operation.kind != "conv" or name != "weight":
                inputs.append((name, *(_comparable(program.constants, source) for source in sources)))
        yield operation.what, operation.outputs, inputs


def _comparable(constants: Mapping[str, Value], source: str | Value) -> Any:
    value = source if isinstance(source, Value) else constants.get(source)
    if value is None:
        return source
    return value.type, value.data if isinstance(value.data, str) else value.data.numpy().tobytes()


def convolution_weights(program: Program) -> list[NDArray[np.float32]]:
    """Return the weights (O, C, kh, kw) of a program's convolutions in the order they run, decoded."""
    weights = []
    for operation in program.operations:
        if operation.kind == "conv":
            source = operation.inputs["weight"][0]
            value = source if isinstance(source, Value) else program.constants[source]
            weights.append(value.data.float().numpy())
    return weights


def check_weights(
    precision: str,
    found: Sequence[Convolution],
    floats: Sequence[NDArray[np.float32]],
    decoded: Sequence[NDArray[np.float32]],
) -> float:
    """Return the largest distance of a decoded weight from the float one as a part of what is allowed.

    Raises:
        GateError: it is more than 1, or the convolutions differ in number or shape.
    """
    shapes = [convolution.shape for convolution in found]
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
            return rounding  # no table of that size holds these
        middle = (table[1:] + table[:-1]) / 2
        nearest = table[np.searchsorted(middle, exact)]
        # Entries are rounded to float16 after the nearest was chosen.
        return np.abs(exact.astype(np.float64) - nearest) + 2 * (rounding + np.abs(got) * HALF)
    out, channels = exact.shape[:2]
    four = precision == "int4" and not convolution.sensitive
    levels, block = (7, convolution.block) if four else (127, channels)
    grouped = np.abs(exact.astype(np.float64)).reshape(out, channels // block, -1)
    largest = grouped.max(axis=2, keepdims=True)
    step = largest / levels
    # Half a step; float16's own rounding of the weight; and of the scale, which counts once per step.
    limits = step / 2 + 2 * largest * HALF + levels * TINY
    return np.broadcast_to(limits, grouped.shape).reshape(exact.shape)
