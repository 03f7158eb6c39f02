"""The order of samples: one stream of batches over all epochs, so that workers prepare the next epoch during the last.

Which pictures stand in a batch follows from (seed, epoch) alone; a run resumed at an epoch sees what the other saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from solov2_edge.data import Sample, TrainingSet, collate
from solov2_edge.train_options import TrainOptions

__all__ = ["EpochBatches", "open_batches", "steps_per_epoch"]


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Return the batches of an epoch: whole ones (a small last one makes noisy statistics), or one of all there is."""
    return max(pictures // batch_size, 1)


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) from ``first_epoch`` to ``epochs``, every epoch in an order of its own."""

    def __init__(self, pictures: int, options: TrainOptions, first_epoch: int) -> None:
        self.pictures, self.options, self.first_epoch = pictures, options, first_epoch

    def __len__(self) -> int:
        return (self.options.epochs - self.first_epoch) * steps_per_epoch(self.pictures, self.options.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self.options.batch_size
        for epoch in range(self.first_epoch, self.options.epochs):
            generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + epoch)
            order = torch.randperm(self.pictures, generator=generator).tolist()
            for step in range(steps_per_epoch(self.pictures, size)):
                yield [(epoch, index) for index in order[step * size : (step + 1) * size]]


def open_batches(samples: TrainingSet, options: TrainOptions, first_epoch: int) -> Iterator[Any]:
    """Return the batches (images, BatchTargets) of all epochs from ``first_epoch`` on, prepared by the workers."""
    loader: DataLoader[Sample] = DataLoader(
        samples,
        batch_sampler=EpochBatches(len(samples), options, first_epoch),
        num_workers=options.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
