"""Which engines run which artefacts where a verb compares several of both."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from solov2_edge.errors import InputError, require
from solov2_edge.opening import is_checkpoint

__all__ = ["ALL", "Placed", "expanded", "placed"]

ALL = "all"  # in place of engines' names
ARTEFACTS = (".onnx", ".tflite", ".ncnn", ".mlpackage")
# engine -> modules of which one runs it
MODULES = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
    "ncnn": ("ncnn",),
    "coreml": ("coremltools",),
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A model and what runs it.

    Attributes:
        path: artefact or checkpoint.
        engine: as for :func:`solov2_edge.runtime.load`; None: its own.
    """

    path: Path
    engine: str | None = None

    @property
    def name(self) -> str:
        """The file's name, with the engine's where one was asked for."""
        return self.path.name if self.engine is None else f"{self.path.name} in {self.engine}"


def expanded(models: Sequence[Path]) -> list[Path]:
    """Return the models, and in place of a plain folder the artefacts in it that this machine can run, by name.

    Raises:
        InputError: a folder holds no artefact.
    """
    found: list[Path] = []
    for model in models:
        if not model.is_dir() or model.suffix.lower() in ARTEFACTS:
            found.append(model)
            continue
        runnable = [suffix for suffix in ARTEFACTS if suffix != ".mlpackage" or sys.platform == "darwin"]
        own = sorted(path for path in model.iterdir() if path.suffix.lower() in runnable)
        require(bool(own), f"{model} holds no artefacts ({', '.join(runnable)}); name a folder that convert wrote to")
        found += own
    return list(dict.fromkeys(found))


def placed(models: Sequence[Path], engines: Sequence[str] | None) -> list[Placed]:
    """Return every model in every engine that was asked for and runs it, each pair once.

    Args:
        models: artefacts and checkpoints; checkpoints run in PyTorch whatever is asked for.
        engines: None or none: everything in its own engine; ``all``: in every one that is installed.

    Raises:
        InputError: an engine that runs none of the models, or a model that none of the engines runs.
    """
    if not engines:
        return [Placed(model) for model in dict.fromkeys(models)]
    from solov2_edge.runtime.loading import engines_of

    everything = ALL in engines
    require(
        not everything or len(set(engines)) == 1, f"--engine {ALL} names every engine; leave the others or {ALL} out"
    )
    found: list[Placed] = []
    for model in dict.fromkeys(models):
        if is_checkpoint(model):
            found.append(Placed(model))
            continue
        known = engines_of(model)
        if everything:
            # Without any, the artefact's own says what to install.
            found += [Placed(model, engine) for engine in known if _installed(engine)] or [Placed(model)]
            continue
        own = [Placed(model, engine) for engine in dict.fromkeys(engines) if engine in known]
        require(
            bool(own),
            f"--engine {' '.join(engines)} runs no {model.suffix} artefacts such as {model.name}; add "
            f"{' or '.join(known)}",
        )
        found += own
    idle = [engine for engine in engines if engine not in {one.engine for one in found}]
    if idle and not everything:
        raise InputError(f"--engine {' '.join(idle)} runs none of the artefacts given; leave it out")
    return found


def _installed(engine: str) -> bool:
    return any(find_spec(module) is not None for module in MODULES[engine])
