"""TFLite artefacts in LiteRT."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact
from solov2_edge.runtime.contract import check_batch, check_threads, engine_outputs
from solov2_edge.runtime.litert_check import require_agreement
from solov2_edge.runtime.litert_delegates import Request, available_cpus, delegate_requests
from solov2_edge.runtime.litert_gpu import GpuNetwork
from solov2_edge.runtime.litert_graph import Graph, read_graph
from solov2_edge.runtime.litert_network import InterpreterNetwork
from solov2_edge.runtime.litert_package import ENGINE_ERRORS, LitertPackage, find_package, one_line
from solov2_edge.runtime.session import Outputs
from solov2_edge.runtime.tflite_file import read_manifest_text

__all__ = ["LitertSession"]


class LitertSession:
    """One .tflite artefact, open in LiteRT; see :class:`~solov2_edge.runtime.session.Session`.

    Quantised and float16 inputs and outputs are converted here, so that callers give pixels or float32 and get
    float32. One interpreter runs one frame at a time: threads that share a session wait for each other; to run in
    parallel, open one session per thread.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: package and version, for example ``"ai-edge-litert 2.3.0"``.
        providers: what really runs how many of the graph's nodes, for example ``("XNNPACK (112 of 118 nodes)",
            "built-in kernels (6 of 118 nodes)")``, or the GPU's adapter.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: str | Sequence[str] | None = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Open an artefact and check it against its manifest.

        Args:
            path: the .tflite file.
            threads: threads inside one operator, 1..1024; None takes one per CPU this process may use.
            providers: ``xnnpack`` or ``cpu``, ``builtin`` (LiteRT's own kernels), ``cpu-reference`` (its slow plain
                ones, to compare with), ``gpu`` (the whole graph, in float16 unless told otherwise), or the path of a
                delegate library: exactly that one. A sequence of names is a fallback list, tried in order; default
                ``("xnnpack", "builtin")``. A GPU's or a library's results are compared with the CPU's once.
            provider_options: provider name -> its options: ``{"gpu": {"enforce_f32": True}}``, or what a delegate
                library takes.

        Raises:
            InputError: the file is missing, damaged or not what its manifest says, a provider is not available, or
                an argument is out of range.
            MissingDependencyError: no package that runs .tflite files is installed.
        """
        file = require_artefact(path)
        check_threads(threads)
        requests = delegate_requests(providers, provider_options)
        package = find_package()
        sidecar = read_sidecar(file)
        self.manifest: Manifest = agreed_manifest(file, sidecar, read_manifest_text(file))
        self.engine: str = package.engine
        graph = read_graph(package, os.fspath(file), self.manifest)
        count = available_cpus() if threads is None else threads
        self._network: InterpreterNetwork | GpuNetwork | None = _open(
            package, os.fspath(file), requests, count, graph, self.manifest
        )
        self.providers: tuple[str, ...] = self._network.providers
        self._lock = threading.Lock()

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Run the network once.

        Args:
            batch: (1, H, W, 3) uint8 RGB or (1, 3, H, W) float32, as the manifest's input contract says.

        Raises:
            InputError: shape or dtype differ from the contract, or the session is closed.
            SolovEdgeError: the engine failed, for example for want of memory.
        """
        check_batch(batch, self.manifest.input)
        with self._lock:
            if self._network is None:
                raise InputError("this session is closed; load the artefact again")
            try:
                arrays = self._network.run(batch)
            except ENGINE_ERRORS as error:
                raise SolovEdgeError(f"LiteRT failed while running the network: {one_line(error)}") from error
        return engine_outputs(arrays, self.manifest)

    def close(self) -> None:
        """Release the engine's memory; running afterwards is an error."""
        with self._lock:
            if self._network is not None:
                self._network.close()
            self._network = None

    def __enter__(self) -> LitertSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(
    package: LitertPackage, path: str, requests: Sequence[Request], threads: int, graph: Graph, manifest: Manifest
) -> InterpreterNetwork | GpuNetwork:
    """Open the first request that really comes up."""
    failure: InputError | None = None
    for request in requests:
        try:
            if request.name == "gpu":
                network: InterpreterNetwork | GpuNetwork = GpuNetwork(package, path, graph, request.options)
            else:
                network = InterpreterNetwork(package, path, graph, request, threads)
            if request.foreign:
                own = InterpreterNetwork(package, path, graph, Request("builtin"), threads)
                require_agreement(path, network, own, manifest)
            return network
        except InputError as error:
            failure = error
    assert failure is not None  # requests are never empty
    raise failure
