"""Describe a Core ML package: its manifest, its inputs and outputs as it declares them, its operations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from solov2_edge.manifest import Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar

__all__ = ["describe_package"]

# Core ML's specification versions and the systems that read them: Model.proto of coremltools 9.
SYSTEMS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18"}


def describe_package(path: Path) -> tuple[Manifest | None, dict[str, Any]]:
    """Return the manifest of a package, if it has one, and facts about its program.

    Raises:
        InputError: the package is damaged or holds no ML Program, or its manifests differ.
        ModuleNotFoundError: coremltools, which brings the format's definitions, is not installed.
    """
    from solov2_edge.converters.mil_package import read_package

    package = read_package(path)
    sidecar, embedded = read_sidecar(path), package.manifest_text
    manifest = None if sidecar is None and embedded is None else agreed_manifest(path, sidecar, embedded)
    version = package.model.specificationVersion
    functions = package.model.mlProgram.functions.values()
    operations = [
        op.type
        for function in functions
        for block in function.block_specializations.values()
        for op in block.operations
    ]
    facts = {
        "specification": f"{version} ({SYSTEMS.get(version, 'unknown system')} or newer)",
        "inputs": [_feature(entry) for entry in package.model.description.input],
        "ops": dict(Counter(op for op in operations if op != "const").most_common()),
    }
    return manifest, facts


def _feature(entry: Any) -> str:
    """Return an input as the package declares it: pictures are Core ML's own, everything else is an array."""
    kind = entry.type.WhichOneof("Type")
    if kind == "imageType":
        image = entry.type.imageType
        return f"{entry.name}: picture {image.height}x{image.width} (H x W)"
    return f"{entry.name}: array {'x'.join(str(side) for side in entry.type.multiArrayType.shape)}"
