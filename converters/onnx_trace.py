"""PyTorch modules to ONNX graphs, by torch's dynamo exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import torch
from onnx import ModelProto
from torch import Tensor, nn

from solov2_edge.converters.deform_export import translation_table
from solov2_edge.errors import GateError

__all__ = ["quiet_exporter", "trace_onnx"]


def trace_onnx(
    module: nn.Module, inputs: Sequence[Tensor], input_names: Sequence[str], output_names: Sequence[str], opset: int
) -> ModelProto:
    """Export ``module`` as it runs on ``inputs``, whose shapes become the graph's.

    Raises:
        GateError: the exporter wrote another opset.
    """
    with quiet_exporter():
        program = torch.onnx.export(
            module,
            tuple(inputs),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            verbose=False,
            input_names=list(input_names),
            output_names=list(output_names),
            custom_translation_table=translation_table(),
        )
    assert program is not None  # None is the old exporter's answer
    graph = program.model_proto
    got = graph.opset_import[0].version
    if got != opset:
        raise GateError(f"the exporter wrote opset {got} where {opset} was asked; ask for another opset")
    return graph


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's progress and its remarks about its own dependencies away from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # torch's own exporter uses a name its pytree module has deprecated.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
