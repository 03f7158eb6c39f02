"""Which engines run which artefacts where a verb compares several of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.errors import InputError, require
from solov2_edge.opening import is_checkpoint

__all__ = ["Placed", "placed"]


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


def placed(models: Sequence[Path], engines: Sequence[str] | None) -> list[Placed]:
    """Return every model in every engine that was asked for and runs it, each pair once.

    Args:
        models: artefacts and checkpoints; checkpoints run in PyTorch whatever is asked for.
        engines: None or none: everything in its own engine.

    Raises:
        InputError: an engine that runs none of the models, or a model that none of the engines runs.
    """
    if not engines:
        return [Placed(model) for model in dict.fromkeys(models)]
    from solov2_edge.runtime.loading import engines_of

    found: list[Placed] = []
    for model in dict.fromkeys(models):
        if is_checkpoint(model):
            found.append(Placed(model))
            continue
        known = engines_of(model)
        own = [Placed(model, engine) for engine in dict.fromkeys(engines) if engine in known]
        require(
            bool(own),
            f"--engine {' '.join(engines)} runs no {model.suffix} artefacts such as {model.name}; add "
            f"{' or '.join(known)}",
        )
        found += own
    idle = [engine for engine in engines if engine not in {one.engine for one in found}]
    if idle:
        raise InputError(f"--engine {' '.join(idle)} runs none of the artefacts given; leave it out")
    return found
