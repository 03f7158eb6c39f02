"""The training loop: pictures in, a run folder out (state, log, curves, last and best checkpoint).

One process per device; process 0 writes and evaluates. Everything random follows from (seed, epoch, index), so a
resumed run repeats the one that was not killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solov2_edge.bad_batch import save_bad_batch
from solov2_edge.batches import EpochBatches, open_batches, step_keys, steps_per_epoch
from solov2_edge.data import CocoPictures, TrainingSet
from solov2_edge.distributed import World
from solov2_edge.ema import ModelEma
from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.event_files import EventFile
from solov2_edge.model import SOLOv2
from solov2_edge.multi_scale import MultiScaleSet
from solov2_edge.panoptic_data import training_set
from solov2_edge.spec import ModelSpec
from solov2_edge.synced_norm import sync_norms
from solov2_edge.train_curves import write_curves
from solov2_edge.train_keep import LOG, STATE, Run, keep_epoch, keep_state, restore
from solov2_edge.train_network import float32_norms, freeze, make_optimizer, training_mode
from solov2_edge.train_options import TrainOptions, learning_rate_factor
from solov2_edge.train_state import write_log
from solov2_edge.train_step import Batch, NotFiniteError, Stepper

__all__ = ["TrainResult", "Watch", "open_samples", "train"]

Evaluate = Callable[[SOLOv2], dict[str, float]]  # model -> {"ap": ..., "ap50": ..., "ap75": ...} in points of 100
Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
LOSSES = ("mask_loss", "class_loss", "semantic_loss")  # in the order of StepLosses
EVENT_STEPS = 20  # steps between two points of TensorBoard's curves


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run leaves: the folder, the epochs done and the best AP (points of 100), if it was measured."""

    folder: Path
    epochs: int
    best_ap: float | None


@dataclass(frozen=True, slots=True)
class Watch:
    """How a run is watched.

    Attributes:
        track: wraps the steps of an epoch with a progress bar: (iterable, total, label).
        note: takes a few words about the last step, for the bar.
        log: takes one line per epoch.
        tensorboard: also write TensorBoard's event files into the run folder.
    """

    track: Track = lambda items, total, label: items
    note: Callable[[str], None] = lambda text: None
    log: Callable[[str], None] = lambda text: None
    tensorboard: bool = False


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
    watch: Watch | None = None,
    world: World | None = None,
) -> TrainResult:
    """Train a network and keep its moving average.

    Args:
        pictures: what to train on; its class names must be the spec's.
        spec: the network.
        folder: run folder, created if missing: ``state.pt``, ``log.csv``, ``curves.png``, ``last.safetensors``,
            ``best.safetensors``.
        options: every choice of the run.
        initial: weights to start from, by mmdetection names; tensors of another shape (other classes) are left fresh.
        network: what is trained, in place of a fresh ``SOLOv2(spec)``: one whose forward pass imitates an artefact.
        weights_of: what the checkpoints keep of it.
        evaluate: measures the average every ``evaluate_every`` epochs and at the end; decides what is best.
        resume: continue from ``state.pt`` if it is there.
        licence: of the trained weights, stored in the checkpoints.
        watch: progress, log and event files; default: silence.
        world: this process among those of the run, which have been joined; default: it is alone.

    Raises:
        InputError: the state in the folder belongs to another run, or this machine cannot run the options.
        SolovEdgeError: the loss is not finite; its pictures are saved as ``bad-batch.npz``, the last state is whole.
    """
    watch, world = watch or Watch(), world or World()
    require(
        options.processes == world.size,
        f"the options are for {options.processes} processes, {world.size} run; give the number that runs",
    )
    require(
        options.precision != "fp16" or world.device.type == "cuda",
        "precision fp16 needs a GPU; on a CPU take fp32, or bf16 where the processor computes in it",
    )
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = not options.short_sides  # one input size: the fastest kernels are searched for
    run = _prepare(SOLOv2(spec) if network is None else network, initial, options, world, weights_of)
    rows = restore(run, folder, spec, options) if resume and (folder / STATE).is_file() else []
    samples = open_samples(pictures, spec, options)
    steps = steps_per_epoch(len(samples), options.pictures_per_step)
    order = EpochBatches(len(samples), options, run.epoch, run.step - run.epoch * steps, world.rank)
    folder.mkdir(parents=True, exist_ok=True)
    batches = open_batches(samples, order)
    events = EventFile(folder) if watch.tensorboard and world.leads else None

    while run.epoch < options.epochs:
        row = _Epoch(run, order, folder, options, watch, world, events, spec, pictures).train(batches)
        run.epoch += 1
        run.sums, run.seconds = {}, 0.0
        if world.leads:
            if evaluate is not None and (run.epoch % options.evaluate_every == 0 or run.epoch == options.epochs):
                scores = evaluate(run.ema.average)
                row |= {key: round(scores[key], 3) for key in ("ap", "ap50", "ap75")}
            rows.append(row)
            watch.log("  ".join(f"{k} {v}" for k, v in row.items()))
            if events is not None:
                events.add(run.step, {k: float(v) for k, v in row.items() if k not in ("epoch", "step")})
            # The log first: what it has beyond the state is cut off when a killed run resumes.
            write_log(folder / LOG, rows)
            write_curves(folder, rows)
            keep_epoch(run, folder, spec, options, row, licence)
        world.wait()
    return TrainResult(folder, run.epoch, run.best_ap)


def open_samples(pictures: CocoPictures, spec: ModelSpec, options: TrainOptions) -> TrainingSet | MultiScaleSet:
    """Return the samples of a run: at one input size, or at several short sides."""
    if options.input_size is None:
        require(
            not spec.stuff_names,
            "short sides are drawn for networks without stuff; with stuff, train at one --input-size",
        )
        return MultiScaleSet(pictures, spec, options.short_sides, options.augment, options.seed)
    return training_set(pictures, spec, options)


def _prepare(
    model: SOLOv2,
    initial: Mapping[str, Tensor] | None,
    options: TrainOptions,
    world: World,
    weights_of: Callable[[SOLOv2], Mapping[str, Tensor]],
) -> Run:
    """Give a network its first weights and the modes it is trained in."""
    if initial is not None:
        own = model.state_dict()
        model.load_state_dict({k: v for k, v in initial.items() if k in own and own[k].shape == v.shape}, strict=False)
    model = model.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the pair
    freeze(model.backbone, options.frozen_stages)
    training_mode(model, options)
    ema = ModelEma(model, options.ema_decay)
    if world.size > 1:
        sync_norms(model)
    if options.precision != "fp32":
        float32_norms(model)
    stepper = Stepper(model, make_optimizer(model, options), options, world)
    return Run(model, ema, stepper, weights_of)


@dataclass(slots=True)
class _Epoch:
    """One epoch of a run, from wherever in it the run stands."""

    run: Run
    order: EpochBatches
    folder: Path
    options: TrainOptions
    watch: Watch
    world: World
    events: EventFile | None
    spec: ModelSpec
    pictures: CocoPictures

    def train(self, batches: Iterator[Batch]) -> dict[str, Any]:
        """Take the epoch's remaining steps and return its log row."""
        run, options, steps = self.run, self.options, self.order.steps
        started, before = time.perf_counter(), run.seconds
        done = run.step - run.epoch * steps
        if done == 0:
            run.sums = dict.fromkeys((*LOSSES, "gradient_norm"), 0.0)
        label = f"epoch {run.epoch + 1}/{options.epochs}"
        together = (list(islice(batches, options.accumulate)) for _ in range(steps - done))
        rate = 0.0
        for passes in self.watch.track(together, steps - done, label):
            rate = options.learning_rate * learning_rate_factor(run.step, steps * options.epochs, options)
            self._step(passes, rate)
            done += 1
            run.seconds = before + time.perf_counter() - started
            if self.world.leads and options.state_every and done % options.state_every == 0 and done < steps:
                keep_state(run, self.folder, self.spec, options)
        means = {key: round(value / steps, 5) for key, value in run.sums.items()}
        return {
            "epoch": run.epoch + 1,
            "step": run.step,
            "learning_rate": round(rate, 8),
            "loss": round(sum(means[name] for name in LOSSES), 5),
            **{key: value for key, value in means.items() if key != "semantic_loss" or self.spec.stuff_names},
            "pictures_per_second": round(steps * options.pictures_per_step / run.seconds, 2),
            "seconds": round(run.seconds, 2),
        }

    def _step(self, passes: list[Batch], rate: float) -> None:
        """Take one step at learning rate ``rate``."""
        run = self.run
        for group in run.stepper.optimizer.param_groups:
            group["lr"] = rate
        try:
            losses = run.stepper.step(passes)
        except NotFiniteError as error:
            raise self._stopped(error, passes) from error
        run.ema.update(run.model, run.step)
        run.step += 1
        measured = dict(zip(run.sums, losses, strict=True))
        for key, value in measured.items():
            run.sums[key] += value
        self.watch.note(f"loss {losses.total:.3f}")
        if self.events is not None and run.step % EVENT_STEPS == 0:
            self.events.add(run.step, {f"step/{k}": v for k, v in (measured | {"learning_rate": rate}).items()})

    def _stopped(self, error: NotFiniteError, passes: list[Batch]) -> SolovEdgeError:
        """Save the step's pictures and return the sentence that names them."""
        run, order = self.run, self.order
        step = run.step - run.epoch * order.steps
        keys = step_keys(order.order(run.epoch), run.epoch, step, self.options, error.rank)
        names = [self.pictures.files[index].name for key in keys for _, index in key]
        saved = save_bad_batch(self.folder, passes, names)
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return SolovEdgeError(
            f"{error.what} is not finite in epoch {run.epoch + 1}, step {step + 1} ({error.parts}), at {shown} (kept "
            f"as {saved}): look at them, or lower the learning rate, and resume from the last state"
        )
