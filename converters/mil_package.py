"""Finding what lies in an .mlpackage folder: the specification, its weight folder, and our manifest's text."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, MissingDependencyError, require
from solov2_edge.manifest import METADATA_KEY

__all__ = ["Package", "coremltools_version", "read_package"]

MANIFEST = "Manifest.json"
PROTOBUF_PACKAGE = "_solov2_edge_coreml_protobuf"
MAX_SPECIFICATION = 1 << 30  # bytes; weights lie outside, so even big programs stay below a few MiB


@dataclass(frozen=True, slots=True)
class Package:
    """One .mlpackage as it lies on disk.

    Attributes:
        path: the folder.
        model: the parsed specification, a ``Model_pb2.Model``.
        folder: where the specification lies; weight files are named relative to it.
    """

    path: Path
    model: Any
    folder: Path

    @property
    def manifest_text(self) -> str | None:
        """Our manifest's JSON in the user metadata, or None."""
        text: str | None = dict(self.model.description.metadata.userDefined).get(METADATA_KEY)
        return text


def read_package(path: str | os.PathLike[str]) -> Package:
    """Open an .mlpackage folder.

    Raises:
        InputError: there is none, it is damaged, or it holds no ML Program.
        MissingDependencyError: coremltools, which brings the protobuf definitions, is not installed.
    """
    folder = Path(path)
    require(folder.exists(), f"{path} does not exist; expected an .mlpackage made by solov2-edge convert")
    require(
        folder.is_dir(),
        f"{path} is a file, expected an .mlpackage folder; copy the whole folder, or unzip it first",
    )
    specification = folder / "Data" / _root_item(folder)
    try:
        require(specification.stat().st_size <= MAX_SPECIFICATION, f"{specification} is too large for a specification")
        data = specification.read_bytes()
    except OSError as error:
        raise InputError(f"{specification} cannot be read ({error.strerror}); copy the package again") from error
    protobuf, model_message = _protobuf()
    model = model_message()
    try:
        model.ParseFromString(data)
    except protobuf as error:
        raise InputError(f"{specification} is damaged ({error}); copy the package or convert again") from error
    kind = model.WhichOneof("Type")
    require(kind == "mlProgram", f"{path} holds {kind or 'no model'}, expected an ML Program; convert again")
    return Package(folder, model, specification.parent)


def coremltools_version() -> str:
    """Return the version of coremltools, whose definitions the program was read with."""
    from importlib.metadata import version

    return version("coremltools")


def _root_item(folder: Path) -> Path:
    """Return the specification's path below Data, as the package's own manifest says."""
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
        item = Path(data["itemInfoEntries"][data["rootModelIdentifier"]]["path"])
    except OSError as error:
        raise InputError(f"{folder / MANIFEST} cannot be read ({error.strerror}); copy the package again") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / MANIFEST} names no model; copy the package or convert again") from error
    require(
        not item.is_absolute() and ".." not in item.parts and "\0" not in str(item),
        f"{folder / MANIFEST} points outside the package, to {item}; convert the checkpoint again",
    )
    return item


def _protobuf() -> tuple[type[Exception], Any]:
    """Return protobuf's error and the ``Model`` message, from the definitions that coremltools brings.

    Only these are imported: all of coremltools takes five seconds, and says that it lacks Apple's runtime and was
    not tested with this PyTorch, both of no consequence for reading a file.
    """
    try:
        found = importlib.util.find_spec("coremltools")
        if found is None or not found.submodule_search_locations:
            raise ImportError("coremltools")
        if PROTOBUF_PACKAGE not in sys.modules:
            folder = Path(found.submodule_search_locations[0]) / "proto"
            spec = importlib.util.spec_from_file_location(
                PROTOBUF_PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
            assert spec is not None  # a .py file always has a spec and a loader
            assert spec.loader is not None
            package = importlib.util.module_from_spec(spec)
            sys.modules[PROTOBUF_PACKAGE] = package
            spec.loader.exec_module(package)
        decode_error = importlib.import_module("google.protobuf.message").DecodeError
        definitions = importlib.import_module(f"{PROTOBUF_PACKAGE}.Model_pb2")
    except ImportError as error:
        raise MissingDependencyError("coremltools", "coreml", "reading .mlpackage artefacts") from error
    return decode_error, definitions.Model
