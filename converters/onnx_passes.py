"""Graph passes over an exported ONNX model, each followed by a parity check against PyTorch.

The exporter already folds constants, removes dead nodes and stores shared weights once; only what it leaves is here.
Optimisers that rewrite more have folded coordinate maps to constants of the wrong value without a word, so no pass
goes unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from solov2_edge.converters.half import rounded_everywhere, to_half
from solov2_edge.converters.parity import bound_of, check, differences
from solov2_edge.errors import GateError
from solov2_edge.runtime.session import RawOutputs

__all__ = ["GraphPass", "Probe", "check_size", "measure", "passes_for", "run_passes", "strip_notes"]

# Names, shapes and attributes of a node or a weight cost up to a few hundred bytes each; lowered deformable
# convolutions add sampling grids, under one per cent of a network's weights.
OVERHEAD_PER_PART = 400  # bytes
OVERHEAD = 1.02

Probe = tuple[NDArray[Any], RawOutputs]
"""What the graph's input takes, and what PyTorch says of it."""


@dataclass(frozen=True, slots=True)
class GraphPass:
    """One rewriting of a graph.

    Attributes:
        name: what a failed check calls it.
        apply: takes a model, returns the rewritten one; may change its argument.
        bound: largest difference from PyTorch allowed from here on, as a part of the range.
    """

    name: str
    apply: Callable[[ModelProto], ModelProto]
    bound: float


def passes_for(precision: str) -> tuple[GraphPass, ...]:
    """Return the passes that turn a fresh float32 export into an artefact of ``precision`` (fp32 or fp16)."""
    passes = [GraphPass("stripping the exporter's notes", strip_notes, bound_of("fp32"))]
    if precision == "fp16":
        passes.append(GraphPass("the float16 pass", to_half, bound_of("fp16")))
    return tuple(passes)


def run_passes(
    model: ModelProto, passes: Sequence[GraphPass], probes: Sequence[Probe], log: Callable[[str], None]
) -> tuple[ModelProto, dict[str, float]]:
    """Apply ``passes`` in order, checking parity in ONNX Runtime after each.

    Args:
        model: the graph as exported; it may be changed.
        passes: what to do, in order.
        probes: inputs and PyTorch's outputs for them.
        log: called with one line per pass.

    Returns:
        The last model and its differences from PyTorch per output.

    Raises:
        GateError: a difference is above the pass's bound, or ONNX Runtime refuses the graph; it names the pass.
    """
    measured: dict[str, float] = {}
    for step in passes:
        model = step.apply(model)
        measured = measure(model, probes, step.name)
        check(step.name, measured, step.bound)
        log(f"{step.name}: {len(model.graph.node)} nodes, {max(measured.values()):.1e} of range from PyTorch")
    return model, measured


def measure(model: ModelProto, probes: Sequence[Probe], stage: str) -> dict[str, float]:
    """Return the largest difference from PyTorch per output over ``probes``, as ONNX Runtime runs ``model``.

    A float16 graph is run a second time with every value rounded, and the worse of the two counts.

    Raises:
        GateError: ONNX Runtime cannot load or run it; the message names ``stage``.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: hints about optimisation are not the user's business
    worst = _measure_as(model, options, probes, stage)
    if any(weight.data_type == TensorProto.FLOAT16 for weight in model.graph.initializer):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        rounded = _measure_as(rounded_everywhere(model), options, probes, stage)
        worst = {output: max(value, rounded[output]) for output, value in worst.items()}
    return worst


def _measure_as(
    model: ModelProto, options: onnxruntime.SessionOptions, probes: Sequence[Probe], stage: str
) -> dict[str, float]:
    worst: dict[str, float] = {}
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        runs = [session.run(None, {name: batch}) for batch, _ in probes]
    except Exception as error:
        raise GateError(f"ONNX Runtime cannot run the graph after {stage}: {error}; nothing was written") from error
    for outputs, (_, reference) in zip(runs, probes, strict=True):
        for output, value in differences(RawOutputs(*outputs), reference).items():
            worst[output] = max(worst.get(output, 0.0), value)
    return worst


def strip_notes(model: ModelProto) -> ModelProto:
    """Remove what the exporter noted on every node: source lines, stack traces, paths of the exporting machine.

    A tenth of a small model's bytes, and nobody's business. Intermediate shapes go too: engines infer them.
    """
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    return model


def check_size(model: ModelProto, parameters: int, width: int) -> None:
    """Raise :class:`GateError` unless every weight is stored once.

    The head runs on five levels; an exporter or a pass that copies its weights per level makes the file far larger.

    Args:
        model: the finished graph.
        parameters: numbers the traced network holds, its constants included.
        width: bytes per number: 4 for float32, 2 for float16.
    """
    parts = len(model.graph.node) + len(model.graph.initializer)
    limit = int(OVERHEAD * width * parameters) + OVERHEAD_PER_PART * parts
    size = model.ByteSize()
    if size > limit:
        weights = {weight.name: onnx.numpy_helper.to_array(weight).nbytes for weight in model.graph.initializer}
        largest = sorted(weights, key=lambda name: -weights[name])[:3]
        raise GateError(
            f"the graph takes {size} bytes where its {parameters} numbers and {parts} parts allow {limit}: weights are "
            f"stored more than once (largest: {', '.join(largest)}); nothing was written"
        )
