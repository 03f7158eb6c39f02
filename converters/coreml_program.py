"""From the network to a Core ML program in memory, at float32 or float16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from solov2_edge.converters.coreml_network import CoremlNetwork
from solov2_edge.converters.coreml_passes import pipeline_for
from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet
from solov2_edge.manifest import OUTPUT_NAMES

__all__ = ["convert_program", "export_program", "program_size"]


def export_program(network: CoremlNetwork) -> Any:
    """Return the network as ``torch.export`` sees it.

    Its frontend in coremltools gives the very operators that the older tracing frontend gives (265 for nano), and
    takes deformable convolutions, on which that one fails.
    """
    contract = network.contract
    example = torch.zeros(1, 3, contract.height, contract.width)
    with quiet(), torch.inference_mode():
        return torch.export.export(network, (example,)).run_decompositions({})


def convert_program(
    network: CoremlNetwork,
    exported: Any,
    precision: str,
    target: str,
    passes: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> Any:
    """Convert an exported network to an ML Program.

    Args:
        network: what was exported.
        exported: what :func:`export_program` returned.
        precision: ``"fp32"`` or ``"fp16"``: weights and activations; inputs and outputs are float32 in both.
        target: one of :data:`solov2_edge.choices.SYSTEMS`.
        passes: compression passes with their options, run after all others.

    Returns:
        coremltools' MLModel, not loaded into any engine.
    """
    coremltools = load_coremltools()
    contract = network.contract
    shape = (1, 3, contract.height, contract.width)
    if contract.kind == "image":
        given = coremltools.ImageType(name=contract.name, shape=shape, color_layout=coremltools.colorlayout.RGB)
    else:
        given = coremltools.TensorType(name=contract.name, shape=shape, dtype=np.float32)
    with quiet():
        return coremltools.convert(
            exported,
            convert_to="mlprogram",
            inputs=[given],
            outputs=[coremltools.TensorType(name=name, dtype=np.float32) for name in OUTPUT_NAMES],
            minimum_deployment_target=getattr(coremltools.target, target),
            compute_precision=coremltools.precision.FLOAT32,
            pass_pipeline=pipeline_for(precision, passes),
            skip_model_load=True,
        )


def program_size(model: Any) -> int:
    """Return how many operators a converted program has, constants not counted."""
    operations = model._mil_program.functions["main"].operations
    return sum(1 for op in operations if op.op_type != "const" and not op.op_type.startswith("constexpr_"))
