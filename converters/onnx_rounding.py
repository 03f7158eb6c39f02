"""Weights of a float graph put on 8-bit steps by what their layers compute of calibration pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_islands import layer_of
from solov2_edge.converters.scale import WEIGHT_LIMIT
from solov2_edge.converters.weight_rounding import round_by_moments

__all__ = ["input_moments", "on_steps", "with_weights"]

POSITIONS = 256  # of a map that are looked at per picture, drawn once for each size of map


@dataclass(frozen=True, slots=True)
class _Watched:
    """An integer convolution: its weight, what it takes after rounding, and how it takes it."""

    weight: str
    source: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]


def on_steps(
    prepared: ModelProto, quantised: ModelProto, batches: Iterable[NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Return the weights of every integer convolution on the steps they will be rounded to, by name.

    Rounding them to the nearest step, as :func:`~solov2_edge.converters.scale.quantise_weight` does, then changes
    nothing.

    Args:
        prepared: the float graph.
        quantised: its 8-bit form with every weight at the nearest step.
        batches: calibration inputs.
    """
    before, after = Graph(prepared), Graph(quantised)
    found = {}
    for name, moments in input_moments(quantised, batches).items():
        exact, steps = before.constant(name), after.constant(f"{name}_step")
        assert exact is not None  # the weight was rounded from it
        assert steps is not None  # and stored with its steps
        integers = round_by_moments(exact.reshape(len(exact), -1), steps, moments, WEIGHT_LIMIT)
        found[name] = (integers * steps[:, None]).reshape(exact.shape)
    return found


def with_weights(
    prepared: ModelProto, weights: Mapping[str, NDArray[np.float32]], keep_float: frozenset[str]
) -> ModelProto:
    """Return ``prepared`` with other weights, but for those of the layers ``keep_float``."""
    result = ModelProto()
    result.CopyFrom(prepared)
    kept = {conv.input[1] for conv in result.graph.node if conv.op_type == "Conv" and layer_of(conv) in keep_float}
    for tensor in result.graph.initializer:
        if tensor.name in weights and tensor.name not in kept:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return result


def input_moments(quantised: ModelProto, batches: Iterable[NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Run an 8-bit graph on pictures and return the second moments of what its integer convolutions take.

    Only sums are kept, so memory does not grow with the number of pictures.

    Args:
        quantised: a graph in QDQ form.
        batches: inputs as the graph takes them.

    Returns:
        Name of the weight -> (K, K), K = C kh kw, summed over every convolution that has it: the head's towers run on
        five levels.
    """
    watched = list(_watched(Graph(quantised)))
    names = list(dict.fromkeys(conv.source for conv in watched))
    session = _session(quantised, names)
    entry = session.get_inputs()[0].name
    found: dict[str, NDArray[np.float64]] = {}
    for batch in batches:
        values = dict(zip(names, session.run(names, {entry: batch}), strict=True))
        for conv in watched:
            taken = _patches(values[conv.source][0], conv)
            found[conv.weight] = found.get(conv.weight, 0.0) + (taken.T @ taken).astype(np.float64)
    return found


def _watched(graph: Graph) -> Iterator[_Watched]:
    for conv in graph.of_type("Conv"):
        source, weight = (graph.producer(name) for name in conv.input[:2])
        if source is None or weight is None or graph.attribute(conv, "group", 1) != 1:
            continue
        if source.op_type != "DequantizeLinear" or weight.op_type != "DequantizeLinear":
            continue
        stored = graph.constant(weight.input[0])
        assert stored is not None  # weights are stored
        yield _Watched(
            weight.input[0].removesuffix("_integer"),
            conv.input[0],
            stored.shape[2:],
            tuple(graph.attribute(conv, "strides", [1, 1])),
            tuple(graph.attribute(conv, "pads", [0] * 4)),
        )


def _session(model: ModelProto, names: list[str]) -> Any:
    copy, options = ModelProto(), onnxruntime.SessionOptions()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _patches(values: NDArray[np.float32], conv: _Watched) -> NDArray[np.float32]:
    """Return (n, K) inputs of the outputs that are looked at, from (C, H, W)."""
    top, left, bottom, right = conv.pads
    windows = sliding_window_view(np.pad(values, ((0, 0), (top, bottom), (left, right))), conv.kernel, (1, 2))
    windows = windows[:, :: conv.strides[0], :: conv.strides[1]]
    height, width = windows.shape[1:3]
    drawn = np.random.default_rng(0).permutation(height * width)[:POSITIONS]
    patches = windows[:, drawn // width, drawn % width].transpose(1, 0, 2, 3)
    return np.ascontiguousarray(patches).reshape(len(drawn), -1)
