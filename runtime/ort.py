"""ONNX artefacts in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError, require
from solov2_edge.manifest import METADATA_KEY, Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact
from solov2_edge.runtime.contract import (
    check_batch,
    check_threads,
    engine_outputs,
    input_layout,
    output_is_whole,
    output_shapes,
)
from solov2_edge.runtime.onnx_file import read_manifest_text
from solov2_edge.runtime.ort_providers import provider_requests
from solov2_edge.runtime.ort_tensorrt import TENSORRT, prepare_cache, runs_in_tensorrt, tensorrt_options
from solov2_edge.runtime.session import Outputs
from solov2_edge.runtime.threads import ORT_CONFIG, ort_threads

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _states
except ImportError as error:
    raise MissingDependencyError("onnxruntime", "onnx", "running .onnx artefacts") from error

__all__ = ["OrtSession"]

Requests = list[list[tuple[str, dict[str, Any]]]]
QUIET = 3  # ONNX Runtime's severity "error": no warnings on stderr
TYPE_NAMES = {"uint8": ("tensor(uint8)",), "float32": ("tensor(float)",)}
# ONNX Runtime raises its own exceptions, which share no base class below Exception.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        error
        for error in vars(_states).values()
        if isinstance(error, type) and issubclass(error, Exception) and error.__module__ == _states.__name__
    ),
)


class OrtSession:
    """One .onnx artefact, open in ONNX Runtime; see :class:`~solov2_edge.runtime.session.Session`.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: ``"onnxruntime <version>"``.
        providers: the execution providers the open session really has, first choice first. ONNX Runtime always
            adds its CPU provider, for operators the others cannot run.
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
            threads: threads inside one operator, 1..1024; None takes one per physical core this process may use.
            providers: ``cpu`` (default), ``cuda``, ``tensorrt``, ``coreml`` or a full provider name: exactly that
                one. A sequence of names is a fallback list, tried in order.
            provider_options: provider name -> ONNX Runtime's options for it; TensorRT's defaults are those of
                :func:`~solov2_edge.runtime.ort_tensorrt.tensorrt_options`.

        Raises:
            InputError: the file is missing, damaged or not what its manifest says, a provider is not available or
                cannot run it, or an argument is out of range.
        """
        file = require_artefact(path)
        check_threads(threads)
        requests = provider_requests(providers, provider_options, onnxruntime.get_available_providers())
        sidecar = read_sidecar(file)
        requests = _with_tensorrt(file, sidecar, requests)
        self._session: Any = _open(os.fspath(file), threads, requests)
        self.engine: str = f"onnxruntime {onnxruntime.__version__}"
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        embedded = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.manifest: Manifest = agreed_manifest(file, sidecar, embedded)
        _check_graph(os.fspath(file), self._session, self.manifest)

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Run the network once.

        Args:
            batch: (1, H, W, 3) uint8 RGB or (1, 3, H, W) float32, as the manifest's input contract says.

        Raises:
            InputError: shape or dtype differ from the contract, or the session is closed.
            SolovEdgeError: the engine failed, for example for want of memory.
        """
        require(self._session is not None, "this session is closed; load the artefact again")
        check_batch(batch, self.manifest.input)
        try:
            arrays = self._session.run(list(self.manifest.outputs), {self.manifest.input.name: batch})
        except ORT_ERRORS as error:
            raise SolovEdgeError(f"ONNX Runtime failed while running the network: {_first_line(error)}") from error
        return engine_outputs(arrays, self.manifest)

    def close(self) -> None:
        """Release the engine's memory; running afterwards is an error."""
        self._session = None

    def __enter__(self) -> OrtSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _with_tensorrt(file: Path, sidecar: Manifest | None, requests: Requests) -> Requests:
    """Return the requests with TensorRT's options in place, and without it where a later choice must run the file."""
    if TENSORRT not in dict(requests[0]):
        return requests
    manifest = agreed_manifest(file, sidecar, read_manifest_text(file))
    if not runs_in_tensorrt(manifest) and len(requests) > 1:
        others = [request for request in requests[0] if request[0] != TENSORRT]
        return [others[first:] for first in range(len(others))]
    options = tensorrt_options(file, manifest, dict(requests[0])[TENSORRT], onnxruntime.__version__)
    prepare_cache(options)
    return [[(name, options if name == TENSORRT else own) for name, own in request] for request in requests]


def _open(path: str, threads: int | None, requests: Requests) -> Any:
    """Open the first request whose provider really comes up; ONNX Runtime itself would go on with the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.inter_op_num_threads = 1
    for key, value in ORT_CONFIG.items():
        options.add_session_config_entry(key, value)
    if threads is None:
        threads = ort_threads()
    if threads is not None:
        options.intra_op_num_threads = threads
    failure: Exception | None = None
    for request in requests:
        wanted = request[0][0]
        try:
            session = onnxruntime.InferenceSession(path, options, providers=request, enable_fallback=0)
        except ORT_ERRORS as error:
            cure = "convert the checkpoint again or check the installation"
            if cache := request[0][1].get("trt_engine_cache_path"):
                cure = f"delete {cache} if TensorRT was updated since it was filled, else {cure}"
            failure = InputError(
                f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__} with {wanted}: "
                f"{_first_line(error)}; {cure}"
            )
            failure.__cause__ = error
            continue
        got = session.get_providers()
        if wanted == got[0]:
            return session
        failure = InputError(
            f"{wanted} was asked for, but ONNX Runtime could not start it and fell back to {', '.join(got)}; "
            "check its driver and libraries, or give a fallback list such as providers=('cuda', 'cpu')"
        )
    assert failure is not None  # requests are never empty
    raise failure


def _check_graph(path: str, session: Any, manifest: Manifest) -> None:
    """Refuse a graph whose input or outputs are not those of its manifest; a symbolic size is checked when run."""
    inputs = {node.name: node for node in session.get_inputs()}
    contract = manifest.input
    require(
        list(inputs) == [contract.name],
        f"{path} takes inputs {sorted(inputs)}, its manifest says {contract.name!r}; convert the checkpoint again",
    )
    shape, dtype = input_layout(contract)
    node = inputs[contract.name]
    require(
        _same(node.shape, shape) and node.type in TYPE_NAMES[dtype],
        f"{path} takes {node.type} {node.shape}, its manifest says {dtype} {list(shape)}; convert the checkpoint again",
    )
    outputs = {node.name: node for node in session.get_outputs()}
    for name, expected, whole in zip(manifest.outputs, output_shapes(manifest), output_is_whole(manifest), strict=True):
        require(
            name in outputs,
            f"{path} gives outputs {sorted(outputs)}, its manifest says {name!r}; convert the checkpoint again",
        )
        node = outputs[name]
        require(
            node.type in (("tensor(int32)",) if whole else ("tensor(float)", "tensor(float16)"))
            and (_same(node.shape, expected) or _same(node.shape, (1, *expected))),
            f"{path} gives {name} as {node.type} {node.shape}, its manifest says {'int32' if whole else 'float'} "
            f"{list(expected)}; convert the checkpoint again",
        )


def _same(shape: Sequence[int | str | None], expected: Sequence[int]) -> bool:
    return len(shape) == len(expected) and all(
        not isinstance(side, int) or side == want for side, want in zip(shape, expected, strict=True)
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
