"""The uint8 picture fed to the first convolution as it lies in memory, for integer engines on CPUs.

Converting a picture to float, subtracting the mean and rounding to eight bits again gives back the picture; and a
convolution over three channels fits no vector unit. Together they took a fifth of a small network's time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_layout import TO_FIRST, TO_LAST

__all__ = ["PIXELS", "stem_by_pixel_groups"]

PIXELS = 4  # of a row that become the channels of one position: 12 channels fill 4-byte lanes of integer products


def stem_by_pixel_groups(model: ModelProto) -> ModelProto:
    """Compute the first convolution, of stride 2 and followed by ReLU, on groups of four pixels.

    Four neighbouring pixels of a row become the 12 channels of one position, and the two output columns that belong
    to them two halves of the output channels: reshaping, not a byte moves. The mean goes into the bias. Around the
    picture stands the mean rounded to whole pixel values, as the runtime pads pictures: that rounding, at most half a
    pixel value in the outermost row and column, is the only difference. A graph of another form stays as it is.
    """
    graph = Graph(model)
    conv = graph.of_type("Conv")[0]
    found = _preprocessing(graph, conv.input[0])
    weight, bias = graph.constant(conv.input[1]), graph.constant(conv.input[2]) if len(conv.input) > 2 else None
    readers = graph.consumers(conv.output[0])
    if found is None or weight is None or bias is None or [node.op_type for node in readers] != ["Relu"]:
        return model
    picture, mean, order = found
    _, height, width, _ = graph.shape(picture) or (0, 0, 0, 0)
    outputs, _, kernel, _ = weight.shape
    pad = kernel // 2
    expected = ([2, 2], [pad] * 4, (kernel, kernel))
    got = (graph.attribute(conv, "strides"), graph.attribute(conv, "pads"), weight.shape[2:])
    if got != expected or width % PIXELS or height % 2:
        return model

    mean, weight = mean[order], weight[:, order].astype(np.float64)  # in the picture's own order of channels
    around = np.rint(mean).astype(np.uint8)
    grey = int(np.rint(mean.mean()))  # what the integers mean by zero
    groups, before, after = _grouped(weight, pad)
    name = conv.input[1].removesuffix(".weight_of_pixels").removesuffix(".weight")
    graph.store(f"{name}.grouped.weight", groups.astype(np.float32))
    graph.store(
        f"{name}.grouped.bias", np.tile(bias - np.einsum("ocij,c->o", weight, mean - grey), 2).astype(np.float32)
    )
    columns, depth = width // PIXELS, 3 * PIXELS
    # Rows below the picture that the last output row reads: 2 (height / 2 - 1) + pad - (height - 1).
    rows = np.tile(around, (1, pad, columns, PIXELS))
    below = np.tile(around, (1, pad - 1, columns, PIXELS))
    sides = [np.tile(around, (1, height + 2 * pad - 1, count, PIXELS)) for count in (before, after)]
    pieces = {"rows_above": rows, "rows_below": below, "groups_left": sides[0], "groups_right": sides[1]}
    for key, value in pieces.items():
        graph.store(key, value.reshape(1, value.shape[1], value.shape[2], depth))
    graph.store("group_shape", np.array([1, height, columns, depth]))
    graph.store("stem_shape", np.array([1, height // 2, width // 2, outputs]))
    graph.store("one", np.array(1, np.float32))
    graph.store("grey", np.array(grey, np.uint8))
    tall = ["rows_above", "groups", *(["rows_below"] if below.size else [])]
    wide = ["groups_left", "tall_groups", *(["groups_right"] if after else [])]
    graph.remove(readers[0])
    graph.replace(
        conv,
        [
            helper.make_node("Reshape", [picture, "group_shape"], ["groups"], name="groups"),
            helper.make_node("Concat", tall, ["tall_groups"], name="tall_groups", axis=1),
            helper.make_node("Concat", wide, ["padded_groups"], name="padded_groups", axis=2),
            helper.make_node("Transpose", ["padded_groups"], ["group_planes"], name="group_planes", perm=TO_FIRST),
            helper.make_node(
                "DequantizeLinear", ["group_planes", "one", "grey"], ["group_values"], name="group_values"
            ),
            helper.make_node(
                "Conv",
                ["group_values", f"{name}.grouped.weight", f"{name}.grouped.bias"],
                ["grouped_stem"],
                name="grouped_stem",
                strides=[2, 1],
            ),
            helper.make_node("Relu", ["grouped_stem"], ["grouped_stem_relu"], name="grouped_stem_relu"),
            helper.make_node("Transpose", ["grouped_stem_relu"], ["stem_last"], name="stem_last", perm=TO_LAST),
            helper.make_node("Reshape", ["stem_last", "stem_shape"], ["stem_pixels"], name="stem_pixels"),
            helper.make_node("Transpose", ["stem_pixels"], list(readers[0].output), name="stem_planes", perm=TO_FIRST),
        ],
    )
    return graph.finish()


def _grouped(weight: NDArray[np.float64], pad: int) -> tuple[NDArray[np.float64], int, int]:
    """Return weights (2 O, 12, k, groups) of weights (O, 3, k, k), and how many groups lie left and right.

    Output column 2 j + side, side 0 or 1, reads pixels 4 j + 2 side - pad .. 4 j + 2 side + pad.
    """
    outputs, _, kernel, _ = weight.shape
    before, after = -(-pad // PIXELS), (2 + pad) // PIXELS
    grouped = np.zeros((2, outputs, PIXELS, 3, kernel, before + 1 + after))
    for side in range(2):
        for tap in range(kernel):
            group, pixel = divmod(2 * side + tap - pad, PIXELS)
            grouped[side, :, pixel, :, :, group + before] = weight[:, :, :, tap]
    return grouped.reshape(2 * outputs, 3 * PIXELS, kernel, before + 1 + after), before, after


def _preprocessing(graph: Graph, name: str) -> tuple[str, NDArray[Any], list[int]] | None:
    """Return the uint8 picture, the mean and the order of channels that ``name`` is computed from, if it is."""
    subtraction = graph.producer(name)
    if subtraction is None or subtraction.op_type != "Sub":
        return None
    mean, node, order = graph.constant(subtraction.input[1]), graph.producer(subtraction.input[0]), [0, 1, 2]
    while node is not None and node.op_type in ("Cast", "Transpose", "Slice"):
        if node.op_type == "Slice":  # from the last channel to the first
            order = order[::-1]
        name = node.input[0]
        node = graph.producer(name)
    return None if mean is None or node is not None or mean.size != 3 else (name, mean.ravel(), order)
