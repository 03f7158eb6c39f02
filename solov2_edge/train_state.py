"""What a training run keeps on disk: a state to resume from, a log to plot. Both survive being killed."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from solov2_edge.errors import InputError, require
from solov2_edge.files import write_aside
from solov2_edge.spec import ModelSpec
from solov2_edge.train_options import TrainOptions

__all__ = ["LOG_COLUMNS", "load_state", "read_log", "save_state", "write_log"]

LOG_COLUMNS = (
    *("epoch", "step", "learning_rate", "loss", "mask_loss", "class_loss", "semantic_loss", "gradient_norm"),
    *("pictures_per_second", "seconds", "ap", "ap50", "ap75"),
)
# Two runs whose options differ elsewhere are still the same run: these change speed or reporting only.
FREE_OPTIONS = ("workers", "evaluate_every", "keep_every", "state_every", "compile")


def save_state(path: Path, state: Mapping[str, Any], spec: ModelSpec, options: TrainOptions) -> None:
    """Write the state beside its place and rename it, so that a killed run leaves the previous one whole."""
    # In memory first: onto a full disk torch.save ends in an error of its own, which says nothing of the disk.
    stream = io.BytesIO()
    torch.save({**state, "spec": spec.to_dict(), "options": asdict(options)}, stream)
    write_aside(path, stream.getvalue())


def load_state(path: Path, spec: ModelSpec, options: TrainOptions) -> dict[str, Any]:
    """Read a state and check that it belongs to the same network and run.

    Raises:
        InputError: not a training state, or made with another spec or other options.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} is not a training state ({type(error).__name__}); start afresh in another -o"
        ) from error
    require(isinstance(state, dict) and "options" in state, f"{path} is not a training state; start in another -o")
    require(
        ModelSpec.from_dict(state["spec"]) == spec,
        f"{path} was made for another network or other classes; resume with the same data and --variant",
    )
    # What an earlier version did not ask about was as the defaults have it.
    ours, theirs = asdict(options), asdict(TrainOptions()) | dict(state["options"])
    different = [k for k in ours if k not in FREE_OPTIONS and _plain(ours[k]) != _plain(theirs.get(k))]
    require(
        not different,
        f"{path} was made with other values of {', '.join(different)}; resume with the same or start in another -o",
    )
    return state


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the whole log as CSV with :data:`LOG_COLUMNS`, aside first; empty cells where nothing was measured."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, LOG_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_aside(path, stream.getvalue())


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read :func:`write_log` rows back as text cells; a log that does not exist is empty."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
