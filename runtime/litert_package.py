"""The package that runs .tflite files: ai-edge-litert, else the older tflite-runtime, else TensorFlow's copy."""

from __future__ import annotations

import ctypes
import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError

__all__ = ["ENGINE_ERRORS", "LitertPackage", "find_package", "one_line", "too_old_for_numpy"]

# What interpreters and the dynamic loader raise; SystemError is how pybind11 wraps an error of another module.
ENGINE_ERRORS = (RuntimeError, ValueError, OSError, MemoryError, TypeError, SystemError)
ENTRY = "tflite_plugin_create_delegate"  # of external_delegate_interface.h
LONGEST = 300  # characters of an engine's message that are shown
PURPOSE = "running .tflite artefacts"
# Distribution -> module with Interpreter, preferred first. tflite-runtime 2.14 was the last of its name.
PACKAGES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite",
}


@dataclass(frozen=True, slots=True)
class LitertPackage:
    """An installed package with a TFLite interpreter.

    Attributes:
        name: of the distribution, a key of :data:`PACKAGES`.
        version: of the distribution.
        module: has ``Interpreter``.
    """

    name: str
    version: str
    module: Any

    @property
    def engine(self) -> str:
        """Return name and version, as sessions show them."""
        return f"{self.name} {self.version}"

    def resolver(self, name: str) -> Any:
        """Return a member of ``OpResolverType``: which kernels an interpreter begins with."""
        return getattr(self._part("OpResolverType"), name)

    def load_delegate(self, library: str, options: Mapping[str, Any]) -> Any:
        """Load a delegate from a library.

        Raises:
            InputError: it cannot be loaded, or is no delegate library, or refuses the options.
        """
        try:
            # The packages' own loader leaves half an object behind, whose end is another error on the terminal.
            if not hasattr(ctypes.CDLL(library), ENTRY):
                raise InputError(f"{library} is not a TFLite delegate library: it has no function {ENTRY}")
            return self._part("load_delegate")(library, dict(options))
        except InputError:
            raise
        except ENGINE_ERRORS as error:
            raise InputError(f"the delegate library {library} cannot be used: {one_line(error)}") from error

    def _part(self, name: str) -> Any:
        """Return what TensorFlow keeps one module deeper than the others."""
        return getattr(self.module if hasattr(self.module, name) else self.module.experimental, name)

    def interpreter(self, path: str, **options: Any) -> Any:
        """Create an interpreter; see the package's own documentation for the options.

        Raises:
            InputError: the package was built for numpy 1 and numpy 2 is installed.
            Exception: whatever else the package raises for a file it cannot read.
        """
        try:
            with warnings.catch_warnings():
                # TensorFlow's word that its copy gives way to ai-edge-litert, which was looked for first.
                warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
                return self.module.Interpreter(model_path=path, **options)
        except (ImportError, SystemError, AttributeError) as error:
            if too_old_for_numpy(error):
                raise InputError(
                    f"{self.engine} was built for numpy 1 and cannot work with the numpy 2 installed here; install its "
                    "successor with pip install 'solov2-edge[tflite]', or numpy<2"
                ) from error
            raise


def find_package() -> LitertPackage:
    """Return the first of :data:`PACKAGES` that can be imported.

    Raises:
        MissingDependencyError: none is installed.
        SolovEdgeError: one is installed but broken, and no other one works.
    """
    broken = []
    for name, path in PACKAGES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # importing tensorflow warns of its own dependencies
                module = importlib.import_module(path)
        except ImportError as error:
            if not (isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == path.split(".")[0]):
                broken.append(f"{name} is installed but cannot be imported ({one_line(error)})")
            continue
        return LitertPackage(name, _version(name, module), module)
    if broken:
        raise SolovEdgeError(f"{PURPOSE} failed: {'; '.join(broken)}; install it again, or another of its versions")
    raise MissingDependencyError("ai-edge-litert", "tflite", PURPOSE)


def too_old_for_numpy(error: BaseException | None) -> bool:
    """Say whether an error, or one that caused it, is that of a module built for numpy 1 under numpy 2."""
    while error is not None:
        if "_ARRAY_API" in str(error) or "multiarray failed to import" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """Return an error's text as one line of at most :data:`LONGEST` characters, its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if line) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _version(name: str, module: Any) -> str:
    for distribution in (name, f"{name}-cpu", f"{name}-nightly"):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return str(getattr(module, "__version__", "of unknown version"))
