"""From a proven float32 graph to 8 bits, with a gate after each step; and the same for many choices of float layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from solov2_edge.converters.damping import damped_graph
from solov2_edge.converters.noise_gate import judge_noise
from solov2_edge.converters.onnx_census import EITHER, check_weights
from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_islands import layer_names
from solov2_edge.converters.onnx_passes import judge, runner
from solov2_edge.converters.onnx_quantise import FORMS, count_for, finish, quantise
from solov2_edge.converters.onnx_rounding import on_steps, with_weights
from solov2_edge.converters.onnx_stem import stem_by_pixel_groups
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.converters.value_ranges import ValueCounts

__all__ = ["Int8Builder", "int8_builder", "judge_int8"]

# target -> how many of the first layers stay float. Pictures of faint contrast are wiped out by 8 bits that a zero in
# the middle shares out over all pixel values; uint8 of any zero keeps them, all but or exactly.
FLOAT_FIRST = {"cpu": 0, "tensorrt": 1, "openvino": 0}
EVERY = 4  # every so many-th calibration picture is what weights are rounded by
STEM_BOUND = "fp16"  # precision whose bound holds for a picture surrounded by whole pixel values


@dataclass(frozen=True, slots=True)
class Int8Builder:
    """A float32 graph with its calibration, to be written with any layers kept float.

    Attributes:
        prepared: the float32 graph in the form of the target.
        counts: of its values.
        target: one of :data:`~solov2_edge.converters.onnx_quantise.ENGINES`.
        layers: that can be kept float, in the order they run; those that always are do not count.
        islands: layers that always are float.
        weights: by name, on the steps they are rounded to; see :mod:`solov2_edge.converters.weight_rounding`.
        batches: gives the calibration inputs, the same ones at each call.
    """

    prepared: ModelProto
    counts: Mapping[str, ValueCounts]
    target: str
    layers: tuple[str, ...]
    islands: frozenset[str]
    weights: Mapping[str, NDArray[np.float32]]
    batches: Callable[[], Iterable[NDArray[Any]]]

    def build(self, keep_float: frozenset[str] = frozenset(), *, method: str | None = None) -> ModelProto:
        """Return the graph in 8 bits but for the layers ``keep_float``; see :func:`quantise` for what it raises.

        With all layers kept float it is the float graph, the other end of what sensitivity is measured between.
        """
        if keep_float == frozenset(self.layers):
            return self.prepared
        kept = keep_float | self.islands
        moved = with_weights(self.prepared, self.weights, kept)
        result = quantise(moved, self.counts, self.target, keep_float=kept, method=method)
        check_weights(self.prepared, result, EITHER)
        return finish(result, self.target)

    def judge(self, quantised: ModelProto, stage: str = "going to int8") -> dict[str, float]:
        """Compare an 8-bit graph with its float original; see :func:`judge_int8`."""
        return judge_int8(self.prepared, quantised, self.batches(), stage)


def int8_builder(
    graph: ModelProto,
    batches: Callable[[], Iterable[NDArray[Any]]],
    target: str,
    probes: Probes,
    *,
    log: Callable[[str], None] | None = None,
) -> Int8Builder:
    """Bring a float32 graph into the form of ``target``, gated step by step, calibrate it and round its weights.

    Raises:
        InputError: there are no calibration pictures.
        GateError: parity is lost at a step.
    """
    for step in FORMS[target]:
        before, graph = graph, step(graph)
        if step is stem_by_pixel_groups:
            _judge_stem(graph, probes)
        elif graph.SerializeToString() != before.SerializeToString():
            judge(graph, probes, f"the pass {step.__name__}", "fp32")
    counts, layers = count_for(graph, batches(), log=log), layer_names(Graph(graph))
    islands = frozenset(layers[: FLOAT_FIRST[target]])
    nearest = quantise(graph, counts, target, keep_float=islands)
    weights = on_steps(graph, nearest, islice(batches(), None, None, EVERY))
    if log is not None:
        log(f"rounded {len(weights)} weights by what their layers compute of the pictures")
    return Int8Builder(graph, counts, target, tuple(layers[len(islands) :]), islands, weights, batches)


def _judge_stem(graph: ModelProto, probes: Probes) -> None:
    stage, options = "grouping the picture's pixels", onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        probes.judge(stage, runner(graph, options, stage), STEM_BOUND)
    except UnsteadyNetworkError:
        probes.damped().judge(stage, runner(damped_graph(graph), options, stage), STEM_BOUND)


def judge_int8(
    original: ModelProto, quantised: ModelProto, batches: Iterable[NDArray[Any]], stage: str
) -> dict[str, float]:
    """Compare an 8-bit graph with its float original on pictures of the kind it was calibrated for.

    Args:
        original: the float32 graph, itself judged against PyTorch.
        quantised: its 8-bit form.
        batches: calibration inputs, of which the first few are taken.
        stage: what was just done, for the message.

    Returns:
        The largest difference per output, as a part of the range.

    Raises:
        GateError: an output is too noisy, see :func:`~solov2_edge.converters.noise_gate.judge_noise`, or ONNX Runtime
            cannot run the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    exact, rounded = (runner(graph, options, stage) for graph in (original, quantised))
    return judge_noise(exact, rounded, batches, stage, "int8")
