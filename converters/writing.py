"""Putting an artefact and its manifest in place, so that what lies there never contradicts itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from solov2_edge.files import write_aside
from solov2_edge.manifest import InputContract, Manifest, manifest_path

__all__ = ["describe", "write_artefact"]


def write_artefact(target: Path, data: bytes, manifest: Manifest) -> Manifest:
    """Write the artefact and, beside it, its manifest completed with hash and size; return that manifest."""
    complete = replace(manifest, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    # The old manifest goes first: whenever this is interrupted, what lies there is an artefact with its own manifest
    # beside it or inside it, never with another's.
    manifest_path(target).unlink(missing_ok=True)
    write_aside(target, data)
    write_aside(manifest_path(target), complete.to_json())
    return complete


def describe(manifest: Manifest) -> str:
    """Return one line on the artefact, for the format's own field."""
    return f"SOLOv2 {manifest.spec.name}, {manifest.precision}, {_shape(manifest.input)}"


def _shape(contract: InputContract) -> str:
    size = f"{contract.height} x {contract.width}"
    return f"uint8 RGB image {size}" if contract.kind == "image" else f"normalised float32 tensor {size}"
