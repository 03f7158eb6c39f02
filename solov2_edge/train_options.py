"""Every choice a training run makes, validated, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from solov2_edge.augment_options import AugmentOptions
from solov2_edge.errors import require

__all__ = ["IntegerOptions", "TrainOptions", "learning_rate_factor"]


@dataclass(frozen=True, slots=True)
class IntegerOptions:
    """What a run that imitates an integer artefact imitates: its rounding and the ranges that follow from these files.

    Attributes:
        target: whose rules of rounding hold, see ``qat_rules.RULES``.
        initial_sha256: SHA-256 of the checkpoint it starts from.
        calibration_sha256: of the calibration set, see ``converters.calibration.Calibration``.
    """

    target: str
    initial_sha256: str
    calibration_sha256: str


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One training run. The defaults suit a few hundred pictures trained from scratch; ``recipes`` has others.

    Attributes:
        epochs: passes over the pictures.
        batch_size: pictures per forward pass of a process.
        accumulate: forward passes per optimiser step.
        processes: how many share a step, one per device.
        input_size: (H, W) in pixels, the size the artefacts will have; None where ``short_sides`` are drawn.
        short_sides: a picture's short side is drawn from these, its long side capped by the spec's ``resize_box``;
            empty where ``input_size`` holds.
        optimizer: ``"adamw"``, or ``"sgd"`` with momentum 0.9 (the paper's).
        learning_rate: peak rate, for :attr:`pictures_per_step` pictures a step.
        weight_decay: on convolution weights.
        decay_norms: on norms and biases too, as the authors' optimiser has it; else they are spared.
        schedule: ``"cosine"`` to 1 % of the peak, or ``"steps"``: x0.1 at each of ``decay_epochs``.
        decay_epochs: of ``"steps"``; empty: at 3/4 and 11/12 of the run (27 and 33 of the paper's 36 epochs).
        warmup_steps: linear warm-up to the peak.
        warmup_ratio: what of the peak the warm-up starts from.
        clip_norm: gradients are scaled down to this norm (35 in the authors' configuration).
        ema_decay: share of the weight average kept per step; 0: the average is the network itself.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"`` (with loss scaling, on a GPU): autocast in the network, while
            norms and losses stay float32.
        compile: let torch.compile fuse the network.
        frozen_stages: stages of the backbone that are not trained, its stem with the first (0: all is trained).
        norm_eval: the backbone's batch norms keep their statistics (their weights are trained).
        workers: processes that prepare samples; 0 prepares them between steps.
        evaluate_every: epochs between evaluations.
        keep_every: epochs between states and last checkpoints; a killed run loses the epochs since.
        state_every: steps between states within an epoch; 0: at epochs only.
        seed: of weights, order and augmentation.
        mask_target: ``"coverage"`` or ``"reference"``; see ``data.quarter_mask``.
        dice_norm: ``"pairs"`` (the authors) or ``"cells"`` (mmdetection); see ``loss.solov2_losses``.
        augment: what may happen to a picture.
        integers: the integer artefact that is imitated, None in ordinary training.
    """

    epochs: int = 100
    batch_size: int = 8
    accumulate: int = 1
    processes: int = 1
    input_size: tuple[int, int] | None = (448, 448)
    short_sides: tuple[int, ...] = ()
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    decay_norms: bool = False
    schedule: str = "cosine"
    decay_epochs: tuple[int, ...] = ()
    warmup_steps: int = 300
    warmup_ratio: float = 0.01
    clip_norm: float = 35.0
    ema_decay: float = 0.998
    precision: str = "fp32"
    compile: bool = False
    frozen_stages: int = 0
    norm_eval: bool = False
    workers: int = 0
    evaluate_every: int = 10
    keep_every: int = 1
    state_every: int = 0
    seed: int = 0
    mask_target: str = "coverage"
    dice_norm: str = "pairs"
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    integers: IntegerOptions | None = None

    def __post_init__(self) -> None:
        lowest = dict.fromkeys(("seed", "warmup_steps", "workers", "state_every", "frozen_stages"), 0)
        lowest |= dict.fromkeys(("epochs", "batch_size", "accumulate", "processes", "evaluate_every", "keep_every"), 1)
        for name, low in lowest.items():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= low, f"{name} must be an integer >= {low}, got {value!r}")
        require(self.frozen_stages <= 4, f"frozen_stages must be at most 4, got {self.frozen_stages}")
        self._check_geometry()
        require(
            0 < self.learning_rate < math.inf, f"learning_rate must be positive and finite, got {self.learning_rate!r}"
        )
        require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay!r}")
        require(self.clip_norm > 0, f"clip_norm must be positive, got {self.clip_norm!r}")
        require(0 <= self.ema_decay < 1, f"ema_decay must be in [0, 1), got {self.ema_decay!r}")
        require(0 < self.warmup_ratio <= 1, f"warmup_ratio must be in (0, 1], got {self.warmup_ratio!r}")
        self._check_decay_epochs()
        for name, allowed in (
            ("optimizer", ("adamw", "sgd")),
            ("schedule", ("cosine", "steps")),
            ("precision", ("fp32", "bf16", "fp16")),
            ("mask_target", ("coverage", "reference")),
            ("dice_norm", ("pairs", "cells")),
        ):
            value = getattr(self, name)
            require(value in allowed, f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.integers is not None:
            require(
                self.precision == "fp32",
                f"imitating 8 bits needs precision fp32, got {self.precision}, whose own rounding is as coarse",
            )
            require(
                self.input_size is not None and self.processes == 1 and not self.compile,
                "imitating 8 bits needs one input size, one process and no compile; leave the others out",
            )

    def _check_geometry(self) -> None:
        require(
            (self.input_size is None) != (not self.short_sides),
            f"a run has one input_size or several short_sides, got {self.input_size!r} and {self.short_sides!r}",
        )
        if self.input_size is None:
            require(all(s >= 32 for s in self.short_sides), f"short_sides must be >= 32, got {self.short_sides!r}")
            require(
                self.augment.scale == (1.0, 1.0),
                f"short_sides are the scale jitter, and scale is {self.augment.scale!r}; give one of the two",
            )
            require(self.mask_target == "reference", "short_sides go with mask_target reference; give it or one size")
        else:
            require(
                len(self.input_size) == 2 and all(side > 0 and side % 32 == 0 for side in self.input_size),
                f"input_size must be H x W in multiples of 32, got {self.input_size!r}",
            )

    def _check_decay_epochs(self) -> None:
        marks = self.decay_epochs
        require(not marks or self.schedule == "steps", f"decay_epochs go with schedule steps, got {self.schedule!r}")
        require(
            list(marks) == sorted(set(marks)) and all(0 < mark < self.epochs for mark in marks),
            f"decay_epochs must rise and lie within the {self.epochs} epochs, got {marks!r}; give others",
        )

    @property
    def pictures_per_step(self) -> int:
        """Pictures an optimiser step learns from, over all passes and processes."""
        return self.batch_size * self.accumulate * self.processes


def learning_rate_factor(step: int, total_steps: int, options: TrainOptions) -> float:
    """Return the factor on the peak learning rate for optimiser step ``step`` of ``total_steps``."""
    if step < options.warmup_steps:
        return options.warmup_ratio + (1 - options.warmup_ratio) * step / options.warmup_steps
    progress = step / max(total_steps, 1)
    if options.schedule == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    marks = [epoch / options.epochs for epoch in options.decay_epochs] or [27 / 36, 33 / 36]
    factor: float = 0.1 ** sum(progress >= mark for mark in marks)
    return factor
