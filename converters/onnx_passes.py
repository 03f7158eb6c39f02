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
from onnx import ModelProto

from solov2_edge.converters.damping import damped_graph
from solov2_edge.converters.half import rounded_everywhere, to_half
from solov2_edge.converters.onnx_rewrites import fold_division, split_constant_channels
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.errors import GateError
from solov2_edge.runtime.session import RawOutputs

__all__ = ["GraphPass", "check_size", "judge", "measure", "passes_for", "run_passes", "runner", "strip_notes"]

# Names, shapes and attributes of a node or a weight cost up to a few hundred bytes each; lowered deformable
# convolutions add sampling grids, under one per cent of a network's weights.
OVERHEAD_PER_PART = 400  # bytes
OVERHEAD = 1.02


@dataclass(frozen=True, slots=True)
class GraphPass:
    """One rewriting of a graph.

    Attributes:
        name: what a failed check calls it.
        apply: takes a model, returns the rewritten one; may change its argument.
        precision: whose bound holds from here on.
    """

    name: str
    apply: Callable[[ModelProto], ModelProto]
    precision: str


def passes_for(precision: str) -> tuple[GraphPass, ...]:
    """Return the passes that turn a fresh float32 export into an artefact of ``precision`` (fp32 or fp16)."""
    passes = [
        GraphPass("stripping the exporter's notes", strip_notes, "fp32"),
        GraphPass("taking coordinates out of convolutions", split_constant_channels, "fp32"),
        GraphPass("folding the division of pixels", fold_division, "fp32"),
    ]
    if precision == "fp16":
        passes.append(GraphPass("the float16 pass", to_half, "fp16"))
    return tuple(passes)


def run_passes(
    model: ModelProto, passes: Sequence[GraphPass], probes: Probes, log: Callable[[str], None]
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
        measured = judge(model, probes, step.name, step.precision)
        log(f"{step.name}: {len(model.graph.node)} nodes, {max(measured.values()):.1e} of range from PyTorch")
    return model, measured


def judge(model: ModelProto, probes: Probes, stage: str, precision: str) -> dict[str, float]:
    """Return the largest difference from PyTorch per output, as ONNX Runtime runs ``model`` on the probes.

    A float16 graph is run a second time with every value rounded, and the worse of the two counts. A network that no
    probe can judge at float32 is judged with its offsets held still; see :mod:`solov2_edge.converters.damping`.

    Raises:
        GateError: parity is lost, or ONNX Runtime cannot load or run the graph; the message names ``stage``.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: hints about optimisation are not the user's business
    try:
        worst = probes.judge(stage, runner(model, options, stage), precision)
    except UnsteadyNetworkError:
        if precision != "fp32":
            raise
        return probes.damped().judge(stage, runner(damped_graph(model), options, stage), precision)
    if precision == "fp16":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        rounded = probes.judge(stage, runner(rounded_everywhere(model), options, stage), precision)
        worst = {output: max(value, rounded[output]) for output, value in worst.items()}
    return worst


def measure(model: ModelProto, probes: Probes) -> dict[str, float]:
    """Return the largest difference from PyTorch per output on the probes, judging nothing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return probes.measure(runner(model, options, "measuring it on the probes"))


def runner(model: ModelProto, options: onnxruntime.SessionOptions, stage: str) -> Callable[[NDArray[Any]], RawOutputs]:
    """Return what runs ``model`` in ONNX Runtime; where that fails it raises GateError, which names ``stage``."""

    def attempt(what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:
            raise GateError(f"ONNX Runtime cannot run the graph after {stage}: {error}; nothing was written") from error

    data = model.SerializeToString()
    session = attempt(lambda: onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]))
    name = session.get_inputs()[0].name
    return lambda batch: RawOutputs(*attempt(lambda: session.run(None, {name: batch})))


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
