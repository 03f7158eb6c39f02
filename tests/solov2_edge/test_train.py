"""Training runs: what they leave, resuming after a kill, refusing another run's state."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from solov2_edge.batches import EpochBatches
from solov2_edge.checkpoint import read_checkpoint
from solov2_edge.cli import main
from solov2_edge.data import CocoPictures, read_pictures
from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.spec import ModelSpec
from solov2_edge.train import Watch, train
from solov2_edge.train_options import TrainOptions, learning_rate_factor
from solov2_edge.train_state import LOG_COLUMNS

OPTIONS = TrainOptions(epochs=4, batch_size=2, input_size=(64, 64), warmup_steps=2, seed=5)


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def pictures(discs: Path) -> CocoPictures:
    return read_pictures(discs, discs.parent)


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> ModelSpec:
    return replace(tiny_spec, class_names=("even", "odd"))


@pytest.fixture(scope="module")
def whole(pictures: CocoPictures, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted, with a made-up AP that peaks at its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    aps = iter([1.0, 3.0, 2.0, 2.5])
    result = train(
        *(pictures, spec, folder, replace(OPTIONS, evaluate_every=1)),
        evaluate=lambda model: {"ap": next(aps), "ap50": 0.0, "ap75": 0.0},
    )
    assert (result.epochs, result.best_ap) == (4, 3.0)
    return folder


def test_a_run_leaves_state_log_last_and_best(whole: Path) -> None:
    left = ["best.safetensors", "curves.png", "last.safetensors", "log.csv", "state.pt"]
    assert sorted(p.name for p in whole.iterdir()) == left
    with (whole / "log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == LOG_COLUMNS
    assert [r["epoch"] for r in rows] == ["1", "2", "3", "4"]
    assert [float(r["ap"]) for r in rows] == [1.0, 3.0, 2.0, 2.5]
    assert all(float(r["loss"]) > 0 for r in rows)


def test_best_is_the_epoch_with_the_highest_ap_and_the_spec_travels_along(whole: Path, spec: ModelSpec) -> None:
    best, last = (read_checkpoint(whole / f"{name}.safetensors") for name in ("best", "last"))
    assert best.spec == last.spec == spec
    assert any(not torch.equal(best.state[k], last.state[k]) for k in best.state)


def _same(a: Path, b: Path) -> bool:
    one, other = read_checkpoint(a).state, read_checkpoint(b).state
    return all(torch.equal(one[k], other[k]) for k in one)


def test_the_same_seed_trains_the_same_weights(
    whole: Path, pictures: CocoPictures, spec: ModelSpec, tmp_path: Path
) -> None:
    train(pictures, spec, tmp_path / "again", OPTIONS)
    assert _same(whole / "last.safetensors", tmp_path / "again" / "last.safetensors")
    train(pictures, spec, tmp_path / "other", replace(OPTIONS, seed=6))
    assert not _same(whole / "last.safetensors", tmp_path / "other" / "last.safetensors")


class Killed(BaseException):
    """Stands for a kill between two batches."""


@pytest.mark.parametrize(("batches", "keep_every", "kept"), [(3, 1, 1), (5, 1, 2), (7, 2, 2)])
def test_a_resumed_run_equals_one_that_was_not_killed(
    whole: Path, pictures: CocoPictures, spec: ModelSpec, tmp_path: Path, batches: int, keep_every: int, kept: int
) -> None:
    left = iter(range(batches))

    def dying(items, total, label):  # type: ignore[no-untyped-def]  # the callback's types are train's
        for item in items:
            if next(left, None) is None:
                raise Killed
            yield item

    with pytest.raises(Killed):
        train(pictures, spec, tmp_path, replace(OPTIONS, keep_every=keep_every), watch=Watch(track=dying))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == kept
    result = train(pictures, spec, tmp_path, OPTIONS, resume=True)
    assert result.epochs == 4
    assert _same(whole / "last.safetensors", tmp_path / "last.safetensors")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5


def test_a_run_killed_within_an_epoch_and_resumed_ends_in_the_same_bytes(
    write_discs: Callable[..., Path], tmp_path: Path
) -> None:
    """SIGKILL through the real command line; accumulation, the average, AdamW and a half-done epoch come back."""
    discs = write_discs(tmp_path, count=12)
    run = [
        *("train", "--annotations", str(discs), "--images", str(tmp_path), "--input-size", "64x64", "--quiet"),
        *("--epochs", "2", "--batch-size", "1", "--accumulate", "2", "--state-every", "1", "--ema-decay", "0.9"),
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other process: sums are then in the same order
    try:
        assert main([*run, "-o", str(whole)]) == 0
        process = subprocess.Popen(
            [sys.executable, "-m", "solov2_edge", *run, "-o", str(killed)],
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline, seen = time.monotonic() + 600, set()
        while len(seen) < 3 and time.monotonic() < deadline:  # the first epoch is logged, and three states later
            assert process.poll() is None, "the run ended before it could be killed"
            if (killed / "log.csv").exists():
                seen.add((killed / "state.pt").stat().st_mtime_ns)
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        step = int(torch.load(killed / "state.pt", weights_only=True)["step"])
        assert step % 6 != 0, "killed inside of an epoch of 6 steps"
        assert main([*run, "-o", str(killed), "--resume"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert (killed / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()
    logs = []
    for folder in (whole, killed):
        with (folder / "log.csv").open(newline="") as stream:
            logs.append([[row[k] for k in LOG_COLUMNS if "second" not in k] for row in csv.DictReader(stream)])
    assert logs[0] == logs[1]
    assert len(logs[0]) == 2


def test_a_state_of_another_run_is_refused(
    whole: Path, pictures: CocoPictures, spec: ModelSpec, tmp_path: Path
) -> None:
    for name in ("state.pt", "log.csv"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    with pytest.raises(InputError, match="other values of learning_rate"):
        train(pictures, spec, tmp_path, replace(OPTIONS, learning_rate=1.0), resume=True)
    with pytest.raises(InputError, match="another network"):
        train(pictures, replace(spec, name="x"), tmp_path, OPTIONS, resume=True)
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(InputError, match=r"state\.pt"):
        train(pictures, spec, tmp_path, OPTIONS, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_pictures(
    pictures: CocoPictures, spec: ModelSpec, tmp_path: Path
) -> None:
    with pytest.raises(SolovEdgeError, match="not finite in epoch") as caught:
        train(pictures, spec, tmp_path, replace(OPTIONS, learning_rate=1e9, clip_norm=1e9, warmup_steps=0, epochs=9))
    assert caught.value.exit_code == 1
    with np.load(tmp_path / "bad-batch.npz") as bad:
        names = bad["pictures"].tolist()
        assert len(names) == 2
        assert set(names) <= {path.name for path in pictures.files}
        assert all(name in str(caught.value) for name in names)
        assert bad["images_0"].shape == (2, 3, 64, 64)
        assert bad["masks_0_1"].shape[1:] == (16, 16)
        assert len(bad["cells_0_0"]) == len(bad["objects_0_0"])
    epoch = int(str(caught.value).partition("epoch ")[2].partition(",")[0])
    step = int(str(caught.value).partition("step ")[2].partition(" ")[0])
    order = EpochBatches(4, OPTIONS, 0).order(epoch - 1)
    assert names == [pictures.files[i].name for i in order[2 * (step - 1) : 2 * step]]


def test_initial_weights_are_taken_where_they_fit(
    whole: Path, pictures: CocoPictures, spec: ModelSpec, tmp_path: Path
) -> None:
    start = read_checkpoint(whole / "last.safetensors").state
    more_classes = replace(spec, class_names=("even", "odd", "third"))
    frozen = replace(OPTIONS, epochs=1, learning_rate=1e-12, weight_decay=0.0, warmup_steps=0)
    train(pictures, more_classes, tmp_path, frozen, initial=start)
    got = read_checkpoint(tmp_path / "last.safetensors").state
    torch.testing.assert_close(got["neck.fpn_convs.0.conv.weight"], start["neck.fpn_convs.0.conv.weight"])
    assert got["mask_head.conv_cls.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        ("cosine", 0, 0.01),
        ("cosine", 50, 0.01 + 0.99 * 0.5),  # half of the warm-up
        ("cosine", 500, 0.505),
        ("cosine", 1000, 0.01),
        ("steps", 700, 1.0),
        ("steps", 760, 0.1),  # epoch 27 of 36 is 3/4 of the run
        ("steps", 930, 0.01),  # epoch 33
    ],
)
def test_learning_rate(schedule: str, step: int, factor: float) -> None:
    options = replace(OPTIONS, schedule=schedule, warmup_steps=100)
    assert learning_rate_factor(step, 1000, options) == pytest.approx(factor, abs=0.01)


def test_the_rate_falls_at_the_given_epochs_and_warms_up_from_the_given_ratio() -> None:
    options = replace(OPTIONS, schedule="steps", epochs=12, decay_epochs=(8, 11), warmup_steps=6, warmup_ratio=1 / 3)
    steps = 7  # of an epoch
    factors = [learning_rate_factor(epoch * steps, 12 * steps, options) for epoch in range(12)]
    assert factors == pytest.approx([1 / 3, *[1.0] * 7, *[0.1] * 3, 0.01])
    assert learning_rate_factor(3, 12 * steps, options) == pytest.approx(2 / 3)
    assert learning_rate_factor(8 * steps - 1, 12 * steps, options) == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"input_size": (100, 64)},
        {"learning_rate": 0.0},
        {"optimizer": "lion"},
        {"ema_decay": 1.0},
        {"short_sides": (64,)},
        {"input_size": None},
        {"input_size": None, "short_sides": (64,)},
        {"decay_epochs": (2,)},
        {"schedule": "steps", "decay_epochs": (2, 4)},
        {"frozen_stages": 5},
        {"accumulate": 0},
        {"warmup_ratio": 0.0},
        {"learning_rate": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(InputError):
        replace(OPTIONS, **change)
