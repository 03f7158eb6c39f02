"""Value counts of a graph over calibration pictures, in ONNX Runtime, one picture in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.errors import require

__all__ = ["count_values"]

REPORT_EVERY = 16  # pictures


def count_values(
    model: ModelProto, names: Sequence[str], batches: Iterable[NDArray[Any]], log: Callable[[str], None]
) -> dict[str, ValueCounts]:
    """Run a float graph over the pictures and count the values of some of its tensors.

    Nothing is drawn at random and only counts are kept: the same pictures always give the same ranges, and memory does
    not grow with their number.

    Args:
        model: the float32 graph.
        names: of the values to watch.
        batches: inputs as the graph takes them.
        log: called every :data:`REPORT_EVERY` pictures.

    Returns:
        Name -> its counts.

    Raises:
        InputError: no pictures, or values that are not finite.
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    counts = {name: ValueCounts() for name in names}
    done = 0
    for batch in batches:
        for count, values in zip(counts.values(), session.run(list(names), {entry: batch}), strict=True):
            count.add(values)
        done += 1
        if done % REPORT_EVERY == 0:
            log(f"calibrating: {done} pictures")
    require(done > 0, "calibration needs pictures, got none")
    return counts
