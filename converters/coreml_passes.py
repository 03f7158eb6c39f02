"""Graph passes over Core ML programs that coremltools lacks: exact resizes and norms, float16 where it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet

__all__ = ["pipeline_for"]

load_coremltools()
with quiet():
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

NAMESPACE, RESIZES, NORMS, FLOAT16 = "solov2_edge", "exact_resizes", "exact_batch_norms", "float16_but_grids"
FLOAT16_PASS = "common::add_fp16_cast"
# It would move the guard before each group norm into the weights, where float16 has fewer bits for small numbers.
LEFT_OUT = {"common::fuse_conv_scale"}
# What stands between an offset convolution and a resample's coordinates.
GRID_OPERATORS = ("reshape", "transpose", "slice_by_index", "mul", "add")


@register_pass(namespace=NAMESPACE, name=RESIZES)
class ExactResizes(AbstractGraphPass):  # type: ignore[misc]
    """Turn ``upsample_bilinear`` by a fraction into ``resize_bilinear`` to a size.

    coremltools writes 40 / 28 as the factor 1.428575, a little too large so that the size comes out right; engines
    may use it as the step between samples. Half-pixel centres are ``UNALIGN_CORNERS`` in ``resize_bilinear``.
    """

    def apply(self, prog: Any) -> None:
        """Rewrite all functions of a program."""
        for function in prog.functions.values():
            with function:
                _exact_resizes_in(function)


def _exact_resizes_in(block: Any) -> None:
    for op in list(block.operations):
        if op.op_type != "upsample_bilinear" or op.align_corners.val:
            continue
        if float(op.scale_factor_height.val).is_integer() and float(op.scale_factor_width.val).is_integer():
            continue
        height, width = op.outputs[0].shape[-2:]
        resized = Builder.resize_bilinear(
            x=op.x,
            target_size_height=int(height),
            target_size_width=int(width),
            sampling_mode="UNALIGN_CORNERS",
            name=op.name,
            before_op=op,
        )
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=resized)
        block.remove_ops([op])


@register_pass(namespace=NAMESPACE, name=NORMS)
class ExactBatchNorms(AbstractGraphPass):  # type: ignore[misc]
    """Take back the epsilon that coremltools adds where it writes a scale and a shift as ``batch_norm``.

    It leaves the default, 1e-5, under the root of a variance of one: every group norm would come out five millionths
    too small.
    """

    def apply(self, prog: Any) -> None:
        """Rewrite all functions of a program."""
        for function in prog.functions.values():
            with function:
                _exact_batch_norms_in(function)


def _exact_batch_norms_in(block: Any) -> None:
    for op in list(block.operations):
        if op.op_type != "batch_norm" or op.gamma is None:
            continue
        root = np.sqrt(op.variance.val.astype(np.float64) + float(op.epsilon.val))
        if (op.variance.val != 1).any() or (op.mean.val != 0).any():
            continue
        exact = Builder.batch_norm(
            x=op.x,
            mean=op.mean,
            variance=op.variance,
            gamma=(op.gamma.val * root).astype(np.float32),
            beta=op.beta,
            epsilon=op.epsilon,
            name=op.name,
            before_op=op,
        )
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=exact)
        block.remove_ops([op])


@register_pass(namespace=NAMESPACE, name=FLOAT16)
class Float16ButGrids(FP16ComputePrecision):  # type: ignore[misc]
    """float16 everywhere but in sampling grids.

    A coordinate from -1 to 1 has 11 bits in float16, a fortieth of a pixel in a map 100 wide: two per cent of the
    difference between neighbours, where float16 elsewhere rounds to five hundredths of a per cent.
    """

    def is_valid_op(self, op: Any) -> bool:
        """Leave the operators that make coordinates as they are."""
        return bool(super().is_valid_op(op)) and not _makes_coordinates(op)

    def should_cast_parameter(self, op: Any, param_name: str) -> bool:
        """Leave the coordinates themselves as they are."""
        if op.op_type == "resample" and param_name == "coordinates":
            return False
        return bool(super().should_cast_parameter(op, param_name))


def _makes_coordinates(op: Any) -> bool:
    """Tell whether every use of ``op``'s output ends in a resample's coordinates."""
    if op.op_type not in GRID_OPERATORS:
        return False
    output = op.outputs[0]
    users = output.child_ops
    return bool(users) and all(
        user.coordinates is output if user.op_type == "resample" else _makes_coordinates(user) for user in users
    )


def pipeline_for(precision: str, compression: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> Any:
    """Return coremltools' passes with ours, to be used with ``compute_precision`` float32: the float16 pass is ours.

    Args:
        precision: ``"fp32"`` or ``"fp16"``: what the program computes in.
        compression: names of compression passes and their options; they run last, on the finished program.
    """
    coremltools = load_coremltools()
    pipeline = coremltools.PassPipeline.DEFAULT
    pipeline.remove_passes(LEFT_OUT)
    pipeline.insert_pass(0, f"{NAMESPACE}::{RESIZES}")
    pipeline.insert_pass(pipeline.passes.index(FLOAT16_PASS), f"{NAMESPACE}::{NORMS}")
    if precision == "fp16":
        pipeline.insert_pass(pipeline.passes.index(FLOAT16_PASS), f"{NAMESPACE}::{FLOAT16}")
    for name, options in compression:
        pipeline.append_pass(name)
        pipeline.set_options(name, dict(options))
    return pipeline
