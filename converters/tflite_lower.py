"""A traceable network to TFLite operators, by litert-torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from solov2_edge.converters.quiet import quiet
from solov2_edge.converters.tflite_deform import add_border, gather_rows
from solov2_edge.converters.tflite_norm import group_norm, normalised
from solov2_edge.converters.tflite_traceable import TfliteTraceable, with_named_outputs

with quiet():  # importing it reports on libraries it looked for
    import jax
    import litert_torch
    from litert_converter.mlir import ir  # type: ignore[import-untyped]  # it ships no types
    from litert_converter.mlir.dialects import stablehlo  # type: ignore[import-untyped]
    from litert_torch.backend import jax_bridge
    from litert_torch.backend.lowerings import registry, utils

__all__ = ["lower", "lower_module"]


def lower(traceable: TfliteTraceable, batch: NDArray[Any]) -> bytes:
    """Return the network as a float32 TFLite model with one signature, named as the contract names things.

    Args:
        traceable: the rewritten network.
        batch: an input as the contract takes it.
    """
    return lower_module(with_named_outputs(traceable), {traceable.contract.name: torch.from_numpy(batch)})


def lower_module(module: nn.Module, inputs: dict[str, Tensor]) -> bytes:
    """Return a module as a float32 TFLite model.

    Args:
        module: takes ``inputs`` by name and returns a dict of named outputs.
        inputs: an example of each.
    """
    shown = litert_torch.config.show_progress
    try:
        litert_torch.config.show_progress = False
        with quiet():
            content: bytes = litert_torch.convert(module.eval(), (), sample_kwargs=inputs).model_content()
            return content
    finally:
        litert_torch.config.show_progress = shown


def _group_norm(rows: Any, scale: Any, shift: Any, eps: float) -> Any:
    return normalised(rows, scale, shift, eps, jax.lax.rsqrt)


registry.lower(group_norm)(jax_bridge.wrap(_group_norm))


@registry.lower(gather_rows)  # type: ignore[untyped-decorator]
def _lower_gather_rows(context: Any, table: Any, rows: Any) -> Any:
    """Write a GATHER; from torch's indexing a GATHER_ND is made, with checks of every index."""
    zero = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 0)
    return _operator(context, "tfl.gather", [table, rows], {"axis": zero, "batch_dims": zero})


@registry.lower(add_border)  # type: ignore[untyped-decorator]
def _lower_add_border(context: Any, rows: Any) -> Any:
    """Write a PAD that stays where it is; torch's own drifts past transposes, which then no longer cancel out."""
    widths = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
    return _operator(context, "tfl.pad", [rows, stablehlo.constant(ir.DenseElementsAttr.get(widths))], {})


def _operator(context: Any, name: str, operands: list[Any], attributes: dict[str, Any]) -> Any:
    """Return a call the converter replaces by the TFLite operator of that name."""
    return stablehlo.custom_call(
        result=utils.node_meta_to_ir_types(context.node),
        inputs=operands,
        call_target_name=ir.StringAttr.get(name),
        has_side_effect=ir.BoolAttr.get(False),
        backend_config=ir.StringAttr.get(str(ir.DictAttr.get(attributes))),
    )
