"""An ONNX graph as an ncnn network: the text of its ``.param`` and the bytes of its ``.bin`` file.

ncnn's own converter, pnnx, takes such networks too, but takes GroupNorm apart into reshapes, instance normalisation
and broadcasts, and stores the head once for every level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, numpy_helper

from solov2_edge.converters.ncnn_layers import ACTIVATION, Layer, Parameter, Weight, layers_of
from solov2_edge.errors import GateError

__all__ = ["Network", "network_of", "unsplit", "written"]

MAGIC = 7767517
FLOAT32_TAG, FLOAT16_TAG, INT8_TAG = 0, 0x01306B47, 0x000D4B38  # the word before typed weights
ARRAY_PARAMETER = -23300  # minus its number: a parameter that is a list
COPY = ".copy"  # before the number of a reader's own blob
FUSED = ("Convolution", "ConvolutionDepthWise", "DeformableConv2D")  # take a ReLU into themselves


@dataclass(frozen=True, slots=True)
class Network:
    """Layers in the order in which they run.

    Attributes:
        layers: every blob is made by one of them and read by at most one.
        outputs: the blobs to ask for.
    """

    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]


def network_of(graph: ModelProto, shape: Sequence[int] | None) -> Network:
    """Turn a graph with one input into a network.

    Args:
        graph: for one picture, opset 21.
        shape: (C, H, W) of the input; None where it varies.

    Raises:
        GateError: ncnn has no layer for a node.
    """
    constants = {weight.name: numpy_helper.to_array(weight) for weight in graph.graph.initializer}
    (entry,) = (value.name for value in graph.graph.input)
    size: dict[int, Parameter] = {} if shape is None else {0: shape[2], 1: shape[1], 2: shape[0]}
    layers = [Layer("Input", (), (entry,), size)]
    for node in graph.graph.node:
        for layer in layers_of(node, constants):
            made = {name for known in layers for name in known.outputs}
            layers += [_constant(name, constants) for name in layer.inputs if name not in made]
            layers.append(layer)
    outputs = tuple(value.name for value in graph.graph.output)
    return Network(tuple(_split(_fuse(layers, outputs))), outputs)


def written(network: Network, precision: str) -> tuple[str, bytes]:
    """Return the contents of the ``.param`` and the ``.bin`` file.

    Args:
        network: what to write.
        precision: ``"fp16"``: store the weights of convolutions in half the room, those apart that are integers.
    """
    blobs = sum(len(layer.outputs) for layer in network.layers)
    lines = [str(MAGIC), f"{len(network.layers)} {blobs}"]
    for number, layer in enumerate(network.layers):
        words = [layer.kind, f"{layer.kind.lower()}_{number}", str(len(layer.inputs)), str(len(layer.outputs))]
        words += [*layer.inputs, *layer.outputs]
        words += [_parameter(key, value) for key, value in sorted(layer.parameters.items())]
        lines.append(" ".join(words))
    weights = b"".join(_stored(weight, precision) for layer in network.layers for weight in layer.weights)
    return "\n".join(lines) + "\n", weights


def _constant(name: str, constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> Layer:
    """Return a layer that holds a (1, C, H, W) constant."""
    value = constants.get(name)
    if value is None or value.ndim != 4 or value.shape[0] != 1:
        raise GateError(f"the graph computes with {name}, which ncnn cannot hold; nothing was written")
    _, channels, height, width = value.shape
    return Layer("MemoryData", (), (name,), {0: width, 1: height, 2: channels}, (Weight(value),))


def _fuse(layers: list[Layer], outputs: Sequence[str]) -> list[Layer]:
    """Take every ReLU that alone reads a convolution into the convolution."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    relus = {layer.inputs[0]: layer for layer in layers if layer.kind == "ReLU"}
    fused, gone = [], set()
    for layer in layers:
        blob = layer.outputs[0]
        if layer.kind in FUSED and blob in relus and readers[blob] == 1 and blob not in outputs:
            relu = relus[blob]
            gone.add(relu.outputs[0])
            fused.append(replace(layer, outputs=relu.outputs, parameters={**layer.parameters, ACTIVATION: 1}))
        elif layer.kind != "ReLU" or blob not in gone:
            fused.append(layer)
    return fused


def _split(layers: list[Layer]) -> list[Layer]:
    """Give every reader of a blob a blob of its own, as ncnn wants it."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    taken: Counter[str] = Counter()

    def read(name: str) -> str:
        if readers[name] == 1:
            return name
        taken[name] += 1
        return f"{name}{COPY}{taken[name]}"

    split = []
    for layer in layers:
        split.append(replace(layer, inputs=tuple(read(name) for name in layer.inputs)))
        for name in layer.outputs:
            if readers[name] > 1:
                copies = tuple(f"{name}{COPY}{number + 1}" for number in range(readers[name]))
                split.append(Layer("Split", (name,), copies))
    return split


def unsplit(name: str) -> str:
    """Return the name that a reader's own blob had in the graph."""
    return name.partition(COPY)[0]


def _parameter(key: int, value: Parameter) -> str:
    if isinstance(value, tuple):
        return f"{ARRAY_PARAMETER - key}={','.join(map(str, (len(value), *value)))}"
    return f"{key}={value:e}" if isinstance(value, float) else f"{key}={value}"


def _stored(weight: Weight, precision: str) -> bytes:
    if weight.values.dtype == np.int8:
        return INT8_TAG.to_bytes(4, "little") + _whole_words(np.ascontiguousarray(weight.values).tobytes())
    values = np.ascontiguousarray(weight.values, np.float32)
    if not weight.typed:
        return values.astype("<f4").tobytes()
    if precision != "fp16":
        return FLOAT32_TAG.to_bytes(4, "little") + values.astype("<f4").tobytes()
    return FLOAT16_TAG.to_bytes(4, "little") + _whole_words(values.astype("<f2").tobytes())


def _whole_words(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
