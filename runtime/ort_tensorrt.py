"""TensorRT below ONNX Runtime: which options an artefact is opened with, and which contradict it.

Names and meanings are those of ONNX Runtime's page on its TensorRT execution provider. Only the options that depend on
the artefact are chosen here; whatever else ``provider_options`` hold is passed on as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import Manifest

__all__ = ["CACHE_VARIABLE", "TENSORRT", "engine_cache", "prepare_cache", "runs_in_tensorrt", "tensorrt_options"]

TENSORRT = "TensorrtExecutionProvider"
CACHE_VARIABLE = "SOLOV2_EDGE_TENSORRT_CACHE"
HASH_DIGITS = 16  # of the artefact's SHA-256: enough to tell artefacts apart, short enough for a path
SWITCHES = ("trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable", "trt_timing_cache_enable")
ON, OFF = (True, 1, "1", "true"), (False, 0, "0", "false")


def runs_in_tensorrt(manifest: Manifest) -> bool:
    """Say whether TensorRT can run an artefact: float, or int8 with the symmetric int8 activations it asks for."""
    return manifest.precision in ("fp32", "fp16") or _symmetric(manifest)


def engine_cache(manifest: Manifest, version: str) -> Path:
    """Return the folder of an artefact's built engines, below ``SOLOV2_EDGE_TENSORRT_CACHE`` or the user's cache.

    An engine belongs to one file and one ONNX Runtime, so both name the folder; the device is in ONNX Runtime's own
    file names.

    Args:
        manifest: with the artefact's SHA-256.
        version: of ONNX Runtime.
    """
    return _cache_root() / f"{manifest.sha256[:HASH_DIGITS]}-ort{version}"


def tensorrt_options(
    path: str | os.PathLike[str], manifest: Manifest, given: Mapping[str, Any], version: str
) -> dict[str, Any]:
    """Return the options an artefact is opened with in TensorRT.

    By default engines and kernel timings are kept for the next start, floats are computed in half precision, and
    integers are used exactly where the artefact holds them.

    Args:
        path: the artefact, for messages.
        manifest: of the artefact, with its SHA-256.
        given: the user's own options, which win; None takes a default out, so that ONNX Runtime decides.
        version: of ONNX Runtime.

    Raises:
        InputError: the artefact is one TensorRT cannot run, or an option contradicts the artefact or another option.
    """
    require(
        runs_in_tensorrt(manifest),
        f"{path} is an {manifest.precision} file for CPUs, whose uint8 activations TensorRT does not take; convert "
        "with --precision int8 --for tensorrt, or take the fp16 or fp32 file",
    )
    defaults: dict[str, Any] = {
        "trt_fp16_enable": True,
        "trt_int8_enable": _symmetric(manifest),
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
    }
    options = {**defaults, **given}
    switches = {name: _switch(name, options[name]) for name in SWITCHES}
    _refuse_contradictions(path, manifest, given, switches)
    if switches["trt_engine_cache_enable"]:
        options.setdefault("trt_engine_cache_path", os.fspath(engine_cache(manifest, version)))
    if switches["trt_timing_cache_enable"]:
        # Timings are of kernels, not of networks: every artefact gains by the others'.
        options.setdefault("trt_timing_cache_path", os.fspath(_cache_root()))
    return {name: value for name, value in options.items() if value is not None}


def prepare_cache(options: Mapping[str, Any]) -> None:
    """Make the folders that ``options`` name: ONNX Runtime makes the last one of a path only.

    Raises:
        InputError: one cannot be made or written.
    """
    for name in ("trt_engine_cache_path", "trt_timing_cache_path"):
        if name in options:
            folder = Path(options[name])
            try:
                folder.mkdir(parents=True, exist_ok=True)
                writable = os.access(folder, os.W_OK)
            except OSError:
                writable = False
            require(
                writable,
                f"TensorRT's cache {folder} cannot be made or written; set {CACHE_VARIABLE} to a folder of yours, or "
                f"give {name} in provider_options",
            )


def _symmetric(manifest: Manifest) -> bool:
    """Say whether an artefact is int8 as TensorRT reads it, which conversion records in the manifest."""
    return manifest.precision == "int8" and (manifest.quantisation or {}).get("target") == "tensorrt"


def _refuse_contradictions(
    path: str | os.PathLike[str], manifest: Manifest, given: Mapping[str, Any], switches: Mapping[str, bool]
) -> None:
    integers, table = _symmetric(manifest), given.get("trt_int8_calibration_table_name")
    require(
        integers or not switches["trt_int8_enable"] or bool(table),
        f"trt_int8_enable is asked of {path}, whose {manifest.precision} numbers have no integer scales; convert with "
        "--precision int8 --for tensorrt, or leave the option out",
    )
    require(
        switches["trt_int8_enable"] or not integers,
        f"trt_int8_enable is off for {path}, whose convolutions are int8; take the fp16 file, or leave the option out",
    )
    require(
        not (integers and table),
        f"trt_int8_calibration_table_name is given for {path}, which holds its own scales, and TensorRT takes only "
        "one of the two; leave the option out",
    )
    require(
        switches["trt_fp16_enable"] or manifest.precision != "fp16",
        f"trt_fp16_enable is off for {path}, whose numbers are fp16; take the fp32 file, or leave the option out",
    )
    for cache in ("engine", "timing"):
        require(
            switches[f"trt_{cache}_cache_enable"] or given.get(f"trt_{cache}_cache_path") is None,
            f"trt_{cache}_cache_path names a cache and trt_{cache}_cache_enable is off; leave one of them out",
        )
    require(
        not _switch("trt_dla_enable", given.get("trt_dla_enable"))
        or switches["trt_fp16_enable"]
        or switches["trt_int8_enable"],
        "trt_dla_enable needs trt_fp16_enable or trt_int8_enable: the accelerator has no float32; allow one of them",
    )


def _switch(name: str, value: Any) -> bool:
    """Read an option that is on or off, in the forms ONNX Runtime takes; None is its default, off."""
    word = value.lower() if isinstance(value, str) else value
    if word is None or word in OFF:
        return False
    if word in ON:
        return True
    raise InputError(f"{name} must be True or False, got {value!r}")


def _cache_root() -> Path:
    import platformdirs  # here, because the runtime's import time is bounded

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("solov2-edge")) / "tensorrt"
