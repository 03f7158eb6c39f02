"""The stream of batches: every picture once an epoch, the same order again after resuming."""

from __future__ import annotations

import pytest

from solov2_edge.batches import EpochBatches, steps_per_epoch
from solov2_edge.train_options import TrainOptions


@pytest.mark.parametrize(("pictures", "batch", "steps"), [(10, 4, 2), (8, 4, 2), (3, 4, 1), (4, 4, 1), (5, 1, 5)])
def test_whole_batches_only_unless_there_is_none(pictures: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(pictures, batch) == steps
    batches = list(EpochBatches(pictures, TrainOptions(epochs=2, batch_size=batch), 0))
    assert len(batches) == 2 * steps
    assert {len(b) for b in batches} == {min(pictures, batch)}


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    batches = list(EpochBatches(12, TrainOptions(epochs=3, batch_size=4), 0))
    epochs = [[key for batch in batches[3 * e : 3 * e + 3] for key in batch] for e in range(3)]
    assert [{epoch for epoch, _ in keys} for keys in epochs] == [{0}, {1}, {2}]
    orders = [[index for _, index in keys] for keys in epochs]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_resuming_goes_on_where_the_other_stopped() -> None:
    options = TrainOptions(epochs=5, batch_size=4, seed=7)
    whole, rest = EpochBatches(12, options, 0), EpochBatches(12, options, 3)
    assert list(rest) == list(whole)[9:]
    assert len(rest) == 6
