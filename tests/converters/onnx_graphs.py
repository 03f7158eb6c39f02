"""Small ONNX graphs for tests of graph rewritings."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def made(nodes, constants, inputs, output, shape, kind=TensorProto.FLOAT):
    """A checked model of one output; ``inputs`` are names with float shapes."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in inputs.items()]
    result = [helper.make_tensor_value_info(output, kind, shape)]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", given, result, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, inputs):
    """The first output, in ONNX Runtime without its own rewritings."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def operators(model):
    return [node.op_type for node in model.graph.node]
