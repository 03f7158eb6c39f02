"""``solov2-edge train`` from the command line: a stranger's json, bad arguments, and a network that really learns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from solov2_edge.checkpoint import read_checkpoint
from solov2_edge.cli import main
from solov2_edge.zoo import bundled_path


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


def _run(discs: Path, output: Path, *more: str) -> list[str]:
    return ["train", "--annotations", str(discs), "--images", str(discs.parent), "-o", str(output), *more]


def test_one_command_trains_and_says_where_the_checkpoint_is(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--input-size", "64x64", "--epochs", "1", "--batch-size", "2", "--json")
    code = main(_run(discs, tmp_path, *short, "--val-annotations", str(discs), "--licence", "mine"))
    result = json.loads(capsys.readouterr().out)
    assert code == 0
    checkpoint = read_checkpoint(result["checkpoint"])
    assert checkpoint.spec.class_names == ("even", "odd")
    assert checkpoint.spec.resize_box == (64, 64)
    assert checkpoint.licence == "mine"
    assert result["ap"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "nanno"), "nano"),
        (("--input-size", "100x64"), "32"),
        (("--epochs", "0"), "epochs"),
        (("--val-images", "."), "--val-annotations"),
        (("--init", "nowhere.pth"), "nowhere.pth"),
        (("--scale", "2", "1"), "scale"),
        (("--precision", "fp16"), "GPU"),
        (("--accumulate", "3"), "lower the batch size"),
        (("--recipe", "paper"), "paper-3x"),
        (("--init", str(bundled_path()), "--backbone-weights", "r18.pth"), "leave --backbone-weights out"),
        (("--backbone-weights", "nowhere.pth"), "nowhere.pth"),
    ],
)
def test_bad_arguments_are_one_sentence(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(_run(discs, tmp_path / "run", *arguments)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


def test_several_sizes_passes_and_event_files_from_one_command(discs: Path, tmp_path: Path) -> None:
    several = ("--short-sides", "32", "64", "--turns", "--copy-paste", "0.5", "--precision", "bf16", "--tensorboard")
    short = ("--epochs", "1", "--batch-size", "1", "--accumulate", "2", "--decay-norms", "--quiet")
    assert main(_run(discs, tmp_path, *several, *short)) == 0
    spec = read_checkpoint(tmp_path / "last.safetensors").spec
    assert spec.train_short_sides == (32, 64)
    assert spec.resize_box == (448, 768), "where it is tested stays the variant's"
    names = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert names == {"curves", "events", "last", "log", "state"}
    assert cv2.imread(str(tmp_path / "curves.png")) is not None


def test_a_folder_with_a_run_is_not_overwritten(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.pt").write_bytes(b"")
    assert main(_run(discs, tmp_path)) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.slow
def test_four_pictures_can_be_learnt_by_heart(discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Targets, losses and decoding agree only if a network can overfit: mask AP 60 on what it was shown.

    From the bundled weights with a fresh class layer six seeds came to 82..88 in 80 steps; from scratch so few steps
    end anywhere.
    """
    arguments = (
        *("--input-size", "96x128", "--epochs", "40", "--batch-size", "2", "--scale", "1", "1", "--colour", "0"),
        *("--warmup-steps", "10", "--init", str(bundled_path()), "--val-annotations", str(discs)),
        *("--evaluate-every", "40", "--json", "--quiet"),
    )
    assert main(_run(discs, tmp_path, *arguments)) == 0
    assert json.loads(capsys.readouterr().out)["ap"] > 60
