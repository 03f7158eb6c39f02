"""Value counts of a TFLite network's tensors over calibration pictures, one picture in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from solov2_edge.converters.quiet import quiet
from solov2_edge.converters.tflite_graph import read_graph
from solov2_edge.converters.tflite_pack import written
from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.errors import InputError, require

__all__ = ["count_values"]

THREADS = 2
REPORT_EVERY = 16  # pictures


def count_values(
    flatbuffer: bytes, tensors: Sequence[int], batches: Iterable[NDArray[Any]], log: Callable[[str], None]
) -> dict[str, ValueCounts]:
    """Run the float network over the pictures and count the values of some of its tensors.

    The tensors are made outputs of a copy of the network: the engine then keeps those and reuses the memory of all
    others, and runs on its fast kernels. (Asked to preserve all tensors it does neither, and
    ai-edge-quantizer's own calibration holds every input at once.)

    Args:
        flatbuffer: the float32 network.
        tensors: indices of the tensors to watch.
        batches: inputs as the network takes them.
        log: called every :data:`REPORT_EVERY` pictures.

    Returns:
        Tensor name -> its counts.

    Raises:
        InputError: no pictures, a batch of another shape, or values that are not finite.
    """
    model, graph = read_graph(flatbuffer)
    model.subgraphs[0].outputs = np.array(tensors, np.int32)
    model.signatureDefs = None
    with quiet():  # TensorFlow Lite reports on the delegate it made
        runner = Interpreter(
            model_content=written(model),
            num_threads=min(THREADS, os.cpu_count() or 1),
        )
        runner.allocate_tensors()
    entry = runner.get_input_details()[0]
    places = [detail["index"] for detail in runner.get_output_details()]
    counts = [ValueCounts() for _ in tensors]
    done = 0
    for batch in batches:
        if tuple(batch.shape) != tuple(entry["shape"]) or batch.dtype != entry["dtype"]:
            raise InputError(
                f"the network takes {np.dtype(entry['dtype']).name} {tuple(map(int, entry['shape']))}, "
                f"a calibration batch is {batch.dtype} {batch.shape}; make it with Calibration.batches()"
            )
        runner.set_tensor(entry["index"], batch)
        runner.invoke()
        for place, count in zip(places, counts, strict=True):
            count.add(runner.get_tensor(place))
        done += 1
        if done % REPORT_EVERY == 0:
            log(f"calibrating: {done} pictures")
    require(done > 0, "calibration needs pictures, got none")
    return {graph.names[tensor]: count for tensor, count in zip(tensors, counts, strict=True)}
