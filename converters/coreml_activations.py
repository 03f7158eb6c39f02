"""Quantised activations without a Mac: ranges observed by the program interpreter, operators placed by coremltools.

coremltools' own ``linear_quantize_activations`` takes its ranges from Apple's runtime; everything else of it is graph
passes, which run anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from solov2_edge.converters.coreml_compress import Convolution
from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet
from solov2_edge.converters.mil_session import MilSession

__all__ = ["Ranges", "activation_passes", "observe_ranges"]

Ranges = dict[str, dict[str, float]]  # as the passes take them: name -> {"rmin": ..., "rmax": ...}
PREFIX = "compression::insert_prefix_quantize_dequantize_pair"
SUFFIX = "compression::insert_suffix_quantize_dequantize_pair"
MERGE = "common::dequantize_quantize_pair_elimination"


def observe_ranges(package: Path, batches: Iterable[NDArray[Any]]) -> Ranges:
    """Return the smallest and the largest number of every float tensor of a program over all batches.

    Args:
        package: the float16 package whose tensors are to be quantised, as saved.
        batches: network inputs; each is run once.
    """
    ranges: Ranges = {}

    def observe(name: str, value: Tensor) -> None:
        if not value.is_floating_point():
            return
        low, high = (float(part) for part in value.aminmax())
        seen = ranges.setdefault(name, {"rmin": low, "rmax": high})
        seen["rmin"], seen["rmax"] = min(low, seen["rmin"]), max(high, seen["rmax"])

    with MilSession(package) as session:
        for batch in batches:
            session.run(batch, observe)
    return ranges


def activation_passes(found: Sequence[Convolution], ranges: Ranges) -> list[tuple[str, dict[str, Any]]]:
    """Return the passes that put ``quantize`` and ``dequantize`` around convolutions, with their options.

    Inputs of convolutions become uint8 with a zero point, and so do outputs, after the ReLU where one follows.
    Float stay, as measured on the nano network: the stem, whose input and first maps cost more than all other tensors
    together; the last convolutions; and what enters a group norm, which has no integer form.

    Args:
        found: the float16 program's convolutions.
        ranges: of every tensor, by name.
    """
    load_coremltools()
    with quiet():
        import coremltools.optimize.coreml as optimize
    affine = optimize.OpLinearQuantizerConfig(mode="linear", dtype="uint8")

    def config(skip: Iterable[Convolution]) -> Any:
        return optimize.OptimizationConfig(
            op_type_configs={"conv": affine}, op_name_configs={convolution.name: None for convolution in skip}
        )

    float_inputs = [convolution for convolution in found if convolution.delicate or convolution.stem]
    float_outputs = [*float_inputs, *(convolution for convolution in found if convolution.normalised)]
    return [
        (PREFIX, {"config": config(float_inputs), "activation_stats": ranges}),
        (SUFFIX, {"config": config(float_outputs), "activation_stats": ranges}),
        (MERGE, {}),
    ]
