"""Describe an ncnn artefact: its manifest, and the layers of its two networks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar
from solov2_edge.runtime.ncnn_network import HEAD, TRUNK
from solov2_edge.runtime.ncnn_session import manifest_text

__all__ = ["describe_ncnn"]

MAGIC = "7767517"


def describe_ncnn(path: Path) -> tuple[Manifest | None, dict[str, Any]]:
    """Return the manifest of an artefact, if it has one, and facts about its networks.

    Raises:
        InputError: a network cannot be read, or the manifests differ.
    """
    sidecar, embedded = read_sidecar(path), manifest_text(path)
    manifest = None if sidecar is None and embedded is None else agreed_manifest(path, sidecar, embedded)
    layers = Counter(kind for name in (TRUNK, HEAD) for kind in _layers(path / f"{name}.param"))
    return manifest, {"ops": dict(layers.most_common())}


def _layers(file: Path) -> list[str]:
    """Return the kind of every layer that a .param file lists."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{file} cannot be read ({error}); copy the whole folder again") from error
    kinds = [line.split()[0] for line in lines[2:] if line.strip()]
    good = len(lines) > 2 and lines[0].strip() == MAGIC and lines[1].split()[:1] == [str(len(kinds))]
    require(good, f"{file} is not a whole list of ncnn layers; copy the whole folder again")
    return kinds
