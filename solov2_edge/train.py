"""The training loop: pictures in, a run folder out (state, log, last and best checkpoint).

One process, one device, whole epochs between states. Everything random follows from (seed, epoch, index), so a
resumed run repeats the one that was not killed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from solov2_edge.batches import open_batches, steps_per_epoch
from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.data import CocoPictures, TrainingSet
from solov2_edge.ema import ModelEma
from solov2_edge.errors import SolovEdgeError
from solov2_edge.loss import BatchTargets, solov2_losses
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.train_options import TrainOptions, learning_rate_factor
from solov2_edge.train_state import load_state, read_log, save_state, write_log

__all__ = ["TrainResult", "train"]

STATE, LOG, LAST, BEST = "state.pt", "log.csv", "last.safetensors", "best.safetensors"
Evaluate = Callable[[SOLOv2], dict[str, float]]  # model -> {"ap": ..., "ap50": ..., "ap75": ...} in points of 100
Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run leaves: the folder, the epochs done and the best AP (points of 100), if it was measured."""

    folder: Path
    epochs: int
    best_ap: float | None


@dataclass(slots=True)
class _Run:
    """The moving parts of one run."""

    model: SOLOv2
    ema: ModelEma
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    best_ap: float | None = None
    weights_of: Callable[[SOLOv2], Mapping[str, Tensor]] = SOLOv2.state_dict


def train(
    pictures: CocoPictures,
    spec: ModelSpec,
    folder: Path,
    options: TrainOptions,
    *,
    initial: dict[str, Tensor] | None = None,
    network: SOLOv2 | None = None,
    weights_of: Callable[[SOLOv2], Mapping[str, Tensor]] = SOLOv2.state_dict,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    licence: str = "",
    track: Track | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> TrainResult:
    """Train a network and keep its moving average.

    Args:
        pictures: what to train on; its class names must be the spec's.
        spec: the network.
        folder: run folder, created if missing: ``state.pt``, ``log.csv``, ``last.safetensors``, ``best.safetensors``.
        options: every choice of the run.
        initial: weights to start from, by mmdetection names; tensors of another shape (other classes) are left fresh.
        network: what is trained, in place of a fresh ``SOLOv2(spec)``: one whose forward pass imitates an artefact.
        weights_of: what the checkpoints keep of it.
        evaluate: measures the average every ``evaluate_every`` epochs and at the end; decides what is best.
        resume: continue from ``state.pt`` if it is there.
        licence: of the trained weights, stored in the checkpoints.
        track: wraps the batches of an epoch with a progress bar: (iterable, total, label).
        log: takes one line per epoch.

    Raises:
        InputError: the state in the folder belongs to another run.
        SolovEdgeError: the loss is not finite; the last state is whole.
    """
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # one input size: the fastest kernels are searched for once
    model = SOLOv2(spec) if network is None else network
    if initial is not None:
        own = model.state_dict()
        model.load_state_dict({k: v for k, v in initial.items() if k in own and own[k].shape == v.shape}, strict=False)
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's stub lacks the pair
    run = _Run(model, ModelEma(model, options.ema_decay), _optimizer(model, options), weights_of=weights_of)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _restore(run, folder, spec, options, device) if resume and (folder / STATE).is_file() else []
    samples = TrainingSet(pictures, spec, options.input_size, options.augment, options.seed, options.mask_target)
    batches = open_batches(samples, options, run.epoch)
    steps = steps_per_epoch(len(samples), options.batch_size)

    while run.epoch < options.epochs:
        row = _train_epoch(run, islice(batches, steps), steps, options, device, track)
        run.epoch += 1
        if evaluate is not None and (run.epoch % options.evaluate_every == 0 or run.epoch == options.epochs):
            scores = evaluate(run.ema.average)
            row |= {key: round(scores[key], 3) for key in ("ap", "ap50", "ap75")}
        rows.append(row)
        log("  ".join(f"{k} {v}" for k, v in row.items()))
        _keep(run, folder, spec, options, row, licence)
        write_log(folder / LOG, rows)
    return TrainResult(folder, run.epoch, run.best_ap)


def _train_epoch(
    run: _Run,
    batches: Iterable[Any],
    steps: int,
    options: TrainOptions,
    device: torch.device,
    track: Track | None,
) -> dict[str, Any]:
    """Run one epoch of ``steps`` batches and return its log row."""
    started = time.perf_counter()
    total_steps = steps * options.epochs
    sums = {"mask_loss": 0.0, "class_loss": 0.0, "gradient_norm": 0.0}
    if track is not None:
        batches = track(batches, steps, f"epoch {run.epoch + 1}/{options.epochs}")
    factor = 0.0
    for images, targets in batches:
        factor = learning_rate_factor(run.step, total_steps, options)
        for group in run.optimizer.param_groups:
            group["lr"] = options.learning_rate * factor
        mask, classes, norm = _step(run, images, targets, options, device)
        run.ema.update(run.model, run.step)
        run.step += 1
        for key, value in (("mask_loss", mask), ("class_loss", classes), ("gradient_norm", norm)):
            sums[key] += value
    seconds = time.perf_counter() - started
    means = {key: round(value / steps, 5) for key, value in sums.items()}
    return {
        "epoch": run.epoch + 1,
        "step": run.step,
        "learning_rate": round(options.learning_rate * factor, 8),
        "loss": round(means["mask_loss"] + means["class_loss"], 5),
        **means,
        "pictures_per_second": round(steps * options.batch_size / seconds, 2),
        "seconds": round(seconds, 2),
    }


def _step(
    run: _Run, images: Tensor, targets: BatchTargets, options: TrainOptions, device: torch.device
) -> tuple[float, float, float]:
    """Take one optimiser step; return mask loss, class loss and gradient norm."""
    images = images.to(device, memory_format=torch.channels_last)
    targets = BatchTargets(targets.class_maps.to(device), *([t.to(device) for t in part] for part in targets[1:]))
    with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
        outputs = run.model(images)
        losses = solov2_losses(outputs, targets, options.dice_norm, spec=run.model.spec)
    loss = losses.mask + losses.classes
    if not math.isfinite(loss.item()):
        raise SolovEdgeError(
            f"the loss is not finite in epoch {run.epoch + 1} (mask {losses.mask.item()}, class "
            f"{losses.classes.item()}): lower the learning rate and resume from the last state"
        )
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), options.clip_norm)
    run.optimizer.step()
    return losses.mask.item(), losses.classes.item(), float(norm)


def _optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Return the optimiser; weight decay on convolution weights only."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def _keep(run: _Run, folder: Path, spec: ModelSpec, options: TrainOptions, row: dict[str, Any], licence: str) -> None:
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
    state = {
        "epoch": run.epoch,
        "step": run.step,
        "best_ap": run.best_ap,
        "model": run.model.state_dict(),
        "ema": run.ema.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
    }
    save_state(folder / STATE, state, spec, options)


def _restore(
    run: _Run, folder: Path, spec: ModelSpec, options: TrainOptions, device: torch.device
) -> list[dict[str, Any]]:
    """Load the state of the folder into ``run`` and return the log rows of the epochs it covers."""
    state = load_state(folder / STATE, spec, options)
    run.model.load_state_dict(state["model"])
    run.ema.average.load_state_dict(state["ema"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.epoch, run.step, run.best_ap = state["epoch"], state["step"], state["best_ap"]
    return read_log(folder / LOG)[: run.epoch]
