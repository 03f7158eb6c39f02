"""ONNX artefacts in OpenVINO."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact
from solov2_edge.runtime.contract import check_batch, check_threads, engine_outputs
from solov2_edge.runtime.onnx_file import read_manifest_text
from solov2_edge.runtime.session import Outputs
from solov2_edge.runtime.signal_stack import kept_signal_stack
from solov2_edge.runtime.vino_devices import PRECISION, DeviceRequest, device_requests
from solov2_edge.runtime.vino_import import ENGINE, openvino
from solov2_edge.runtime.vino_model import VINO_ERRORS, cause, read_model

__all__ = ["VinoSession"]


class VinoSession:
    """One .onnx artefact, open in OpenVINO; see :class:`~solov2_edge.runtime.session.Session`.

    Threads that share a session wait for each other; to run in parallel, open one session per thread.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: ``"openvino <version>"``.
        providers: the device and the precision that it computes floats in, for example ``("CPU in f32",)``.
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
            path: the .onnx file.
            threads: threads of the CPU, 1..1024; None takes one per physical core this process may use.
            providers: ``cpu`` (default), ``gpu``, ``npu``, in float32; ``cpu-bf16`` or ``gpu-f16`` in less. A sequence
                of names is a fallback list, tried in order.
            provider_options: provider name -> OpenVINO's properties for it.

        Raises:
            InputError: the file is missing, damaged or not what its manifest says, OpenVINO does not know one of its
                operators, a device is not there or cannot run it, or an argument is out of range.
        """
        file = require_artefact(path)
        check_threads(threads)
        with kept_signal_stack():
            core: Any = openvino.Core()
            requests = device_requests(providers, provider_options, threads, core)
            self.manifest: Manifest = agreed_manifest(file, read_sidecar(file), read_manifest_text(file))
            compiled, device = _compile(core, read_model(core, file, self.manifest), file, requests)
            self.engine: str = ENGINE
            precision = compiled.get_property(PRECISION).get_type_name()
            self.providers: tuple[str, ...] = (f"{device} in {precision}",)
            self._request: Any = compiled.create_infer_request()
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
            if self._request is None:
                raise InputError("this session is closed; load the artefact again")
            try:
                # Into the engine's own memory, so that nothing depends on how long the caller's array lives.
                self._request.get_input_tensor().data[...] = batch
                self._request.infer()
                arrays = [np.array(self._request.get_tensor(name).data) for name in self.manifest.outputs]
            except VINO_ERRORS as error:
                raise SolovEdgeError(f"OpenVINO failed while running the network: {cause(error)}") from error
        return engine_outputs(arrays, self.manifest)

    def close(self) -> None:
        """Release the engine's memory; running afterwards is an error."""
        with self._lock:
            self._request = None

    def __enter__(self) -> VinoSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _compile(core: Any, model: Any, file: Path, requests: Sequence[DeviceRequest]) -> tuple[Any, str]:
    """Compile for the first device that can run the model, and return what came out with the device's name."""
    failure: InputError | None = None
    for request in requests:
        try:
            return core.compile_model(model, request.device, request.properties), request.device
        except VINO_ERRORS as error:
            failure = InputError(
                f"{file} cannot be opened by {ENGINE} on {request.device}: "
                f"{cause(error)}; check the provider's options and driver, or run it in ONNX Runtime"
            )
            failure.__cause__ = error
    assert failure is not None  # requests are never empty
    raise failure
