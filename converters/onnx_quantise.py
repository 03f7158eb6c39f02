"""A float32 ONNX graph to 8 bits, for ONNX Runtime on CPUs, for TensorRT or for OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from solov2_edge.converters.onnx_census import check_weights, require_integers, take_census
from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_islands import make_plan
from solov2_edge.converters.onnx_joins import join_integers, shift_joined
from solov2_edge.converters.onnx_large_norms import large_norms_by_sums
from solov2_edge.converters.onnx_layout import (
    add_channels_last,
    average_by_convolution,
    drop_batch_early,
    repeat_by_gather,
    resize_channels_last,
)
from solov2_edge.converters.onnx_norms import norms_into_rounding
from solov2_edge.converters.onnx_qdq import Scale, scale_of, write_qdq
from solov2_edge.converters.onnx_ranges import count_values
from solov2_edge.converters.onnx_stem import stem_by_pixel_groups
from solov2_edge.converters.onnx_taps import few_outputs_by_taps
from solov2_edge.converters.value_ranges import METHODS, ValueCounts
from solov2_edge.errors import require

__all__ = ["ENGINES", "FORMS", "LAST_FORMS", "METHOD_FOR", "count_for", "finish", "prepare", "quantise"]

# target -> how ranges are cut; chosen on pictures that calibration did not see: docs/onnx-int8.md
METHOD_FOR = {"cpu": "mse", "tensorrt": "mean-minmax", "openvino": "mse"}
# target -> rewritings of the float32 graph. All are exact up to rounding but the stem's, whose picture is surrounded
# by whole pixel values. OpenVINO lays out maps, pools and normalises by itself and only pays for them: docs/openvino.md
FORMS: dict[str, tuple[Callable[[ModelProto], ModelProto], ...]] = {
    "cpu": (
        average_by_convolution,
        repeat_by_gather,
        resize_channels_last,
        add_channels_last,
        drop_batch_early,
        stem_by_pixel_groups,
    ),
    "tensorrt": (),
    "openvino": (),
}
# target -> rewritings of the 8-bit graph, exact up to a step in a few values per thousand, but for kernels and scores:
# all levels' get the step of the widest.
LAST_FORMS: dict[str, tuple[Callable[[ModelProto], ModelProto], ...]] = {
    "cpu": (large_norms_by_sums, norms_into_rounding, few_outputs_by_taps, join_integers, shift_joined),
    "tensorrt": (),
    "openvino": (),
}
ENGINES = tuple(FORMS)


def prepare(model: ModelProto, target: str = "cpu") -> ModelProto:
    """Return a float32 graph in the form that quantises best for ``target``, by its :data:`FORMS`."""
    for step in FORMS[target]:
        model = step(model)
    return model


def count_for(
    prepared: ModelProto, batches: Iterable[NDArray[Any]], *, log: Callable[[str], None] | None = None
) -> dict[str, ValueCounts]:
    """Count every value that any plan may quantise, for several :func:`quantise` with one calibration."""
    return count_values(prepared, make_plan(Graph(prepared)).values, batches, log or (lambda _text: None))


def quantise(
    prepared: ModelProto,
    counts: Mapping[str, ValueCounts],
    target: str = "cpu",
    *,
    keep_float: frozenset[str] = frozenset(),
    method: str | None = None,
) -> ModelProto:
    """Return ``prepared`` in QDQ form with 8-bit convolutions, checked weight by weight.

    Args:
        prepared: from :func:`prepare` for the same target.
        counts: from :func:`count_for`.
        target: ``"cpu"``: uint8 activations and int8 weights, for ONNX Runtime on CPUs with 8-bit dot products.
            ``"tensorrt"``: int8 both, symmetric. ``"openvino"``: uint8 and int8 as for CPUs.
        keep_float: layers that stay float, out of :func:`~solov2_edge.converters.onnx_islands.layer_names`.
        method: how ranges are cut from the counts, one of :data:`~solov2_edge.converters.value_ranges.METHODS`;
            default: by :data:`METHOD_FOR`.

    Raises:
        InputError: an unknown target, method or layer.
        GateError: a weight is not within half a step of the float one, or too little became integer.
    """
    require(target in ENGINES, f"the target must be one of {', '.join(ENGINES)}, got {target!r}")
    method = method or METHOD_FOR[target]
    require(method in METHODS, f"the calibration method must be one of {', '.join(METHODS)}, got {method!r}")
    plan = make_plan(Graph(prepared), keep_float, outputs=target != "tensorrt", resized=target == "cpu")
    scales: dict[str, Scale] = {}
    for name in plan.values:
        source = plan.same_as.get(name, name)
        low, high = counts[source].range(method)
        scales[name] = scales[source] if source in scales else scale_of(low, high, symmetric=target == "tensorrt")
    result = write_qdq(prepared, plan, scales)
    check_weights(prepared, result)
    require_integers(take_census(result), len(plan.convolutions))
    return result


def finish(quantised: ModelProto, target: str = "cpu") -> ModelProto:
    """Return an 8-bit graph from :func:`quantise` in the form that runs fastest, by its :data:`LAST_FORMS`.

    To be called on a graph whose weights are checked: what computes them is not only convolutions from here on.
    """
    for step in LAST_FORMS[target]:
        quantised = step(quantised)
    return quantised
