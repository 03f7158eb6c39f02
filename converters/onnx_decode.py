"""Decoding appended to a finished ONNX network: what was proven of the network stays as it is, in any precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from solov2_edge.converters.decode_gate import judge_decoder, judge_decoding
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.onnx_passes import strip_notes
from solov2_edge.converters.onnx_trace import trace_onnx
from solov2_edge.errors import GateError
from solov2_edge.manifest import DECODED_NAMES, OUTPUT_NAMES, InputContract
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs

__all__ = ["append_decoder", "judge_appended", "network_of"]

PREFIX = "decode/"
Attempt = Callable[[list[str], dict[str, NDArray[Any]]], list[NDArray[Any]]]


def append_decoder(network: ModelProto, decoder: GraphDecoder, contract: InputContract) -> ModelProto:
    """Return a graph whose outputs are the decoder's, of a network whose outputs are the raw ones.

    Its nodes and constants get names that begin with :data:`PREFIX`; the raw outputs keep theirs inside the graph.

    Raises:
        GateError: ONNX Runtime decodes planted or tied outputs otherwise than the host.
    """
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in network.graph.output
    }
    inputs = [torch.zeros(shapes[name]) for name in OUTPUT_NAMES]
    opset = next(entry.version for entry in network.opset_import if entry.domain == "")
    graph = strip_notes(trace_onnx(decoder, inputs, OUTPUT_NAMES, DECODED_NAMES, opset))
    run = _session(graph, "exporting the decoding")

    def decode(raw: RawOutputs) -> DecodedOutputs:
        feeds = zip(OUTPUT_NAMES, (raw.class_scores, raw.kernels, raw.mask_features), strict=True)
        return DecodedOutputs(*run(list(DECODED_NAMES), dict(feeds)))

    judge_decoder(decode, decoder, contract, "exporting the decoding")
    return _joined(network, graph)


def judge_appended(
    graph: ModelProto, decoder: GraphDecoder, contract: InputContract, batches: Iterable[NDArray[Any]], stage: str
) -> float:
    """Return the largest difference of a score from the host's decoding of the graph's own raw outputs.

    Raises:
        GateError: an instance differs; the message names ``stage``.
    """
    both = _with_outputs(graph, (*OUTPUT_NAMES, *DECODED_NAMES))
    run = _session(both, stage)

    def outputs(batch: NDArray[Any]) -> tuple[RawOutputs, DecodedOutputs]:
        arrays = run([*OUTPUT_NAMES, *DECODED_NAMES], {contract.name: batch})
        return RawOutputs(*arrays[:3]), DecodedOutputs(*arrays[3:])

    return judge_decoding(outputs, batches, decoder, contract, stage)


def network_of(graph: ModelProto) -> ModelProto:
    """Return a graph with a decoder appended as the network it was, which gives the raw outputs."""
    return _with_outputs(graph, OUTPUT_NAMES)


def _joined(network: ModelProto, decoder: ModelProto) -> ModelProto:
    kept = {*OUTPUT_NAMES, *DECODED_NAMES, ""}
    joined = ModelProto()
    joined.CopyFrom(network)
    for node in decoder.graph.node:
        new = joined.graph.node.add()
        new.CopyFrom(node)
        new.name = PREFIX + node.name
        new.input[:] = [name if name in kept else PREFIX + name for name in node.input]
        new.output[:] = [name if name in kept else PREFIX + name for name in node.output]
    for constant in decoder.graph.initializer:
        added = joined.graph.initializer.add()
        added.CopyFrom(constant)
        added.name = PREFIX + constant.name
    joined.graph.value_info.extend(network.graph.output)  # where network_of finds them
    del joined.graph.output[:]
    joined.graph.output.extend(decoder.graph.output)
    return joined


def _with_outputs(graph: ModelProto, names: Iterable[str]) -> ModelProto:
    known = {value.name: value for value in (*graph.graph.value_info, *graph.graph.output)}
    result = ModelProto()
    result.CopyFrom(graph)
    del result.graph.output[:]
    result.graph.output.extend(known[name] for name in names)
    return result


def _session(graph: ModelProto, stage: str) -> Attempt:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only

    def attempt(what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:
            raise GateError(f"ONNX Runtime cannot run the graph after {stage}: {error}; nothing was written") from error

    data = graph.SerializeToString()
    session = attempt(lambda: onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]))

    def run(names: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        arrays: list[NDArray[Any]] = attempt(lambda: session.run(names, feeds))
        return [np.asarray(array) for array in arrays]

    return run
