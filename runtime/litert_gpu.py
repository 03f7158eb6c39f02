"""A .tflite graph on a GPU, through LiteRT's CompiledModel: WebGPU (Vulkan, Direct3D 12, Metal) or OpenCL.

The interpreter's old GPU delegate comes in no Python package; CompiledModel's accelerators come with ai-edge-litert.
Only whole graphs are run: a graph of which the GPU takes a part goes back and forth between two memories.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.litert_graph import Graph
from solov2_edge.runtime.litert_package import ENGINE_ERRORS, LitertPackage, one_line
from solov2_edge.runtime.native_stderr import captured_stderr

__all__ = ["GpuNetwork"]

# What LiteRT and Dawn, its WebGPU, say on descriptor 2.
ADAPTER = re.compile(r"Selected adapter: (?P<name>.+?), arch=.*adapterType=(?P<kind>[^\n,]+)")
REASON = re.compile(r"(Couldn't load [^\n]+|Failed to initialize [^\n]+|[^\n]*not supported[^\n]*)")
CURE = "check the GPU's driver and its Vulkan library, or give a fallback list such as providers=('gpu', 'xnnpack')"


class GpuNetwork:
    """A graph, compiled for the GPU as a whole.

    Attributes:
        providers: the one adapter that runs it, software ones told apart, for example
            ``("GPU (llvmpipe, CPU / Software)",)``.
    """

    def __init__(self, package: LitertPackage, path: str, graph: Graph, options: Mapping[str, Any]) -> None:
        """Compile a graph.

        Args:
            package: must be ai-edge-litert.
            path: the .tflite file.
            graph: its input and outputs.
            options: fields of LiteRT's ``GpuOptions``, for example ``{"enforce_f32": True}``; without it, float32
                graphs are computed in float16.

        Raises:
            InputError: the package has no CompiledModel, an option is unknown, or the GPU cannot run all of the graph.
        """
        if graph.signature is None:
            raise InputError(f"{path} has no signature, which gpu needs; convert the checkpoint again")
        try:
            compiled = importlib.import_module("ai_edge_litert.compiled_model")
        except ImportError as error:
            raise InputError(
                f"gpu needs ai-edge-litert 2.0 or later, but {package.engine} is installed; install it with "
                "pip install 'solov2-edge[tflite]'"
            ) from error
        try:
            gpu = compiled.GpuOptions(**options)
        except TypeError as error:
            known = ", ".join(compiled.GpuOptions.__dataclass_fields__)
            raise InputError(f"gpu takes the options {known}, got {sorted(options)}") from error
        self._graph = graph
        with captured_stderr() as said:
            try:
                wanted = compiled.Options(compiled.HardwareAccelerator.GPU, gpu_options=gpu)
                self._model: Any = compiled.CompiledModel.from_file(path, options=wanted)
                self._whole = self._model.is_fully_accelerated()
                self._input: Any = self._model.create_input_buffer_by_name(graph.signature, graph.source.name)
                self._buffers: dict[str, Any] = {
                    tensor.name: self._model.create_output_buffer_by_name(graph.signature, tensor.name)
                    for tensor in graph.outputs
                }
                failure = ""
            except ENGINE_ERRORS as error:
                # The text alone: the error itself would keep LiteRT's objects alive until after this block.
                failure = one_line(error)
        if failure:
            reason = REASON.search(said())
            raise InputError(
                f"{path} cannot be run on a GPU by {package.engine}: {reason.group().strip() if reason else failure}; "
                f"{CURE}"
            )
        if not self._whole:
            raise InputError(f"{path} has operators that {package.engine} cannot run on the GPU; {CURE}")
        adapter = ADAPTER.search(said())
        self.providers: tuple[str, ...] = (f"GPU ({adapter['name']}, {adapter['kind'].strip()})" if adapter else "GPU",)

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run once; see :meth:`LitertSession.run`."""
        source = self._graph.source
        self._input.write(source.encode(batch))
        self._model.run_by_name(self._graph.signature, {source.name: self._input}, self._buffers)
        arrays = []
        for tensor in self._graph.outputs:
            array = self._buffers[tensor.name].read(math.prod(tensor.shape), np.dtype(tensor.dtype))
            arrays.append(tensor.decode(array.reshape(tensor.shape)))
        return arrays

    def close(self) -> None:
        """Give the GPU's memory back."""
        with captured_stderr():
            self._input, self._buffers = None, {}
            self._model.close()
