"""``solov2-edge inspect FILE``: what a checkpoint or an artefact is."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from solov2_edge.budget import describe_quantisation
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError
from solov2_edge.file_kind import file_kind
from solov2_edge.manifest import Manifest, sha256_of, size_of
from solov2_edge.spec import ModelSpec

__all__ = ["add_arguments", "run"]

# kind of file -> (what people call it, module and function that describe it)
ARTEFACTS = {
    "onnx": ("ONNX", "solov2_edge.inspect_onnx", "describe_onnx"),
    "tflite": ("TFLite", "solov2_edge.inspect_tflite", "describe_tflite"),
    "coreml": ("Core ML", "solov2_edge.inspect_coreml", "describe_package"),
    "ncnn": ("ncnn", "solov2_edge.inspect_ncnn", "describe_ncnn"),
}
_SHOWN_CLASSES = 5
_SHOWN_OPS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="a checkpoint or an artefact")
    parser.add_argument("--variant", metavar="NAME", help="variant to assume where tensors leave a choice")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Describe the file by its content; its name plays no part."""
    path = Path(args.file)
    kind = file_kind(path)
    if kind.kind in ARTEFACTS:
        title, module, function = ARTEFACTS[kind.kind]
        manifest, facts = getattr(importlib.import_module(module), function)(path)
        data = _artefact(title, manifest, facts)
    elif kind.kind in ("torch-zip", "pickle", "safetensors"):
        data = _checkpoint(path, args.variant)
    else:
        manifest = _sidecar(path)
        if manifest is None:
            raise InputError(f"{path} looks like {kind.text}; expected a checkpoint or an artefact of solov2-edge")
        data = {"kind": f"{manifest.format} artefact", **_of_manifest(manifest)}
    data = {"file": str(path), **data, "size_bytes": size_of(path), "sha256": sha256_of(path)}
    for key, value in data.items():
        if key == "quantisation":
            for line in describe_quantisation(value or {}):
                console.say(f"{key:<16} {line}")
        elif value not in (None, "", {}, []):
            console.say(f"{key.replace('_', ' '):<16} {_words(key, value)}")
    return CommandResult(data)


def _artefact(title: str, manifest: Manifest | None, facts: dict[str, Any]) -> dict[str, Any]:
    if manifest is None:
        return {"kind": f"{title} model", "manifest": "none: not made by solov2-edge, or not read", **facts}
    return {"kind": f"{title} artefact", **_of_manifest(manifest), **facts}


def _checkpoint(path: Path, variant: str | None) -> dict[str, Any]:
    from solov2_edge.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path, variant)
    learnt = [t for name, t in checkpoint.state.items() if not name.endswith(("running_mean", "running_var"))]
    return {
        "kind": "checkpoint",
        "family": checkpoint.family,
        **_of_spec(checkpoint.spec),
        "parameters": sum(tensor.numel() for tensor in learnt),
        "dtype": checkpoint.meta.get("dtype"),
        "licence": checkpoint.licence,
        "meta": {key: value for key, value in checkpoint.meta.items() if key != "dtype"},
    }


def _of_spec(spec: ModelSpec) -> dict[str, Any]:
    side = spec.kernel_size
    return {
        "variant": spec.name,
        "classes": spec.num_classes,
        "class_names": list(spec.class_names),
        **({"stuff_names": list(spec.stuff_names)} if spec.stuff_names else {}),
        "kernels": f"{side}x{side} on {spec.mask_features} mask features of {spec.mask_channels} channels",
        "coordinates": _coordinates(spec),
        "dcn": spec.dcn,
        "resize_box": list(spec.resize_box),
        "grids": list(spec.grids),
        "channel_order": spec.channel_order,
    }


def _coordinates(spec: ModelSpec) -> str:
    named = (("kernels", spec.kernel_coordinates), ("mask features", spec.feature_coordinates))
    return " and ".join(name for name, there in named if there) or "none"


def _of_manifest(manifest: Manifest) -> dict[str, Any]:
    contract = manifest.input
    return {
        **_of_spec(manifest.spec),
        "precision": manifest.precision,
        "input": f"{contract.kind} {contract.name!r} {contract.height}x{contract.width} (H x W)",
        "outputs": list(manifest.outputs),
        "decode": "host" if manifest.decode is None else {"in": "graph", **asdict(manifest.decode)},
        "dcn_lowering": manifest.dcn_lowering,
        "parity": manifest.parity,
        "calibration": manifest.calibration,
        "quantisation": manifest.quantisation,
        "source_sha256": manifest.source_sha256,
        "tools": manifest.tools,
        "licence": manifest.weights_licence,
    }


def _sidecar(path: Path) -> Manifest | None:
    from solov2_edge.runtime.artefact import read_sidecar

    return read_sidecar(path)


def _words(key: str, value: Any) -> str:
    """Return a value for people: long lists shortened, sizes with thousands marked."""
    if key in ("class_names", "stuff_names"):
        more = ", ..." if len(value) > _SHOWN_CLASSES else ""
        return ", ".join(value[:_SHOWN_CLASSES]) + more
    if key == "resize_box":
        return f"{value[0]} x {value[1]} (short x long)"
    if key == "ops":
        shown = [f"{name} {count}" for name, count in list(value.items())[:_SHOWN_OPS]]
        return ", ".join(shown) + (f" and {len(value) - _SHOWN_OPS} more kinds" if len(value) > _SHOWN_OPS else "")
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words('', item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
