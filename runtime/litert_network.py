"""A .tflite graph in a TFLite interpreter, on the CPU or with a delegate from a library."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.litert_delegates import Request, count_nodes, count_parts, nodes_taken
from solov2_edge.runtime.litert_graph import Graph
from solov2_edge.runtime.litert_package import ENGINE_ERRORS, LitertPackage, one_line
from solov2_edge.runtime.native_stderr import captured_stderr

__all__ = ["InterpreterNetwork"]


class InterpreterNetwork:
    """A graph with its tensors allocated.

    Attributes:
        providers: what runs how many of its nodes, for example ``("XNNPACK (112 of 118 nodes)", "built-in kernels
            (6 of 118 nodes)")``.
    """

    def __init__(self, package: LitertPackage, path: str, graph: Graph, request: Request, threads: int) -> None:
        """Create an interpreter with what was asked for, and allocate its tensors.

        Raises:
            InputError: it cannot be created, or what was asked for takes none of the nodes.
        """
        self._graph = graph
        self._interpreter: Any
        self._interpreter, library = _allocated(package, path, request, threads)
        self.providers = _providers(self._interpreter._get_ops_details(), path, request, library)

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run once; see :meth:`LitertSession.run`. What is returned is copied, and stays as it is."""
        source = self._graph.source
        self._interpreter.set_tensor(source.index, source.encode(batch))
        self._interpreter.invoke()
        return [tensor.decode(self._interpreter.get_tensor(tensor.index)) for tensor in self._graph.outputs]

    def close(self) -> None:
        """Give the memory back."""
        self._interpreter = None


def _allocated(package: LitertPackage, path: str, request: Request, threads: int) -> tuple[Any, int]:
    """Return an interpreter ready to run, and how many parts of the graph a delegate library has taken."""
    options: dict[str, Any] = {"num_threads": threads}
    library = 0
    # A library's own words are the user's business; LiteRT's are not.
    quiet = contextlib.nullcontext() if request.library else captured_stderr()
    try:
        with quiet:
            if request.library:
                options["experimental_delegates"] = [package.load_delegate(request.name, request.options)]
            else:
                options["experimental_op_resolver_type"] = package.resolver(request.resolver)
            interpreter = package.interpreter(path, **options)
            if request.library:
                library = count_parts(interpreter._get_ops_details())
            interpreter.allocate_tensors()  # which is when XNNPACK takes what is left
    except InputError:
        raise
    except ENGINE_ERRORS as error:
        raise InputError(
            f"{path} cannot be opened by {package.engine} with {request.name}: {one_line(error)}; convert the "
            "checkpoint again or check the installation"
        ) from error
    return interpreter, library


def _providers(operators: Sequence[Mapping[str, Any]], path: str, request: Request, library: int) -> tuple[str, ...]:
    """Say what runs how many nodes, and refuse what was asked for and runs none."""
    nodes = count_nodes(operators)
    own = "reference kernels" if request.name == "cpu-reference" else "built-in kernels"
    taken = {"XNNPACK": nodes_taken(operators, start=library)}
    if request.library:
        taken = {request.name: nodes_taken(operators, stop=library), **taken}
    taken[own] = nodes - sum(taken.values())
    asked = "XNNPACK" if request.name == "xnnpack" else request.name
    if taken.get(asked) == 0:
        raise InputError(
            f"{path}: {asked} was asked for, but takes none of the graph's {nodes} nodes; convert to a precision it "
            "runs, or give a fallback list such as providers=('xnnpack', 'builtin')"
        )
    return tuple(f"{name} ({count} of {nodes} nodes)" for name, count in taken.items() if count)
