"""Parity of networks whose deformable convolutions make chaos of rounding: compared with their offsets held still.

Where large offsets depend strongly on the picture, every layer multiplies the last bits of the one before, until two
correct programs differ by more than any useful bound. Offsets that hardly depend on the picture break the chain and
leave every operator, every weight and every edge of the graph in the comparison: the same numbers are scaled in
PyTorch and in the graph.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from onnx import ModelProto, numpy_helper

from solov2_edge.deform import DeformConv2d
from solov2_edge.model import SOLOv2

__all__ = ["DAMPING", "damped_graph", "damped_model"]

DAMPING = 0.02  # of the offset convolutions' weights; their biases stay
OFFSET_WEIGHT = "conv_offset.weight"


def damped_model(model: SOLOv2) -> SOLOv2:
    """Return a copy of ``model`` whose offsets and modulations hardly depend on the picture."""
    damped = copy.deepcopy(model)
    with torch.no_grad():
        for module in damped.modules():
            if isinstance(module, DeformConv2d):
                module.conv_offset.weight *= DAMPING
    return damped


def damped_graph(graph: ModelProto) -> ModelProto:
    """Return a copy of an exported graph with the same weights scaled, found by their names."""
    damped = ModelProto()
    damped.CopyFrom(graph)
    for weight in damped.graph.initializer:
        if OFFSET_WEIGHT in weight.name:
            scaled = numpy_helper.to_array(weight) * np.float32(DAMPING)
            weight.CopyFrom(numpy_helper.from_array(scaled, weight.name))
    return damped
