"""An ncnn network in 8 bits: int8 weights, one step per output channel, and int8 activations, one step per layer.

ncnn's own tools for this are programs in C++ that its Python package does not have. What they write is simple: a
convolution whose parameter 8 is set holds int8 weights, and after its bias the factors that weights and input were
multiplied by. It rounds its input as it comes and gives float32; everything but convolutions stays float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from solov2_edge.converters.ncnn_graph import Network, unsplit
from solov2_edge.converters.ncnn_layers import Layer, Weight
from solov2_edge.converters.scale import Scale, quantise_weight, scale_of
from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.errors import GateError, require
from solov2_edge.runtime.ncnn_network import LEVEL

__all__ = ["Integers", "count_inputs", "in_integers"]

METHOD = "mean-minmax"  # as for TensorRT, whose integers are symmetric too: docs/onnx-int8.md
SCALE_TERM, PER_CHANNEL = 8, 2  # parameter of a convolution, and its value where every channel has a weight step
# Pictures of faint contrast are wiped out by 8 bits that a zero in the middle shares out over all pixel values.
PICTURE_CHANNELS = 3
REPORT_EVERY = 16  # pictures

Counts = Mapping[str, ValueCounts]


@dataclass(frozen=True, slots=True)
class Integers:
    """A network in 8 bits.

    Attributes:
        network: its layers.
        integer: convolutions that became integer.
        floating: convolutions that stayed float, deformable ones among them.
    """

    network: Network
    integer: int
    floating: int


def count_inputs(
    trunk: ModelProto, head: ModelProto, pictures: Iterable[NDArray[np.float32]], log: Callable[[str], None]
) -> tuple[dict[str, ValueCounts], dict[str, ValueCounts]]:
    """Run both graphs over the calibration pictures and count what their convolutions take.

    The head takes five levels with one set of steps, so the five count as one picture.

    Args:
        trunk: picture in, levels and mask features out.
        head: one level in; run at every size.
        pictures: inputs of the trunk.
        log: called every :data:`REPORT_EVERY` pictures.

    Returns:
        For trunk and head, name of a value -> its counts.

    Raises:
        InputError: no pictures, or values that are not finite.
    """
    wanted = [_taken(graph) for graph in (trunk, head)]
    levels = [value.name for value in trunk.graph.output if value.name.startswith(LEVEL)]
    run_trunk, run_head = _runner(trunk, [*wanted[0], *levels]), _runner(_of_any_size(head), wanted[1])
    counts = tuple({name: ValueCounts() for name in names} for names in wanted)
    done = 0
    for picture in pictures:
        values = run_trunk(picture)
        for name in wanted[0]:
            counts[0][name].add(values[name])
        parts = [run_head(values[level]) for level in levels]
        for name in wanted[1]:
            counts[1][name].add(np.concatenate([part[name].ravel() for part in parts]))
        done += 1
        if done % REPORT_EVERY == 0:
            log(f"calibrating: {done} pictures")
    require(done > 0, "calibration needs pictures, got none")
    return counts[0], counts[1]


def in_integers(network: Network, counts: Counts) -> Integers:
    """Return the network with 8-bit convolutions.

    Float stay what takes pixels, what says where deformable convolutions look, where a step would be a shift of the
    picture, and convolutions in groups.

    Args:
        network: with float weights.
        counts: of what its convolutions take.

    Raises:
        GateError: nothing could become integer.
    """
    aiming = _aiming(network.layers)
    layers, integer, floating = [], 0, 0
    for layer in network.layers:
        if layer.kind == "Convolution" and _is_fit(layer) and layer.outputs[0] not in aiming:
            low, high = counts[unsplit(layer.inputs[0])].range(METHOD)
            layer = _rounded(layer, scale_of(low, high, symmetric=True))
            integer += 1
        elif layer.kind.startswith(("Convolution", "Deformable")):
            floating += 1
        layers.append(layer)
    if not integer:
        raise GateError("no convolution of this network can run in integers; convert to fp32 or fp16")
    return Integers(replace(network, layers=tuple(layers)), integer, floating)


def _rounded(layer: Layer, scale: Scale) -> Layer:
    weight, *bias = layer.weights
    integers, steps = quantise_weight(weight.values.astype(np.float32))
    factors = Weight((1 / steps).astype(np.float32)), Weight(np.array([1 / scale.step], np.float32))
    parameters = {**layer.parameters, SCALE_TERM: PER_CHANNEL}
    return replace(layer, parameters=parameters, weights=(Weight(integers, typed=True), *bias, *factors))


def _is_fit(layer: Layer) -> bool:
    return bool(layer.weights[0].values.shape[1] > PICTURE_CHANNELS)


def _aiming(layers: Sequence[Layer]) -> set[str]:
    """Return the outputs of the convolutions that offsets and modulations are computed by."""
    makers = {name: layer for layer in layers for name in layer.outputs}
    names = [name for layer in layers if layer.kind == "DeformableConv2D" for name in layer.inputs[1:]]
    found: set[str] = set()
    while names:
        maker = makers[names.pop()]
        if maker.kind == "Convolution":
            found.add(maker.outputs[0])
        else:
            names += maker.inputs
    return found


def _taken(graph: ModelProto) -> list[str]:
    """Return the names of what convolutions with stored weights take, each once."""
    stored = {tensor.name for tensor in graph.graph.initializer}
    found = [node.input[0] for node in graph.graph.node if node.op_type == "Conv" and node.input[1] in stored]
    return list(dict.fromkeys(found))


def _of_any_size(head: ModelProto) -> ModelProto:
    """Return the head, traced at the largest level, for levels of every size."""
    free = ModelProto()
    free.CopyFrom(head)
    del free.graph.value_info[:]
    for value in (*free.graph.input, *free.graph.output):
        for side in value.type.tensor_type.shape.dim[2:]:
            side.dim_param = "side"
    return free


def _runner(graph: ModelProto, names: Sequence[str]) -> Callable[[NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return what runs a graph of one input and gives some of its values by name."""
    watched = ModelProto()
    watched.CopyFrom(graph)
    (entry,) = (value.name for value in graph.graph.input)
    computed = [name for name in dict.fromkeys(names) if name != entry]
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in computed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda value: {
        entry: value,
        **dict(zip(computed, session.run(computed, {entry: value}), strict=True)),
    }
