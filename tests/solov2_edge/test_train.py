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

import pytest
import torch

from solov2_edge.checkpoint import read_checkpoint
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


def test_sigkill_at_any_moment_leaves_a_run_to_resume(discs: Path, tmp_path: Path) -> None:
    run = [
        *(sys.executable, "-m", "solov2_edge", "train", "--annotations", str(discs), "--images", str(discs.parent)),
        *("--input-size", "64x64", "--epochs", "200", "--batch-size", "2", "-o", str(tmp_path / "run"), "--quiet"),
    ]
    process = subprocess.Popen(run, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "state.pt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before its first state"
        time.sleep(0.05)
    time.sleep(0.7)  # somewhere inside a later epoch
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["epoch"] >= 1
    read_checkpoint(tmp_path / "run" / "last.safetensors")


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


def test_a_loss_that_is_not_finite_stops_the_run(pictures: CocoPictures, spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(SolovEdgeError, match="not finite in epoch"):
        train(pictures, spec, tmp_path, replace(OPTIONS, learning_rate=1e9, clip_norm=1e9, warmup_steps=0, epochs=9))


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


@pytest.mark.parametrize(
    "change",
    [{"epochs": 0}, {"input_size": (100, 64)}, {"learning_rate": 0.0}, {"optimizer": "lion"}, {"ema_decay": 1.0}],
)
def test_options_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(InputError):
        replace(OPTIONS, **change)
