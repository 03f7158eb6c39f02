"""ONNX nodes as ncnn layers: kinds, numbered parameters and weights, as ncnn's operator list has them.

Only what a SOLOv2 network is made of; whatever else a graph holds is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from solov2_edge.errors import GateError, InputError

__all__ = ["ACTIVATION", "Layer", "Parameter", "Weight", "layers_of"]

Array = NDArray[Any]
Parameter = int | float | tuple[int, ...]
LARGEST = 2**31 - 1  # whole number in a .param file
ACTIVATION = 9  # parameter of convolutions: 1 for a ReLU after them


@dataclass(frozen=True, slots=True)
class Weight:
    """Numbers of a layer, in the order in which ncnn reads them.

    Attributes:
        values: float32, or int8 where typed.
        typed: whether ncnn reads a word before them that says how they are stored, so that they may be float16.
    """

    values: NDArray[np.float32] | NDArray[np.int8]
    typed: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of a ``.param`` file and what it reads from the ``.bin`` file.

    Attributes:
        kind: ncnn's name of the layer.
        inputs: names of blobs.
        outputs: names of blobs.
        parameters: number -> value.
        weights: what it reads.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, Parameter] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()


def layers_of(node: NodeProto, constants: Mapping[str, Array]) -> list[Layer]:
    """Return the layers that compute what ``node`` computes, on blobs without the batch dimension.

    Args:
        node: of an ONNX graph for one picture, opset 21.
        constants: name -> value of the graph's initialisers.

    Raises:
        GateError: ncnn has no such layer, or not with these attributes.
    """
    if node.op_type not in WRITERS:
        raise GateError(f"ncnn is not written for the operator {node.op_type} ({node.name}); nothing was written")
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return WRITERS[node.op_type](node, attributes, constants)


def _blobs(node: NodeProto, constants: Mapping[str, Array]) -> tuple[str, ...]:
    return tuple(name for name in node.input if name and name not in constants)


def _plain(kind: str, **numbered: Parameter) -> Callable[..., list[Layer]]:
    """Return a writer for layers whose parameters, ``p0`` and so on, are always the same."""
    parameters = {int(name[1:]): value for name, value in numbered.items()}

    def write(node: NodeProto, attributes: dict[str, Any], constants: Mapping[str, Array]) -> list[Layer]:
        del attributes
        # Constants that a layer computes with become blobs where the network is put together.
        del constants
        return [Layer(kind, tuple(node.input), tuple(node.output), dict(parameters))]

    return write


def _convolution(node: NodeProto, attributes: dict[str, Any], constants: Mapping[str, Array]) -> list[Layer]:
    deformable = node.op_type == "DeformConv"
    names = list(node.input)
    weight = constants[names[1]]
    place = 3 if deformable else 2
    bias = constants[names[place]] if len(names) > place and names[place] else None
    groups, offsets = attributes.get("group", 1), attributes.get("offset_group", 1)
    if deformable and groups != 1:
        raise InputError(
            f"ncnn has no deformable convolution in {groups} groups, which this network's backbone needs; convert it "
            "to onnx, tflite or coreml"
        )
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or offsets != 1:
        raise GateError(f"ncnn is not written for the attributes of {node.name}; nothing was written")
    top, left, bottom, right = attributes["pads"]
    strides, dilations = attributes["strides"], attributes.get("dilations", [1, 1])
    parameters: dict[int, Parameter] = {
        0: weight.shape[0],
        1: weight.shape[3],
        11: weight.shape[2],
        2: dilations[1],
        12: dilations[0],
        3: strides[1],
        13: strides[0],
        4: left,
        14: top,
        15: right,
        16: bottom,
        5: int(bias is not None),
        6: weight.size,
    }
    if groups > 1:
        parameters[7] = groups
    weights = [Weight(weight, typed=True)] + ([Weight(bias)] if bias is not None else [])
    kind = "DeformableConv2D" if deformable else "Convolution" if groups == 1 else "ConvolutionDepthWise"
    return [Layer(kind, _blobs(node, constants), tuple(node.output), parameters, tuple(weights))]


def _group_norm(node: NodeProto, attributes: dict[str, Any], constants: Mapping[str, Array]) -> list[Layer]:
    scale, shift = (constants[name] for name in node.input[1:])
    parameters: dict[int, Parameter] = {0: attributes["num_groups"], 1: scale.size, 2: float(attributes["epsilon"])}
    return [Layer("GroupNorm", (node.input[0],), tuple(node.output), parameters, (Weight(scale), Weight(shift)))]


def _pooling(node: NodeProto, attributes: dict[str, Any], constants: Mapping[str, Array]) -> list[Layer]:
    del constants
    average = node.op_type == "AveragePool"
    top, left, bottom, right = attributes["pads"]
    known = not attributes.get("ceil_mode", 0) and set(attributes.get("dilations", [1])) == {1}
    if not known or (average and any(attributes["pads"])):
        raise GateError(f"ncnn is not written for the attributes of {node.name}; nothing was written")
    (height, width), strides = attributes["kernel_shape"], attributes["strides"]
    explicit = 1  # what is padded is what the parameters say
    parameters: dict[int, Parameter] = {
        0: int(average),
        1: width,
        11: height,
        2: strides[1],
        12: strides[0],
        3: left,
        13: top,
        14: right,
        15: bottom,
        5: explicit,
    }
    return [Layer("Pooling", tuple(node.input), tuple(node.output), parameters)]


def _resize(node: NodeProto, attributes: dict[str, Any], constants: Mapping[str, Array]) -> list[Layer]:
    methods = {
        (b"nearest", b"asymmetric"): 1,
        (b"linear", b"half_pixel"): 2,
        (b"linear", b"pytorch_half_pixel"): 2,
    }
    method = methods.get((attributes["mode"], attributes["coordinate_transformation_mode"]))
    if method is None or (method == 1 and attributes["nearest_mode"] != b"floor"):
        raise GateError(f"ncnn is not written for the attributes of {node.name}; nothing was written")
    height, width = (int(side) for side in constants[node.input[3]][-2:])
    return [Layer("Interp", (node.input[0],), tuple(node.output), {0: method, 3: height, 4: width})]


def _channels_from(node: NodeProto, attributes: dict[str, Any], constants: Mapping[str, Array]) -> list[Layer]:
    """Write a slice of channels as a crop."""
    del attributes
    starts, ends, axes = (constants[name].tolist() for name in node.input[1:4])
    steps = constants[node.input[4]].tolist() if len(node.input) > 4 else [1]
    if axes != [1] or steps != [1] or starts[0] < 0 or ends[0] < 0:
        raise GateError(f"ncnn is not written for the attributes of {node.name}; nothing was written")
    parameters: dict[int, Parameter] = {9: (starts[0],), 10: (min(ends[0], LARGEST),), 11: (0,)}
    return [Layer("Crop", (node.input[0],), tuple(node.output), parameters)]


WRITERS: dict[str, Callable[..., list[Layer]]] = {
    "Conv": _convolution,
    "DeformConv": _convolution,
    "GroupNormalization": _group_norm,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "Resize": _resize,
    "Slice": _channels_from,
    "Relu": _plain("ReLU"),
    "Sigmoid": _plain("Sigmoid"),
    "Add": _plain("BinaryOp", p0=0),
    "Concat": _plain("Concat", p0=0),
}
