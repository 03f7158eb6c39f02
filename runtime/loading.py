"""Opening an artefact: the engine follows from the file's suffix, unless another one that runs it is named."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.decoded import agreed_options
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import Session

__all__ = ["decode_options", "engines_of", "load", "segmenter_of"]

# suffix of an artefact -> (engine, "module:class" of its session)
ENGINES = {
    ".onnx": ("onnxruntime", "solov2_edge.runtime.ort:OrtSession"),
    ".tflite": ("litert", "solov2_edge.runtime.litert:LitertSession"),
    ".mlpackage": ("coreml", "solov2_edge.runtime.coreml:CoremlSession"),
    ".ncnn": ("ncnn", "solov2_edge.runtime.ncnn_session:NcnnSession"),
}
# (suffix, engine) -> class of its session, for engines that only run what is asked of them
OTHERS = {(".onnx", "openvino"): "solov2_edge.runtime.vino:VinoSession"}
AUTO = "auto"
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
        path: an ``.onnx``, ``.tflite``, ``.mlpackage`` or ``.ncnn`` made by ``solov2-edge convert``.
        engine: None chooses by the suffix; ``"onnxruntime"``, ``"litert"``, ``"coreml"`` or ``"ncnn"`` insists,
            ``"openvino"`` runs an ``.onnx`` artefact in OpenVINO. ``"auto"`` takes the engine that ``solov2-edge advise
            --remember`` found to be the fastest for this very file on this machine, and where nothing is recorded of
            it the suffix's. Which one runs is in ``Segmenter.engine``.
        threads: threads of the engine, 1..1024; None: with ONNX Runtime, OpenVINO and ncnn one per physical core, with
            LiteRT one per CPU this process may use; Core ML decides itself.
        providers: what the engine runs the network on: one name means exactly that one; a sequence is a fallback
            list, tried in order. ONNX Runtime: ``cpu``, ``cuda``, ``tensorrt``, ``coreml`` or a provider's full name.
            LiteRT: ``xnnpack`` (or ``cpu``), ``builtin``, ``cpu-reference``, ``gpu`` or the path of a delegate library.
            Core ML: ``all``, ``cpu_only``, ``cpu_and_gpu``, ``cpu_and_ne``. OpenVINO: ``cpu``, ``gpu``, ``npu`` in
            float32, or with a precision behind it (``cpu-bf16``). ncnn: ``cpu``, ``vulkan``, ``cpu-fp16`` and others
            of docs/ncnn.md. Default: the CPU, on Core ML ``all``. What really runs is in ``Segmenter.providers``.
        provider_options: provider name -> that provider's own options, for example
            ``{"tensorrt": {"trt_fp16_enable": False}}``. TensorRT computes floats in half precision, integers where
            the artefact holds them, and keeps what it has built, unless told otherwise: see docs/jetson.md.
        **options: fields of :class:`DecodeOptions`, for example ``score_threshold=0.3``. An artefact that decodes
            inside its graph takes its own values only, a higher ``keep_threshold`` or a lower ``max_instances``.

    Returns:
        A Segmenter: ``load(path)(frame)`` gives Instances.

    Raises:
        InputError: no such file, a damaged one, one this version does not run, a provider that is not available, or
            an unknown or impossible option.
        MissingDependencyError: the engine is not installed; the message has the line that installs it.
    """
    decode_options(options)  # before a network is opened
    known = engines_of(path)
    if engine == AUTO:
        require(
            providers is None and not provider_options,
            "engine='auto' leaves open which engine runs, and providers are one engine's own; name the engine",
        )
        engine = _recorded_engine(path, known)
    require(
        engine is None or engine in known,
        f"{Path(path).suffix} artefacts run in engine {' or '.join(map(repr, known))}, got engine={engine!r}; "
        "leave the engine out",
    )
    module, _, session = known[engine or next(iter(known))].partition(":")
    # Imported here so that the runtime imports, and replays arrays, where no engine is installed.
    open_session = getattr(importlib.import_module(module), session)
    session = open_session(path, threads=threads, providers=providers, provider_options=provider_options)
    return segmenter_of(session, options)


def _recorded_engine(path: str | os.PathLike[str], known: Mapping[str, str]) -> str | None:
    """Return the engine measured to be the fastest, None where nobody measured or it does not run the artefact."""
    from solov2_edge.runtime.artefact import require_artefact
    from solov2_edge.runtime.engine_record import recorded

    record = recorded(require_artefact(path))
    return None if record is None or record.engine not in known else record.engine


def segmenter_of(session: Session, options: Mapping[str, Any]) -> Segmenter:
    """Return a Segmenter over an open session, which is closed where that is refused.

    Raises:
        InputError: as :func:`decode_options`, or options that contradict what a graph decodes with.
    """
    baked = session.manifest.decode
    try:
        return Segmenter(session, decode_options(options) if baked is None else agreed_options(baked, options))
    except InputError:
        session.close()
        raise


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


def engines_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the engines that run an artefact, the one it opens in by itself first.

    Returns:
        Name -> ``"module:class"`` of the session.

    Raises:
        InputError: the suffix is not that of an artefact.
    """
    suffix = Path(path).suffix.lower()
    if suffix in ENGINES:
        others = {engine: session for (taken, engine), session in OTHERS.items() if taken == suffix}
        return dict([ENGINES[suffix]]) | others
    require(
        suffix not in CHECKPOINTS,
        f"{path} is a checkpoint, expected an artefact; make one with solov2-edge convert, or open the "
        "checkpoint with solov2_edge.reference.load_reference",
    )
    raise InputError(
        f"{path} ends in {suffix or 'nothing'}, expected an artefact made by solov2-edge convert: {', '.join(ENGINES)}"
    )
