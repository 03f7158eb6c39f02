"""``solov2-edge train --qat`` from the command line: what it leaves, resuming, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from solov2_edge.checkpoint import load_model, read_checkpoint
from solov2_edge.cli import main
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.manifest import sha256_of
from solov2_edge.model import SOLOv2
from solov2_edge.zoo import bundled_path


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


def _run(discs: Path, output: Path, *more: str) -> list[str]:
    return ["train", "--annotations", str(discs), "--images", str(discs.parent), "-o", str(output), *more]


@pytest.fixture(scope="module")
def trained(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the discs' classes, hardly trained."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ("--input-size", "64x64", "--epochs", "1", "--batch-size", "2", "--licence", "mine", "--quiet")
    assert main(_run(discs, folder, *arguments)) == 0
    return folder / "last.safetensors"


@pytest.fixture(scope="module")
def calibration(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    for picture in discs.parent.glob("*.png"):
        shutil.copy(picture, folder)
    return folder


def _qat(discs: Path, output: Path, trained: Path, calibration: Path, *more: str) -> list[str]:
    given = ("--qat", "--init", str(trained), "--calibrate", str(calibration), "--allow-small")
    return _run(discs, output, *given, "--input-size", "64x64", "--batch-size", "2", *more)


def test_fine_tuning_for_integers_leaves_an_ordinary_checkpoint_that_says_so(
    discs: Path, trained: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_qat(discs, tmp_path, trained, calibration, "--epochs", "1", "--for", "tensorrt", "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    model, checkpoint = load_model(result["checkpoint"])
    said = json.loads(checkpoint.meta["metadata"]["fine_tuned_for"])
    assert (said["precision"], said["target"]) == ("int8", "tensorrt")
    assert said["initial_sha256"] == sha256_of(trained)
    assert said["calibration_sha256"] == read_calibration(calibration, allow_small=True).sha256
    assert type(model) is SOLOv2
    with (tmp_path / "log.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["learning_rate"]) < 1e-4  # a twentieth of ordinary training's peak, cooled down


def test_a_fine_tuning_that_was_interrupted_ends_the_same(
    discs: Path, trained: Path, calibration: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    three = ("--epochs", "3", "--quiet")
    assert main(_qat(discs, whole, trained, calibration, *three)) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solov2_edge.train.write_log", _raise_at(2))
        assert main(_qat(discs, parts, trained, calibration, *three)) not in (0, 2)
    assert main(_qat(discs, parts, trained, calibration, *three, "--resume")) == 0
    one, other = (read_checkpoint(folder / "last.safetensors").state for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert main(_qat(discs, parts, trained, calibration, *three, "--for", "tensorrt", "--resume")) == 2


def _raise_at(call: int) -> Callable[..., None]:
    """Return what stands in for writing the log, and ends the run the ``call``-th time."""
    left = iter(range(call - 1))

    def write(path: Path, rows: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return write


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--qat",), "--init"),
        (("--qat", "--init", "TRAINED"), "--calibrate"),
        (("--calibrate", "CALIBRATION"), "--qat"),
        (("--for", "tensorrt"), "--qat"),
        (("--qat", "--init", "TRAINED", "--calibrate", "CALIBRATION"), "--allow-small"),
        (("--qat", "--init", "TRAINED", "--calibrate", "CALIBRATION", "--allow-small", "--precision", "bf16"), "fp32"),
        (("--qat", "--init", "BUNDLED", "--calibrate", "CALIBRATION", "--allow-small"), "same network and classes"),
    ],
)
def test_what_fine_tuning_for_integers_needs_is_said(
    discs: Path,
    trained: Path,
    calibration: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    files = {"TRAINED": str(trained), "CALIBRATION": str(calibration), "BUNDLED": str(bundled_path())}
    given = [files.get(argument, argument) for argument in arguments]
    assert main(_run(discs, tmp_path / "run", *given)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()
