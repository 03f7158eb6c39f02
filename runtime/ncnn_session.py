"""ncnn artefacts in ncnn."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact
from solov2_edge.runtime.contract import check_batch, check_threads, engine_outputs
from solov2_edge.runtime.ncnn_network import NcnnNetwork, find_ncnn
from solov2_edge.runtime.ncnn_settings import NcnnRequest, ncnn_requests
from solov2_edge.runtime.session import Outputs

__all__ = ["MANIFEST", "NcnnSession", "manifest_text"]

MANIFEST = "manifest.json"  # inside the artefact


class NcnnSession:
    """One .ncnn artefact, open in ncnn; see :class:`~solov2_edge.runtime.session.Session`.

    Threads that share a session wait for each other; to run in parallel, open one session per thread.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: ``"ncnn <version>"``.
        providers: how it runs, for example ``("cpu",)``.
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
            path: the .ncnn folder.
            threads: threads inside one layer, 1..1024; None takes one per physical core this process may use.
            providers: ``cpu`` (default) or ``vulkan``, in float32; ``cpu-fp16``, ``cpu-bf16`` or ``vulkan-fp16``
                let ncnn compute in less where the processor can. A sequence of names is a fallback list.
            provider_options: provider name -> fields of ``ncnn.Option``, for example
                ``{"cpu": {"use_winograd_convolution": False, "use_packing_layout": False}}``.

        Raises:
            InputError: the folder is missing, damaged or not what its manifest says, there is no GPU with Vulkan
                where one is asked for, or an argument is out of range.
            MissingDependencyError: ncnn is not installed.
        """
        folder = require_artefact(path)
        check_threads(threads)
        requests = ncnn_requests(providers, provider_options)
        ncnn = find_ncnn()
        self.engine: str = f"ncnn {ncnn.__version__}"
        self.manifest: Manifest = agreed_manifest(folder, read_sidecar(folder), manifest_text(folder))
        self._network: NcnnNetwork | None
        self._network, name = _open(ncnn, folder, requests, threads, self.manifest)
        self.providers: tuple[str, ...] = (name,)
        self._lock = threading.Lock()

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Run the network once; what it returns is the caller's own, whatever runs next.

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
            arrays = self._network.run(batch)
        return engine_outputs(arrays, self.manifest)

    def close(self) -> None:
        """Release the engine's memory; running afterwards is an error."""
        with self._lock:
            self._network = None

    def __enter__(self) -> NcnnSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def manifest_text(folder: Path) -> str | None:
    """Return the JSON text of the manifest inside an artefact, or None where there is none.

    Raises:
        InputError: it is not text.
    """
    file = folder / MANIFEST
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{file} cannot be read ({error}); copy the whole folder again") from error


def _open(
    ncnn: Any, folder: Path, requests: Sequence[NcnnRequest], threads: int | None, manifest: Manifest
) -> tuple[NcnnNetwork, str]:
    """Open the first request that really comes up, and return its name with it."""
    failure: InputError | None = None
    for request in requests:
        try:
            return NcnnNetwork(ncnn, folder, request, threads, manifest), request.name
        except InputError as error:
            failure = error
    assert failure is not None  # requests are never empty
    raise failure
