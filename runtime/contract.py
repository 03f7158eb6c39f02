"""What goes into an engine and what comes out, checked against the manifest in the same way for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.session import RawOutputs

__all__ = ["check_batch", "check_raw", "input_layout", "output_shapes", "raw_outputs"]

MASK_STRIDE = 4  # input pixels per mask feature pixel


def input_layout(contract: InputContract) -> tuple[tuple[int, int, int, int], str]:
    """Return the shape and the dtype name of the one input."""
    if contract.kind == "image":
        return (1, contract.height, contract.width, 3), "uint8"
    return (1, 3, contract.height, contract.width), "float32"


def output_shapes(manifest: Manifest) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of class scores, kernels and mask features, without a leading 1 for the batch."""
    spec, contract = manifest.spec, manifest.input
    return (
        (spec.num_cells, spec.num_classes),
        (spec.num_cells, spec.mask_channels),
        (spec.mask_channels, contract.height // MASK_STRIDE, contract.width // MASK_STRIDE),
    )


def check_batch(batch: NDArray[Any], contract: InputContract) -> None:
    """Refuse a batch that is not what the artefact takes.

    Raises:
        InputError: shape or dtype differ.
    """
    shape, dtype = input_layout(contract)
    good = isinstance(batch, np.ndarray) and batch.shape == shape and batch.dtype == dtype
    if not good:
        got = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
        raise InputError(f"the artefact takes a {dtype} batch {shape}, got {got}; make it with preprocess()")


def raw_outputs(arrays: Sequence[NDArray[Any]], manifest: Manifest) -> RawOutputs:
    """Turn an engine's three arrays into RawOutputs: batch dimension dropped, float32.

    Args:
        arrays: class scores, kernels and mask features, float16 or float32, with or without a leading 1.
        manifest: what the artefact promises.

    Raises:
        InputError: a shape differs from the manifest's.
    """
    shapes = output_shapes(manifest)
    plain = []
    for name, array, shape in zip(manifest.outputs, arrays, shapes, strict=True):
        require(
            array.shape in (shape, (1, *shape)),
            f"output {name!r} has shape {array.shape}, its manifest promises {shape}; convert the checkpoint again",
        )
        plain.append(np.ascontiguousarray(array.reshape(shape), np.float32))
    return RawOutputs(*plain)


def check_raw(raw: RawOutputs, manifest: Manifest) -> None:
    """Refuse raw outputs that do not belong to the manifest.

    Raises:
        InputError: a shape differs.
    """
    shapes = (raw.class_scores.shape, raw.kernels.shape, raw.mask_features.shape)
    expected = output_shapes(manifest)
    require(shapes == expected, f"raw outputs have shapes {shapes}, their manifest promises {expected}")
