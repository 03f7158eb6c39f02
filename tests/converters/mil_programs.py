"""Small ML Programs built with coremltools, saved to disk and interpreted; loaded by conftest."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet
from solov2_edge.converters.mil_execute import execute
from solov2_edge.converters.mil_package import read_package
from solov2_edge.converters.mil_program import read_program

coremltools = load_coremltools()
with quiet():
    from coremltools.converters.mil.mil import Builder, types

KINDS = {np.dtype("float32"): types.fp32, np.dtype("float16"): types.fp16, np.dtype("int32"): types.int32}
NAMES = ("x", "y", "z")


class Interpreted:
    """Builds, saves and interprets programs in a folder.

    Attributes:
        mb: coremltools' builder of operators.
    """

    mb = Builder

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, build: Callable[..., Any], *inputs: np.ndarray, target: str = "iOS17") -> Path:
        """Save a program of up to three inputs; ``build`` maps their variables to one result or several."""
        specs = [Builder.TensorSpec(x.shape, KINDS[x.dtype]) for x in inputs]
        system = getattr(coremltools.target, target)

        def body(*given):
            made = build(*given)
            return tuple(made) if isinstance(made, (list, tuple)) else made

        code = {1: lambda x: body(x), 2: lambda x, y: body(x, y), 3: lambda x, y, z: body(x, y, z)}[len(inputs)]
        path = self._folder / "program.mlpackage"
        # coremltools collects garbage in every conversion: 0.4 s each in a process as large as a test run's.
        with quiet(), mock.patch.object(gc, "collect"):
            coremltools.convert(
                Builder.program(input_specs=specs, opset_version=system)(code),
                convert_to="mlprogram",
                skip_model_load=True,
                pass_pipeline=coremltools.PassPipeline.EMPTY,
                compute_precision=coremltools.precision.FLOAT32,
                minimum_deployment_target=system,
            ).save(str(path))
        return path

    def __call__(self, build: Callable[..., Any], *inputs: np.ndarray, target: str = "iOS17") -> Any:
        """Return the program's result as numpy's array, or a list of several."""
        package = read_package(self.save(build, *inputs, target=target))
        program = read_program(package.model, package.folder)
        outputs = execute(program, dict(zip(NAMES, map(torch.from_numpy, inputs), strict=False)))
        results = [outputs[name].numpy() for name in program.outputs]
        return results[0] if len(results) == 1 else results
