"""Describe a .tflite file: its manifest, and its operators and types where ai-edge-litert is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar
from solov2_edge.runtime.tflite_file import read_manifest_text

__all__ = ["describe_tflite"]

SCHEMA = ("ai_edge_litert", "flatbuffers")  # what names operators


def describe_tflite(path: Path) -> tuple[Manifest | None, dict[str, Any]]:
    """Return the manifest of a .tflite file, if it has one, and facts about its graph.

    Raises:
        InputError: the file is truncated or damaged, or its manifests differ.
    """
    sidecar, embedded = read_sidecar(path), read_manifest_text(path)
    manifest = None if sidecar is None and embedded is None else agreed_manifest(path, sidecar, embedded)
    try:
        return manifest, _facts(path)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in SCHEMA:
            raise
        return manifest, {"note": "operators need ai-edge-litert: pip install 'solov2-edge[tflite]'"}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _facts(path: Path) -> dict[str, Any]:
    from solov2_edge.converters.tflite_facts import read_facts

    facts = read_facts(path.read_bytes())
    return {
        "signatures": {
            name: f"({', '.join(inputs)}) -> ({', '.join(outputs)})"
            for name, (inputs, outputs) in facts.signatures.items()
        },
        "ops": dict(facts.ops),
        "custom_ops": list(facts.custom_ops),
        "weights": {f"{name} {given} x {weights}": n for (name, given, weights), n in facts.kernels.items()},
        "tensors": dict(facts.tensor_types),
        "constants": {f"{kind} bytes": count for kind, count in facts.constant_bytes.items()},
        "largest_rank": facts.max_rank,
        "inner_transposes": facts.inner_transposes,
        "dynamic_tensors": facts.dynamic_tensors,
    }
