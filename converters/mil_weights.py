"""The weights of a saved package as its program sees them, and whether each is within its own rounding."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_ops_quant import along, blockwise
from solov2_edge.converters.mil_package import read_package
from solov2_edge.converters.mil_precision import narrow
from solov2_edge.converters.mil_program import Operation, Program, read_program
from solov2_edge.converters.mil_types import KINDS, Value
from solov2_edge.errors import InputError, require

__all__ = ["excess", "plain_name", "steps", "weights"]

# What coremltools appends to a weight's name when it changes how it is stored.
HALF = 2.0**-11  # float16's relative rounding
SUFFIXES = ("_quantized", "_palettized", "_sparsified", "_to_fp16")


def plain_name(name: str) -> str:
    """Return a constant's name without what coremltools appends for float16 and for compression."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return plain_name(name.removesuffix(suffix))
    return name


def weights(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float32]]:
    """Return every float constant with at least one dimension, decoded, by its plain name.

    Raises:
        InputError: the package is damaged or uses what the interpreter does not know.
    """
    constants = _program(path).constants
    return {
        plain_name(name): value.data.numpy()
        for name, value in constants.items()
        if value.kind in ("fp16", "fp32") and value.data.dim() > 0
    }


def steps(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float32]]:
    """Return how far apart neighbouring values are that each element of each compressed weight could have taken.

    Returns:
        Plain name -> array of the weight's shape: the scale, or for a palette the wider gap beside the chosen entry.
    """
    program = _program(path)
    return {plain_name(op.outputs[0][0]): _steps(op, program).numpy() for op in program.compressed}


def excess(path: str | os.PathLike[str], references: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return by how much compression moved each weight farther than to the nearest value that it can take.

    Args:
        path: the package.
        references: plain name -> float weight of the same shape.

    Returns:
        Plain name of every compressed weight -> the largest excess of any element, in steps as :func:`steps` has
        them. 0 is perfect; that scales and products are float16 costs up to a quarter of a step at int8.

    Raises:
        InputError: a compressed weight has no reference of its shape, or is pruned, which is no rounding.
    """
    program, found = _program(path), {}
    for operation in program.compressed:
        name, decoded = plain_name(operation.outputs[0][0]), program.constants[operation.outputs[0][0]].data
        reference = torch.from_numpy(np.asarray(references.get(name, np.zeros(0)), np.float32))
        require(
            reference.shape == decoded.shape,
            f"compressed weight {name!r} has shape {tuple(decoded.shape)}, the float network offers "
            f"{tuple(reference.shape) if name in references else 'nothing of that name'}",
        )
        nearest = _nearest(_arguments(operation, program), operation, reference)
        farther = (decoded - reference).abs() - (nearest - reference).abs()
        # Where neighbouring values coincide a step is 0; float16's own rounding then stands in for it.
        found[name] = float((farther / _steps(operation, program).clamp(min=float(decoded.abs().max()) * HALF)).max())
    return found


def _program(path: str | os.PathLike[str]) -> Program:
    package = read_package(path)
    return read_program(package.model, package.folder)


def _arguments(operation: Operation, program: Program) -> Arguments:
    """Return the inputs of an op that has run once already, so that every name is known."""
    constants = program.constants
    given = {
        name: [source if isinstance(source, Value) else constants[source] for source in sources]
        for name, sources in operation.inputs.items()
    }
    return Arguments(operation.what, given)


def _steps(operation: Operation, program: Program) -> Tensor:
    a, decoded = _arguments(operation, program), program.constants[operation.outputs[0][0]].data
    if "lut" not in operation.inputs:
        return _grid(a, decoded.shape)[0].expand(decoded.shape).contiguous()
    step = torch.empty_like(decoded)
    for places, entries in _tables(a, decoded.shape):
        gaps = entries.diff()
        wider = torch.maximum(torch.cat([gaps[:1], gaps]), torch.cat([gaps, gaps[-1:]]))  # outer ones have one gap
        step[places] = wider[torch.searchsorted(entries, decoded[places])]
    return step


def _nearest(a: Arguments, operation: Operation, reference: Tensor) -> Tensor:
    """Return for every element the value nearest to it that its scale or table allows."""
    if "lut" in operation.inputs:
        nearest = torch.empty_like(reference)
        for places, entries in _tables(a, reference.shape):
            wanted = reference[places]
            above = torch.searchsorted(entries, wanted).clamp(1, len(entries) - 1)
            low, high = entries[above - 1], entries[above]
            nearest[places] = torch.where(wanted - low <= high - wanted, low, high)
        return nearest
    scale, zero, kind = _grid(a, reference.shape)
    bits, signed = KINDS[kind].bits, KINDS[kind].signed
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    level = torch.round(reference / scale + zero).clamp(lowest, highest)
    return narrow((level - zero) * scale, a.value("scale").kind)


def _grid(a: Arguments, shape: torch.Size) -> tuple[Tensor, Tensor, str]:
    """Return scale and zero point, which broadcast to ``shape``, and the kind of the integers."""
    if a.has("quantized_data"):
        data, axis = a.value("quantized_data"), a.integer("axis")
        scale = along(a, a.tensor("scale"), data.data, axis)
        return scale, along(a, a.tensor("zero_point").float(), data.data, axis), data.kind
    if not a.has("data"):
        raise InputError(f"{a.what} is pruned or cast, which is no rounding to a grid")
    scale = blockwise(a, a.tensor("scale"), shape)
    zero = blockwise(a, a.tensor("offset").float(), shape) if a.has("offset") else torch.zeros(())
    return scale, zero, a.value("data").kind


def _tables(a: Arguments, shape: torch.Size) -> list[tuple[Tensor, Tensor]]:
    """Return per lookup table which elements use it, as a mask of ``shape``, and its entries, sorted."""
    table = a.tensor("lut")
    if table.dim() == 1:
        return [(torch.ones(shape, dtype=torch.bool), table.sort().values)]
    count = table.shape[-2]
    rows = table.reshape(-1, count)
    owner = blockwise(a, torch.arange(len(rows)).reshape(table.shape[:-2]), shape)
    return [(owner == number, row.sort().values) for number, row in enumerate(rows)]
