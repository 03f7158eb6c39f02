"""What goes into an engine and what comes out, checked against the manifest in the same way for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.session import DecodedOutputs, Outputs, RawOutputs

__all__ = [
    "check_batch",
    "check_outputs",
    "check_threads",
    "engine_outputs",
    "input_layout",
    "output_is_whole",
    "output_shapes",
    "undecoded",
]

MAX_THREADS = 1024  # more than any machine has cores; engines try to start as many as they are asked for
MASK_STRIDE = 4  # input pixels per mask feature pixel


def input_layout(contract: InputContract) -> tuple[tuple[int, int, int, int], str]:
    """Return the shape and the dtype name of the one input."""
    if contract.kind == "image":
        return (1, contract.height, contract.width, 3), "uint8"
    return (1, 3, contract.height, contract.width), "float32"


def output_shapes(manifest: Manifest) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the outputs, in the manifest's order, without a leading 1 for the batch."""
    spec, contract = manifest.spec, manifest.input
    size = contract.height // MASK_STRIDE, contract.width // MASK_STRIDE
    if manifest.decode is not None:
        rows = manifest.decode.max_instances
        return (rows,), (rows,), (rows, *size)
    return (
        (spec.num_cells, spec.num_classes),
        (spec.num_cells, spec.kernel_length),
        (spec.feature_channels, *size),
        *([(len(spec.stuff_names) + 1, *size)] if spec.stuff_names else []),
    )


def output_is_whole(manifest: Manifest) -> tuple[bool, ...]:
    """Return which of the outputs holds whole numbers (int32): the labels of a graph that decodes."""
    return False, manifest.decode is not None, *(False for _ in manifest.outputs[2:])


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


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that no engine can take; None leaves it to the engine.

    Raises:
        InputError: it is neither None nor an integer from 1 to :data:`MAX_THREADS`.
    """
    require(
        threads is None or (isinstance(threads, int) and not isinstance(threads, bool) and 1 <= threads <= MAX_THREADS),
        f"threads must be an integer from 1 to {MAX_THREADS}, got {threads!r}",
    )


def engine_outputs(arrays: Sequence[NDArray[Any]], manifest: Manifest) -> Outputs:
    """Turn an engine's arrays into what a session returns: batch dimension dropped, float32 and int32.

    Args:
        arrays: in the manifest's order; float16 or float32, and whole numbers for labels; with or without a leading 1.
        manifest: what the artefact promises.

    Raises:
        InputError: a shape differs from the manifest's.
        SolovEdgeError: scores of a graph that decodes which are not falling.
    """
    shapes, whole = output_shapes(manifest), output_is_whole(manifest)
    plain: list[NDArray[Any]] = []
    for name, array, shape, integers in zip(manifest.outputs, arrays, shapes, whole, strict=True):
        require(
            array.shape in (shape, (1, *shape)),
            f"output {name!r} has shape {array.shape}, its manifest promises {shape}; convert the checkpoint again",
        )
        plain.append(np.ascontiguousarray(array.reshape(shape), np.int32 if integers else np.float32))
    return RawOutputs(*plain) if manifest.decode is None else DecodedOutputs(*plain)


def check_outputs(outputs: Outputs, manifest: Manifest) -> None:
    """Refuse outputs that do not belong to the manifest.

    Raises:
        InputError: raw outputs where the graph decodes or the other way about, or a shape differs.
    """
    wanted = "DecodedOutputs" if manifest.decode is not None else "RawOutputs"
    require(
        isinstance(outputs, DecodedOutputs) == (manifest.decode is not None),
        f"the manifest promises {wanted}, got {type(outputs).__name__}",
    )
    shapes: tuple[tuple[int, ...], ...]
    if isinstance(outputs, DecodedOutputs):
        shapes = (outputs.scores.shape, outputs.labels.shape, outputs.masks.shape)
    else:
        shapes = (outputs.class_scores.shape, outputs.kernels.shape, outputs.mask_features.shape)
        shapes += () if outputs.semantic_logits is None else (outputs.semantic_logits.shape,)
    expected = output_shapes(manifest)
    require(shapes == expected, f"{type(outputs).__name__} of shapes {shapes}, their manifest promises {expected}")


def undecoded(outputs: Outputs) -> RawOutputs:
    """Return raw outputs as they are.

    Raises:
        InputError: they are those of a graph that decodes.
    """
    if isinstance(outputs, RawOutputs):
        return outputs
    raise InputError(
        "this artefact decodes inside its graph and has no raw outputs; convert again with --decode host, or call the "
        "segmenter for instances"
    )
