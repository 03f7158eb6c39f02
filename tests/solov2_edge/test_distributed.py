"""Several processes: the real ``torchrun``, equal to one process; a failure told once; what the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from solov2_edge.checkpoint import read_checkpoint
from solov2_edge.distributed import World, place
from solov2_edge.errors import InputError
from solov2_edge.model import SOLOv2
from solov2_edge.synced_norm import sync_norms
from solov2_edge.variants import variant

RUN = ("-m", "solov2_edge", "train")


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"), count=8)


def _arguments(discs: Path, output: Path, *more: str) -> list[str]:
    return ["--annotations", str(discs), "--images", str(discs.parent), "-o", str(output), "--quiet", *more]


def _torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *RUN, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)


def _distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return sum(float((a[name].double() - b[name].double()).square().sum()) for name in a) ** 0.5


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(discs: Path, tmp_path: Path) -> None:
    """Four steps of ``nano``, batch norms on, from scratch; what remains is the order of float32 sums.

    One process with two threads in place of one differs as much.
    """
    from solov2_edge.cli import main

    shared = ("--input-size", "64x64", "--epochs", "2", "--optimizer", "sgd", "--learning-rate", "0.003")
    shared = (*shared, "--warmup-steps", "0", "--ema-decay", "0")
    done = _torchrun(*_arguments(discs, tmp_path / "two", *shared, "--batch-size", "2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 2 epochs") == 1, "process 0 alone speaks"
    assert main(["train", *_arguments(discs, tmp_path / "one", *shared, "--batch-size", "4")]) == 0

    two, one = (read_checkpoint(tmp_path / name / "last.safetensors").state for name in ("two", "one"))
    torch.manual_seed(0)
    start = SOLOv2(replace(variant("nano"), class_names=("even", "odd"))).state_dict()
    moved = _distance(one, start)
    assert moved > 0.1
    assert _distance(two, one) < 1e-4 * moved
    means = [name for name in one if name.endswith("running_var")]
    assert means
    for name in means:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_a_failing_process_ends_all_with_one_sentence(discs: Path, tmp_path: Path) -> None:
    (discs.parent / "broken").mkdir()
    for path in discs.parent.glob("*.png"):
        (discs.parent / "broken" / path.name).write_bytes(path.read_bytes())
    (discs.parent / "broken" / "3.png").write_bytes(b"no picture")
    arguments = _arguments(discs, tmp_path / "run", "--input-size", "64x64", "--batch-size", "4", "--epochs", "1")
    arguments[3] = str(discs.parent / "broken")  # one process meets it, the other is fine
    done = _torchrun(*arguments)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("solov2-edge:")]
    assert len(told) == 1
    assert "3.png" in told[0]
    assert not (tmp_path / "run" / "state.pt").exists()


def test_the_environment_places_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert place() == World()
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert place() == World(1, 2, 0)
    assert not place().leads
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(InputError, match="below WORLD_SIZE"):
        place()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InputError, match="torchrun"):
        place()


def test_a_process_alone_counts_for_itself() -> None:
    values = torch.tensor([1.0, 2.0])
    assert World().total(values) is values
    assert World().first_that(True) == 0
    assert World().first_that(False) is None


def test_a_synced_batch_norm_of_one_process_is_the_ordinary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: None)  # the sum over one process
    torch.manual_seed(0)
    plain, synced = nn.BatchNorm2d(5), nn.Sequential(nn.BatchNorm2d(5))
    sync_norms(synced)
    x = torch.randn(3, 5, 4, 6) * 2 + 7
    inputs = [x.clone().requires_grad_(True) for _ in range(2)]
    weight = torch.rand(x.shape)
    for norm, given in ((plain, inputs[0]), (synced, inputs[1])):
        (norm(given) * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[f"0.{name}"], value)
    for a, b in zip(plain.parameters(), synced.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    plain.eval(), synced.eval()
    torch.testing.assert_close(plain(x), synced(x))
