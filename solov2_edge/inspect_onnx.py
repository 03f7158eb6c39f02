"""Describe an ONNX file: its manifest, and its operators where the onnx package is installed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY, Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar

__all__ = ["describe_onnx"]


def describe_onnx(path: Path) -> tuple[Manifest | None, dict[str, Any]]:
    """Return the manifest of an ONNX file, if it has one, and facts about its graph.

    Raises:
        InputError: the file is truncated or damaged, or its manifests differ.
    """
    try:
        embedded, graph = _read(path)
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        embedded, graph = None, {"note": "operators need the onnx package: pip install 'solov2-edge[convert]'"}
    sidecar = read_sidecar(path)
    manifest = None if sidecar is None and embedded is None else agreed_manifest(path, sidecar, embedded)
    return manifest, graph


def _read(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the manifest text inside an ONNX file and facts about its graph; weights elsewhere are not opened."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} looks like an ONNX model but cannot be parsed; it is truncated or damaged") from error
    embedded = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    facts = {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "ops": dict(Counter(node.op_type for node in model.graph.node).most_common()),
    }
    return embedded, facts
