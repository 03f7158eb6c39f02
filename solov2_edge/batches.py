"""The order of samples: one stream of batches over all epochs, so that workers prepare the next epoch during the last.

Which pictures stand in a batch follows from (seed, epoch) alone; a run resumed anywhere sees what the other saw. A
step's pictures are one stretch of the epoch's order, dealt out to its passes and processes batch by batch: however
many share a step, it learns from the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from solov2_edge.data import TrainingSet, collate
from solov2_edge.errors import require
from solov2_edge.multi_scale import MultiScaleSet, PaddedCollate
from solov2_edge.train_options import TrainOptions

__all__ = ["EpochBatches", "Key", "open_batches", "step_keys", "steps_per_epoch"]

Key = tuple[int, int]  # (epoch, index of a picture)


def steps_per_epoch(pictures: int, pictures_per_step: int) -> int:
    """Return the steps of an epoch: whole ones (a small last one makes noisy statistics), or one of all there is."""
    return max(pictures // pictures_per_step, 1)


def step_keys(order: list[int], epoch: int, step: int, options: TrainOptions, rank: int) -> list[list[Key]]:
    """Return the samples of process ``rank`` in a step, pass by pass.

    Args:
        order: the epoch's pictures in their order.
        epoch: 0-based, as ``step`` within it.
        step: which stretch of the order.
        options: how many pictures a pass, passes a step and processes.
        rank: of the process.
    """
    first = step * options.pictures_per_step
    starts = [first + (number * options.processes + rank) * options.batch_size for number in range(options.accumulate)]
    return [[(epoch, index) for index in order[start : start + options.batch_size]] for start in starts]


class EpochBatches(Sampler[list[Key]]):
    """Batches of (epoch, index) for one process from step ``first_step`` of ``first_epoch`` to the last epoch's end.

    Raises:
        InputError: the pictures do not fill one step that several passes or processes share.
    """

    def __init__(
        self, pictures: int, options: TrainOptions, first_epoch: int, first_step: int = 0, rank: int = 0
    ) -> None:
        require(
            pictures >= options.pictures_per_step or options.accumulate * options.processes == 1,
            f"a step takes {options.pictures_per_step} pictures ({options.batch_size} a pass x {options.accumulate} "
            f"passes x {options.processes} processes), there are {pictures}; lower the batch size",
        )
        self.pictures, self.options, self.rank = pictures, options, rank
        self.first_epoch, self.first_step = first_epoch, first_step
        self.steps = steps_per_epoch(pictures, options.pictures_per_step)

    def __len__(self) -> int:
        steps = (self.options.epochs - self.first_epoch) * self.steps - self.first_step
        return steps * self.options.accumulate

    def order(self, epoch: int) -> list[int]:
        """Return the pictures of an epoch in their order."""
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + epoch)
        order: list[int] = torch.randperm(self.pictures, generator=generator).tolist()
        return order

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.first_epoch, self.options.epochs):
            order = self.order(epoch)
            for step in range(self.first_step if epoch == self.first_epoch else 0, self.steps):
                yield from step_keys(order, epoch, step, self.options, self.rank)


def open_batches(samples: TrainingSet | MultiScaleSet, order: EpochBatches) -> Iterator[Any]:
    """Return the batches (images, BatchTargets) in that order, prepared by the workers."""
    padded = isinstance(samples, MultiScaleSet)
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=order,
        num_workers=order.options.workers,
        collate_fn=PaddedCollate(samples.spec) if padded else collate,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
