"""Core ML packages in Apple's runtime, on a Mac."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError, require
from solov2_edge.manifest import METADATA_KEY, Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact
from solov2_edge.runtime.contract import check_batch, engine_outputs, output_shapes
from solov2_edge.runtime.coreml_units import placement, unit_requests
from solov2_edge.runtime.session import Outputs

__all__ = ["CoremlSession"]

MAC = "darwin"
CPU_ONLY = "cpu_only"


class CoremlSession:
    """One .mlpackage, open in Core ML; see :class:`~solov2_edge.runtime.session.Session`.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: ``"Core ML, coremltools <version>"``.
        providers: the devices that Core ML plans to use, with the number of operators each runs, most first; where
            this macOS does not tell, the compute units it may choose from.
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
            path: the .mlpackage folder.
            threads: must be None: Core ML decides itself.
            providers: compute units: ``all`` (default), ``cpu_and_ne``, ``cpu_and_gpu`` or ``cpu_only``. A sequence
                is a fallback list, tried in order. A program that decodes takes ``cpu_only``.
            provider_options: must be empty: compute units have none.

        Raises:
            InputError: this is no Mac, the package is missing, damaged or not what its manifest says, Core ML cannot
                load it, or an argument is out of range.
            MissingDependencyError: coremltools or Pillow is not installed.
        """
        package = require_artefact(path)
        require(threads is None, f"Core ML chooses its threads itself, got threads={threads!r}; leave them out")
        require(not provider_options, f"Core ML's compute units take no options, got {provider_options!r}")
        requests = unit_requests(providers)
        if sys.platform != MAC:
            raise InputError(
                f"{path}: Core ML's runtime exists on Macs and iPhones only; here the solov2-edge command line and "
                "solov2_edge.converters.mil_interpreter.load(path) run the program by an interpreter"
            )
        coremltools = _coremltools()
        sidecar = read_sidecar(package)
        self._model, units = _open(coremltools, os.fspath(package), requests)
        embedded = dict(self._model.user_defined_metadata).get(METADATA_KEY)
        self.manifest: Manifest = agreed_manifest(package, sidecar, embedded)
        require(
            self.manifest.decode is None or units == CPU_ONLY,
            f"{path} decodes inside its program, which counts pixels in float32, and Core ML keeps float32 on the CPU "
            f"only: give providers={CPU_ONLY!r}, got {units!r}, or convert with --decode host",
        )
        _check_interface(os.fspath(package), self._model.get_spec().description, self.manifest)
        self._image = _image_maker() if self.manifest.input.kind == "image" else None
        self.engine: str = f"Core ML, coremltools {coremltools.__version__}"
        self.providers: tuple[str, ...] = placement(coremltools, self._model, units)

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Run the network once.

        Args:
            batch: (1, H, W, 3) uint8 RGB or (1, 3, H, W) float32, as the manifest's input contract says.

        Raises:
            InputError: shape or dtype differ from the contract, or the session is closed.
            SolovEdgeError: Core ML failed.
        """
        require(self._model is not None, "this session is closed; load the artefact again")
        contract = self.manifest.input
        check_batch(batch, contract)
        given = batch if self._image is None else self._image.fromarray(np.ascontiguousarray(batch[0]), "RGB")
        try:
            outputs = self._model.predict({contract.name: given})
        except Exception as error:
            # coremltools has no exceptions of its own: Core ML's failures arrive as RuntimeError or plain Exception.
            raise SolovEdgeError(f"Core ML failed while running the network: {_first_line(error)}") from error
        return engine_outputs([np.asarray(outputs[name]) for name in self.manifest.outputs], self.manifest)

    def close(self) -> None:
        """Release the model; running afterwards is an error."""
        self._model = None

    def __enter__(self) -> CoremlSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _coremltools() -> Any:
    """Import coremltools without its remarks about versions it was not tested with."""
    import logging

    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import coremltools
        import coremltools.models.compute_plan
    except ImportError as error:
        raise MissingDependencyError("coremltools", "coreml", "running .mlpackage artefacts") from error
    finally:
        logger.setLevel(level)
    return coremltools


def _image_maker() -> Any:
    """Return Pillow's Image module: coremltools takes an image input as nothing else."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("Pillow", "coreml", "giving a picture to Core ML") from error
    return Image


def _open(coremltools: Any, path: str, requests: Sequence[str]) -> tuple[Any, str]:
    """Return the model opened with the first compute units that Core ML accepts, and their name."""
    failure = ""
    for units in requests:
        try:
            with warnings.catch_warnings():
                # A model that cannot be loaded is a warning and an object without a model inside; the question below
                # gives the reason as an error.
                warnings.simplefilter("ignore", RuntimeWarning)
                model = coremltools.models.MLModel(path, compute_units=coremltools.ComputeUnit[units.upper()])
            model.get_compiled_model_path()
            return model, units
        except Exception as error:  # noqa: BLE001 - coremltools raises Exception itself
            failure = f"{units}: {_first_line(error)}"
    raise InputError(
        f"{path} cannot be opened by Core ML ({failure}); it may need a newer macOS, or convert the checkpoint again "
        "with a lower deployment target"
    )


def _check_interface(path: str, description: Any, manifest: Manifest) -> None:
    """Refuse a package whose inputs and outputs are not those of its manifest; shapes are checked when run."""
    again = "convert the checkpoint again"
    inputs = [(entry.name, entry.type.WhichOneof("Type")) for entry in description.input]
    kind = "imageType" if manifest.input.kind == "image" else "multiArrayType"
    require(
        inputs == [(manifest.input.name, kind)],
        f"{path} takes inputs {inputs}, its manifest says {(manifest.input.name, kind)}; {again}",
    )
    if kind == "imageType":
        image = description.input[0].type.imageType
        got, expected = (image.height, image.width), (manifest.input.height, manifest.input.width)
        require(got == expected, f"{path} takes an image of {got}, its manifest says {expected} (H, W); {again}")
    outputs = {entry.name: tuple(entry.type.multiArrayType.shape) for entry in description.output}
    for name, shape in zip(manifest.outputs, output_shapes(manifest), strict=True):
        require(
            outputs.get(name) in (shape, (1, *shape)),
            f"{path} gives {name} as {outputs.get(name)}, its manifest says {shape}; {again}",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
