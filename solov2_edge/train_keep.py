"""A run's moving parts, what of them is kept in its folder, and how they come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.ema import ModelEma
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.train_options import TrainOptions
from solov2_edge.train_state import load_state, read_log, save_state
from solov2_edge.train_step import Stepper

__all__ = ["BEST", "LAST", "LOG", "STATE", "Run", "keep_epoch", "keep_state", "restore"]

STATE, LOG, LAST, BEST = "state.pt", "log.csv", "last.safetensors", "best.safetensors"


@dataclass(slots=True)
class Run:
    """The moving parts of one run.

    Attributes:
        model: what is trained.
        ema: its average.
        stepper: takes its steps.
        weights_of: what the checkpoints keep of a model.
        epoch: whole epochs done.
        step: optimiser steps done.
        best_ap: points of 100, None while none was measured.
        sums: of the epoch's log over its steps so far.
        seconds: that the epoch took so far.
    """

    model: SOLOv2
    ema: ModelEma
    stepper: Stepper
    weights_of: Callable[[SOLOv2], Mapping[str, Tensor]]
    epoch: int = 0
    step: int = 0
    best_ap: float | None = None
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def keep_state(run: Run, folder: Path, spec: ModelSpec, options: TrainOptions) -> None:
    """Write all that continuing needs."""
    state = {
        "epoch": run.epoch,
        "step": run.step,
        "best_ap": run.best_ap,
        "sums": dict(run.sums),
        "seconds": run.seconds,
        "model": run.model.state_dict(),
        "ema": run.ema.average.state_dict(),
        "optimizer": run.stepper.optimizer.state_dict(),
        "scaler": run.stepper.scaler.state_dict(),
        "random": torch.get_rng_state(),
    }
    save_state(folder / STATE, state, spec, options)


def keep_epoch(
    run: Run, folder: Path, spec: ModelSpec, options: TrainOptions, row: Mapping[str, Any], licence: str
) -> None:
    """Write the checkpoints that this epoch calls for, then the state that says it is done."""
    metadata = {"epoch": str(run.epoch), "ap": str(row.get("ap", ""))}
    if options.integers is not None:
        metadata["fine_tuned_for"] = json.dumps({"precision": "int8", **asdict(options.integers)}, sort_keys=True)
    weights = run.weights_of(run.ema.average)
    ap = row.get("ap")
    if ap is not None and (run.best_ap is None or ap > run.best_ap):
        run.best_ap = ap
        save_checkpoint(folder / BEST, spec, weights, licence=licence, metadata=metadata)
    elif run.epoch % options.keep_every and run.epoch < options.epochs:
        return
    save_checkpoint(folder / LAST, spec, weights, licence=licence, metadata=metadata)
    keep_state(run, folder, spec, options)


def restore(run: Run, folder: Path, spec: ModelSpec, options: TrainOptions) -> list[dict[str, Any]]:
    """Load the state of the folder into ``run`` and return the log rows of the epochs it covers.

    Raises:
        InputError: the state is another run's, or none.
    """
    state = load_state(folder / STATE, spec, options)
    run.model.load_state_dict(state["model"])
    run.ema.average.load_state_dict(state["ema"])
    run.stepper.optimizer.load_state_dict(state["optimizer"])
    run.epoch, run.step, run.best_ap = state["epoch"], state["step"], state["best_ap"]
    # States of earlier versions stand at the end of an epoch and hold no more than this.
    run.sums, run.seconds = dict(state.get("sums", {})), state.get("seconds", 0.0)
    if state.get("scaler"):
        run.stepper.scaler.load_state_dict(state["scaler"])
    if "random" in state:
        torch.set_rng_state(state["random"])
    return read_log(folder / LOG)[: run.epoch]
