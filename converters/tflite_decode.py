"""Decoding appended to a finished TFLite network: what was proven of the network stays as it is, in any precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from solov2_edge.converters.decode_gate import judge_decoder, judge_decoding
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.quiet import quiet
from solov2_edge.converters.tflite_deform import gather_rows
from solov2_edge.converters.tflite_lower import lower_module
from solov2_edge.converters.tflite_pack import written
from solov2_edge.errors import GateError
from solov2_edge.manifest import DECODED_NAMES, OUTPUT_NAMES, InputContract
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs

with quiet():
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

__all__ = ["TfliteGraphDecoder", "append_decoder", "judge_appended"]

PREFIX = b"decode/"
THREADS = 2
Run = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


class TfliteGraphDecoder(GraphDecoder):
    """A :class:`GraphDecoder` that gathers rows by GATHER; torch's own indexing becomes GATHER_ND with checks."""

    def rows(self, table: Tensor, places: Tensor) -> Tensor:
        """Return (k, C) the rows ``places`` (k,) of a table (n, C)."""
        gathered: Tensor = gather_rows(table, places.to(torch.int32))
        return gathered


class _Named(nn.Module):
    def __init__(self, decoder: GraphDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, class_scores: Tensor, kernels: Tensor, mask_features: Tensor) -> dict[str, Tensor]:
        return dict(zip(DECODED_NAMES, self.decoder(class_scores, kernels, mask_features), strict=True))


def append_decoder(network: bytes, decoder: TfliteGraphDecoder, contract: InputContract) -> bytes:
    """Return a model whose outputs are the decoder's, of a network whose outputs are the raw ones.

    The decoder's tensors get names that begin with :data:`PREFIX`.

    Raises:
        GateError: LiteRT decodes planted or tied outputs otherwise than the host.
    """
    stage = "converting the decoding"
    details = _interpreter(network, stage).get_signature_runner().get_output_details()
    inputs = {name: torch.zeros([int(side) for side in details[name]["shape"]]) for name in OUTPUT_NAMES}
    model = lower_module(_Named(decoder), inputs)
    run = _runner(model, stage)

    def decode(raw: RawOutputs) -> DecodedOutputs:
        arrays = (raw.class_scores, raw.kernels, raw.mask_features)
        return _decoded(run(dict(zip(OUTPUT_NAMES, arrays, strict=True))))

    judge_decoder(decode, decoder, contract, stage)
    return _joined(network, model)


def judge_appended(
    network: bytes,
    appended: bytes,
    decoder: GraphDecoder,
    contract: InputContract,
    batches: Iterable[NDArray[Any]],
    stage: str,
) -> float:
    """Return the largest difference of a score from the host's decoding of what the network alone gives.

    Raises:
        GateError: an instance differs; the message names ``stage``.
    """
    alone, whole = _runner(network, stage), _runner(appended, stage)

    def outputs(batch: NDArray[Any]) -> tuple[RawOutputs, DecodedOutputs]:
        feeds = {contract.name: batch}
        raw = alone(feeds)
        return RawOutputs(*(np.array(raw[name], np.float32) for name in OUTPUT_NAMES)), _decoded(whole(feeds))

    return judge_decoding(outputs, batches, decoder, contract, stage)


def _joined(network: bytes, decoder: bytes) -> bytes:
    with quiet():
        whole, part = (flatbuffer_utils.read_model_from_bytearray(bytearray(each)) for each in (network, decoder))
        graph, added = whole.subgraphs[0], part.subgraphs[0]
        (signature,), (own,) = whole.signatureDefs, part.signatureDefs
        raw = {entry.name: entry.tensorIndex for entry in signature.outputs}
        places = {entry.tensorIndex: raw[entry.name] for entry in own.inputs}
        for index, tensor in enumerate(added.tensors):
            if index not in places:
                places[index] = len(graph.tensors)
                tensor.buffer += len(whole.buffers)
                tensor.name = PREFIX + tensor.name
                graph.tensors.append(tensor)
        for operator in added.operators:
            operator.opcodeIndex += len(whole.operatorCodes)
            operator.inputs = _moved(operator.inputs, places)
            operator.outputs = _moved(operator.outputs, places)
            graph.operators.append(operator)
        whole.buffers += part.buffers
        whole.operatorCodes += part.operatorCodes
        graph.outputs = _moved(added.outputs, places)
        for entry in own.outputs:
            entry.tensorIndex = places[entry.tensorIndex]
        signature.outputs = own.outputs
        return written(whole)


def _moved(tensors: Sequence[int], places: dict[int, int]) -> list[int]:
    return [places.get(int(tensor), -1) for tensor in tensors]  # -1: an input that is left out


def _interpreter(model: bytes, stage: str) -> Any:
    try:
        with quiet():
            interpreter = Interpreter(model_content=model, num_threads=THREADS)
            interpreter.allocate_tensors()
            return interpreter
    except (RuntimeError, ValueError) as error:
        raise _refused(stage, error) from error


def _runner(model: bytes, stage: str) -> Run:
    interpreter = _interpreter(model, stage)
    signature = interpreter.get_signature_runner()

    def run(feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            outputs: dict[str, NDArray[Any]] = signature(**feeds)
            return outputs
        except (RuntimeError, ValueError) as error:
            raise _refused(stage, error) from error

    return run


def _decoded(outputs: dict[str, NDArray[Any]]) -> DecodedOutputs:
    return DecodedOutputs(*(np.array(outputs[name]) for name in DECODED_NAMES))


def _refused(stage: str, error: Exception) -> GateError:
    return GateError(f"LiteRT cannot run the model after {stage}: {error}; nothing was written")
