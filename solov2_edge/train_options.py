"""Every choice a training run makes, validated, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from solov2_edge.augment import AugmentOptions
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
    """One training run. The defaults suit a few hundred pictures trained from scratch.

    Attributes:
        epochs: passes over the pictures.
        batch_size: pictures per optimiser step.
        input_size: (H, W) in pixels, the size the artefacts will have.
        optimizer: ``"adamw"``, or ``"sgd"`` with momentum 0.9 (the paper's).
        learning_rate: peak rate, for ``batch_size`` pictures a step.
        weight_decay: on convolution weights only; norms and biases are spared.
        schedule: ``"cosine"`` to 1 % of the peak, or ``"steps"``: x0.1 at 3/4 and 11/12 of the run (27 and 33 of the
            paper's 36 epochs).
        warmup_steps: linear warm-up from 1 % of the peak.
        clip_norm: gradients are scaled down to this norm (35 in the authors' configuration).
        ema_decay: share of the weight average kept per step.
        precision: ``"fp32"`` or ``"bf16"`` (autocast in the network; the losses stay float32).
        workers: processes that prepare samples; 0 prepares them between steps.
        evaluate_every: epochs between evaluations.
        keep_every: epochs between states and last checkpoints; a killed run loses the epochs since.
        seed: of weights, order and augmentation.
        mask_target: ``"coverage"`` or ``"reference"``; see ``data.quarter_mask``.
        dice_norm: ``"pairs"`` (the authors) or ``"cells"`` (mmdetection); see ``loss.solov2_losses``.
        augment: what may happen to a picture.
        integers: the integer artefact that is imitated, None in ordinary training.
    """

    epochs: int = 100
    batch_size: int = 8
    input_size: tuple[int, int] = (448, 448)
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup_steps: int = 300
    clip_norm: float = 35.0
    ema_decay: float = 0.998
    precision: str = "fp32"
    workers: int = 0
    evaluate_every: int = 10
    keep_every: int = 1
    seed: int = 0
    mask_target: str = "coverage"
    dice_norm: str = "pairs"
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    integers: IntegerOptions | None = None

    def __post_init__(self) -> None:
        lowest = dict.fromkeys(("seed", "warmup_steps", "workers"), 0)
        lowest |= dict.fromkeys(("epochs", "batch_size", "evaluate_every", "keep_every"), 1)
        for name, low in lowest.items():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= low, f"{name} must be an integer >= {low}, got {value!r}")
        require(
            len(self.input_size) == 2 and all(side > 0 and side % 32 == 0 for side in self.input_size),
            f"input_size must be H x W in multiples of 32, got {self.input_size!r}",
        )
        require(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate!r}")
        require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay!r}")
        require(self.clip_norm > 0, f"clip_norm must be positive, got {self.clip_norm!r}")
        require(0 <= self.ema_decay < 1, f"ema_decay must be in [0, 1), got {self.ema_decay!r}")
        for name, allowed in (
            ("optimizer", ("adamw", "sgd")),
            ("schedule", ("cosine", "steps")),
            ("precision", ("fp32", "bf16")),
            ("mask_target", ("coverage", "reference")),
            ("dice_norm", ("pairs", "cells")),
        ):
            value = getattr(self, name)
            require(value in allowed, f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        require(
            self.integers is None or self.precision == "fp32",
            f"imitating 8 bits needs precision fp32, got {self.precision}, whose own rounding is as coarse",
        )


def learning_rate_factor(step: int, total_steps: int, options: TrainOptions) -> float:
    """Return the factor on the peak learning rate for optimiser step ``step`` of ``total_steps``."""
    if step < options.warmup_steps:
        return 0.01 + 0.99 * step / options.warmup_steps
    progress = step / max(total_steps, 1)
    if options.schedule == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return 1.0 if progress < 27 / 36 else 0.1 if progress < 33 / 36 else 0.01
