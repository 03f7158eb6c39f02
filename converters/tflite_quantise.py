"""A float32 TFLite network to int8 and int16x8, by ai-edge-quantizer with recipes and ranges of our own."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.quiet import quiet
from solov2_edge.converters.tflite_calibrate import count_values
from solov2_edge.converters.tflite_census import require_integers, take_census
from solov2_edge.converters.tflite_graph import Graph, read_graph
from solov2_edge.converters.tflite_recipes import Plan, make_plan
from solov2_edge.converters.value_ranges import METHODS, ValueCounts
from solov2_edge.errors import GateError, InputError, MissingDependencyError, require

try:
    from ai_edge_quantizer import qtyping, quantizer
except ImportError as error:
    raise MissingDependencyError("ai-edge-quantizer", "convert-tflite", "quantising TFLite networks") from error

__all__ = ["DEFAULT_METHOD", "PRECISIONS", "count_for", "quantise", "quantise_layers"]

# precision -> what layers become, and bits of calibrated activations
PRECISIONS = {"int8-dynamic": ("dynamic", 0), "int8": ("integer", 8), "int16x8": ("integer", 16)}
WIDE = 16  # bits
DEFAULT_METHOD = "percentile"  # chosen on held-out training pictures, see docs/tflite-int8.md


def quantise(
    flatbuffer: bytes,
    precision: str,
    batches: Callable[[], Iterable[NDArray[Any]]] | None = None,
    *,
    islands: Mapping[str, str] | None = None,
    method: str = DEFAULT_METHOD,
    counts: Mapping[str, ValueCounts] | None = None,
    log: Callable[[str], None] | None = None,
) -> bytes:
    """Quantise a float32 network; input and outputs keep their types.

    Weights are int8, symmetric, one scale per output channel. Activations are int8 with a zero point, or symmetric
    int16, one scale per tensor, and stand between the layers only: GroupNorm, the sigmoid and what positions the
    samples of deformable convolutions stay float.

    Args:
        flatbuffer: a float32 .tflite file's content.
        precision: ``"int8-dynamic"``, ``"int8"`` or ``"int16x8"``.
        batches: gives calibration inputs, one picture each, as the network takes them; called once. Needed by
            ``"int8"`` and ``"int16x8"``.
        islands: layer name (see :attr:`Graph.layers`) -> ``"float"``, ``"dynamic"`` or ``"integer"``, for layers
            that differ from the precision's own mode; default: the first layer float, the last ones dynamic.
        method: how a range is taken from the calibration, see :meth:`ValueCounts.range`.
        counts: what an earlier :func:`count_for` gave for this network, in place of ``batches``.
        log: called with one line per stage.

    Returns:
        The quantised file's content, whose tensor types have been counted.

    Raises:
        InputError: an unknown precision, method or layer, calibration is missing or not wanted, or the flatbuffer is
            not a float TFLite network.
        GateError: too few layers run in integers in what came out.
        MissingDependencyError: ai-edge-quantizer is not installed.
    """
    say = log or (lambda _text: None)
    require(precision in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    require(method in METHODS, f"the calibration method must be one of {', '.join(METHODS)}, got {method!r}")
    main, bits = PRECISIONS[precision]
    given = batches is not None or counts is not None
    require(given or not bits, f"{precision} needs calibration pictures, got none; give a folder with --calibrate")
    require(
        bits > 0 or not given, "int8-dynamic takes no calibration pictures: ranges are taken as it runs; leave them out"
    )
    _, graph = read_graph(flatbuffer)
    before = take_census(flatbuffer)
    require(
        before.floating == before.layers > 0,
        f"quantisation takes a float32 network, this one is already quantised: {before}; convert the checkpoint",
    )
    if bits == WIDE:
        say("int16x8 is for NPUs: a CPU runs reference kernels, which took 25 times as long as float32")
    make_plan(graph, main, islands)  # refuses islands there are not, before minutes of calibration
    if bits and counts is None and batches is not None:
        counts = count_for(flatbuffer, batches(), log=say)
    data = quantise_layers(flatbuffer, precision, islands, counts or {}, method)
    census = take_census(data)
    say(f"{precision}: {census}, {len(data) / 2**20:.1f} MiB")
    require_integers(census, precision)
    return data


def quantise_layers(
    flatbuffer: bytes,
    precision: str,
    islands: Mapping[str, str] | None,
    counts: Mapping[str, ValueCounts],
    method: str = DEFAULT_METHOD,
) -> bytes:
    """Quantise as :func:`quantise` does, however few layers: to measure single ones, not to ship.

    Args:
        flatbuffer: the float32 network.
        precision: one of :data:`PRECISIONS`.
        islands: as for :func:`quantise`; with all layers float the network comes back as it is.
        counts: of :func:`count_for`; empty for ``"int8-dynamic"``.
        method: how a range is taken from the calibration.

    Raises:
        InputError: an island names no layer or no mode, or the counts are of another network.
        GateError: ai-edge-quantizer could not do it.
    """
    main, bits = PRECISIONS[precision]
    _, graph = read_graph(flatbuffer)
    plan = make_plan(graph, main, islands)
    if set(plan.layers.values()) == {"float"}:
        return bytes(flatbuffer)
    return _run(flatbuffer, _recipe(graph, plan, bits), _ranges(graph, plan, counts, method))


def count_for(
    flatbuffer: bytes, batches: Iterable[NDArray[Any]], *, log: Callable[[str], None] | None = None
) -> dict[str, ValueCounts]:
    """Count the values of every tensor that any plan may quantise, for several :func:`quantise` with one calibration.

    Args:
        flatbuffer: the float32 network.
        batches: calibration inputs, one picture each.
        log: called with the progress.

    Raises:
        InputError: no pictures, or they do not fit the network.
    """
    _, graph = read_graph(flatbuffer)
    everything = make_plan(graph, "integer", {})
    return count_values(flatbuffer, sorted(_calibrated(graph, everything)), batches, log or (lambda _text: None))


def _calibrated(graph: Graph, plan: Plan) -> set[int]:
    """Return the activations around operators that run in integers."""
    operators = [layer.operator for layer in graph.layers if plan.layers[layer.name] == "integer"]
    found: set[int] = set()
    for operator in (graph.operators[index] for index in (*operators, *plan.carriers)):
        found.update(graph.activations(operator))
        found.update(operator.outputs)
    return found


def _ranges(
    graph: Graph, plan: Plan, counts: Mapping[str, ValueCounts], method: str
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return ai-edge-quantizer's statistics (``qsv``): tensor name -> its lowest and highest value."""
    ranges = {}
    for tensor in sorted(_calibrated(graph, plan)):
        name = graph.names[tensor]
        require(name in counts, f"the calibration given knows no tensor {name!r}; it is of another network")
        lowest, highest = counts[name].range(method)
        ranges[name] = {"min": np.array(lowest, np.float32), "max": np.array(highest, np.float32)}
    return ranges


def _recipe(graph: Graph, plan: Plan, bits: int) -> list[tuple[str, str, Any]]:
    """Return (regular expression over names of outputs, operator kind, configuration), naming operators one by one."""
    weights = qtyping.TensorQuantizationConfig(8, True, qtyping.QuantGranularity.CHANNELWISE)
    dynamic = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.INTEGER, explicit_dequantize=False
    )
    integer = qtyping.OpQuantizationConfig(
        # The kernels take int16 without a zero point only.
        activation_tensor_config=qtyping.TensorQuantizationConfig(bits or 8, symmetric=bits == WIDE),
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.INTEGER,
        explicit_dequantize=False,
    )
    scopes: dict[tuple[str, bool], list[str]] = defaultdict(list)
    modes = {layer.operator: plan.layers[layer.name] for layer in graph.layers}
    for index, mode in sorted((modes | dict.fromkeys(plan.carriers, "integer")).items()):
        operator = graph.operators[index]
        if mode != "float":
            scopes[operator.kind, mode == "integer"].append(re.escape(graph.scope(operator)))
    return [
        (f"^(?:{'|'.join(names)})$", kind, integer if is_integer else dynamic)
        for (kind, is_integer), names in scopes.items()
    ]


def _run(
    flatbuffer: bytes, recipe: list[tuple[str, str, Any]], ranges: Mapping[str, Mapping[str, NDArray[np.float32]]]
) -> bytes:
    with quiet(), warnings.catch_warnings():  # it draws progress bars whatever it is asked
        # It opens the float network to look at the names of its tensors only.
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
        try:
            work = quantizer.Quantizer(bytes(flatbuffer))
            for names, kind, config in recipe:
                work.update_quantization_recipe(names, qtyping.TFLOperationName(kind), config)
            result = work.quantize(dict(ranges) or None, enable_progress_bar=False, enable_progress_report=False)
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise GateError(
                f"ai-edge-quantizer could not quantise the network ({reason}); convert to fp16 or int8-dynamic"
            ) from error
    if result.quantized_model is None:
        raise InputError("ai-edge-quantizer gave no network; convert to fp16")
    return bytes(result.quantized_model)
