"""One optimiser step: any number of forward passes, on any number of processes, that equal one large pass."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from solov2_edge.distributed import World, end_silently
from solov2_edge.errors import SolovEdgeError
from solov2_edge.loss import BatchTargets, count_targets, solov2_losses
from solov2_edge.model import SOLOv2
from solov2_edge.train_network import autocast, building, compiled
from solov2_edge.train_options import TrainOptions

__all__ = ["Batch", "NotFiniteError", "StepLosses", "Stepper"]

Batch = tuple[Tensor, BatchTargets]


class StepLosses(NamedTuple):
    """What a step measured: the losses of all its pictures, and the gradient's norm before it was clipped."""

    mask: float
    classes: float
    semantic: float
    norm: float

    @property
    def total(self) -> float:
        """What was minimised."""
        return self.mask + self.classes + self.semantic


class NotFiniteError(SolovEdgeError):
    """A loss or gradient is not finite; nothing was learnt from it.

    Attributes:
        what: which of the two.
        parts: its values, for a sentence.
        rank: of the process that says so.
    """

    def __init__(self, what: str, parts: str, rank: int) -> None:
        super().__init__(f"{what} is not finite ({parts})")
        self.what, self.parts, self.rank = what, parts, rank


class Stepper:
    """Takes optimiser steps.

    A step's losses are sums over its passes and processes, divided by the targets of them all: processes exchange
    those counts before the first pass.

    Args:
        model: what is trained, on its device, as ``train_network`` has prepared it.
        optimizer: of its parameters.
        options: precision, normalisation of the dice loss, clipping.
        world: this process among those of the run.
    """

    def __init__(self, model: SOLOv2, optimizer: torch.optim.Optimizer, options: TrainOptions, world: World) -> None:
        self.model, self.optimizer, self.options, self.world = model, optimizer, options, world
        self.device = world.device
        # Gradients below float16's range are scaled up; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        # Statistics of batch norms need no broadcast: synced_norm keeps them equal.
        self.shared = None if world.size == 1 else DistributedDataParallel(model, **_no_broadcast())
        network = self.shared or model
        self.forward: Callable[[Tensor], Any] = compiled(network, self.device) if options.compile else network

    def step(self, batches: Sequence[Batch]) -> StepLosses:
        """Learn from ``batches``, one forward pass each.

        Raises:
            NotFiniteError: a loss or the gradient; the weights are as they were.
        """
        passes = [_moved(batch, self.device) for batch in batches]
        classes = self.model.spec.num_classes
        own = [count_targets(targets, classes) for _, targets in passes]
        counts = self.world.total(torch.stack(own).sum(dim=0))
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for number, (images, targets) in enumerate(passes):
            with building() if self.options.compile else nullcontext():
                sums += self._backward(images, targets, counts, last=number == len(passes) - 1)
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm))
        if not self.scaler.is_enabled() and not math.isfinite(norm):
            self._stop("the gradient", f"norm {norm}", speaks=self.world.leads)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        mask, label, semantic = self.world.total(sums).tolist()
        return StepLosses(mask, label, semantic, norm)

    def _backward(self, images: Tensor, targets: BatchTargets, counts: Tensor, *, last: bool) -> Tensor:
        """Add one pass's gradient; return its share of the losses, (3,)."""
        # Gradients are exchanged once a step, with its last pass.
        with nullcontext() if last or self.shared is None else self.shared.no_sync():
            with autocast(self.device, self.options.precision):
                outputs = self.forward(images)
            losses = solov2_losses(outputs, targets, self.options.dice_norm, counts, self.model.spec)
            loss = losses.mask + losses.classes + losses.semantic
            finite = math.isfinite(loss.item())
            first = self.world.first_that(not finite)
            if first is not None:
                parts = f"mask {losses.mask.item()}, class {losses.classes.item()}, semantic {losses.semantic.item()}"
                self._stop("the loss", parts, speaks=first == self.world.rank)
            # DistributedDataParallel averages gradients where the losses' shares add up.
            self.scaler.scale(loss * self.world.size).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return torch.stack([loss.detach() for loss in losses]).double()

    def _stop(self, what: str, parts: str, *, speaks: bool) -> None:
        """Leave the step: one process says why, the others end silently."""
        if not speaks:
            end_silently(1)
        raise NotFiniteError(what, parts, self.world.rank)


def _no_broadcast() -> dict[str, Any]:
    """Return the argument that leaves buffers alone, by its name in this PyTorch."""
    names = inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False}


def _moved(batch: Batch, device: torch.device) -> Batch:
    images, targets = batch
    parts = ([tensor.to(device) for tensor in part] for part in targets[1:])
    moved = BatchTargets(targets.class_maps.to(device), *parts)
    return images.to(device, memory_format=torch.channels_last), moved
