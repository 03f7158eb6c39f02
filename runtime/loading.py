"""Opening an artefact: the engine follows from the file's suffix."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.segmenter import Segmenter

__all__ = ["decode_options", "load"]

ENGINES = {".onnx": "onnxruntime"}
NOT_YET = (".tflite", ".mlpackage")
CHECKPOINTS = (".pth", ".pt", ".pkl", ".ckpt", ".safetensors")


def load(
    path: str | os.PathLike[str],
    *,
    engine: str | None = None,
    threads: int | None = None,
    providers: str | Sequence[str] | None = None,
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Segmenter:
    """Open an artefact for segmenting frames.

    Args:
        path: an .onnx file made by ``solov2-edge convert``.
        engine: None chooses by the suffix; ``"onnxruntime"`` insists.
        threads: threads of the engine, 1..1024; None leaves it to the engine.
        providers: one name (``cpu``, ``cuda``, ``tensorrt``, ``coreml`` or ONNX Runtime's full name) means exactly
            that one; a sequence is a fallback list, tried in order; default ``cpu``. What really runs is in
            ``Segmenter.providers``.
        provider_options: provider name -> that provider's own options, for example
            ``{"tensorrt": {"trt_engine_cache_enable": True}}``.
        **options: fields of :class:`DecodeOptions`, for example ``score_threshold=0.3``.

    Returns:
        A Segmenter: ``load(path)(frame)`` gives Instances.

    Raises:
        InputError: no such file, a damaged one, one this version does not run, a provider that is not available, or
            an unknown or impossible option.
        MissingDependencyError: the engine is not installed; the message has the line that installs it.
    """
    decoding = decode_options(options)
    found = _engine_of(path)
    require(
        engine is None or engine == found,
        f"{Path(path).suffix} artefacts run in engine {found!r}, got engine={engine!r}; leave the engine out",
    )
    # Imported here so that the runtime imports, and replays arrays, where no engine is installed.
    from solov2_edge.runtime.ort import OrtSession

    session = OrtSession(path, threads=threads, providers=providers, provider_options=provider_options)
    return Segmenter(session, decoding)


def decode_options(options: Mapping[str, Any]) -> DecodeOptions:
    """Build DecodeOptions from keywords.

    Raises:
        InputError: a name is unknown, with the closest known one, or a value is out of range.
    """
    known = [field.name for field in fields(DecodeOptions)]
    for name in options:
        if name not in known:
            import difflib  # here, because the runtime's import time is bounded and most calls never need it

            close = difflib.get_close_matches(name, known, n=1) or known
            raise InputError(f"unknown option {name!r}; expected {' or '.join(close)}")
    return DecodeOptions(**options)


def _engine_of(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix in ENGINES:
        return ENGINES[suffix]
    require(suffix not in NOT_YET, f"{path}: this version runs .onnx artefacts only; convert with --to onnx")
    require(
        suffix not in CHECKPOINTS,
        f"{path} is a checkpoint, expected an .onnx artefact; make one with solov2-edge convert, or open the "
        "checkpoint with solov2_edge.reference.load_reference",
    )
    raise InputError(f"{path} ends in {suffix or 'nothing'}, expected an .onnx artefact made by solov2-edge convert")
