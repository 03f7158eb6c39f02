"""Recipes by name: what the released configurations say, what may be given over them, what is refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from solov2_edge.cli import main
from solov2_edge.command_train import add_arguments
from solov2_edge.errors import InputError
from solov2_edge.recipes import RECIPES, recipe, recipe_table
from solov2_edge.train_arguments import options_of
from solov2_edge.train_options import TrainOptions, learning_rate_factor
from solov2_edge.variants import variant

SIX = (512, 480, 448, 416, 384, 352)


def _options(*words: str, name: str = "light-448-r18", processes: int = 1) -> TrainOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--annotations", "a", "--images", "b", "-o", "c", *words])
    return options_of(args, variant(name), processes, None)


def test_without_options_a_run_is_what_it_always_was() -> None:
    assert _options() == TrainOptions()
    assert _options(name="nano").input_size == (448, 448)


@pytest.mark.parametrize("name", ["paper-3x", "light-3x"])
def test_the_long_schedule_is_the_released_configuration(name: str) -> None:
    o = _options("--recipe", name)
    assert (o.optimizer, o.learning_rate, o.weight_decay, o.decay_norms) == ("sgd", 0.01, 1e-4, True)
    assert (o.batch_size, o.epochs, o.schedule, o.decay_epochs) == (16, 36, "steps", (27, 33))
    assert (o.warmup_steps, o.warmup_ratio, o.clip_norm) == (500, 0.01, 35.0)
    assert (o.frozen_stages, o.norm_eval) == (1, True)
    assert (o.input_size, o.short_sides) == (None, SIX)
    assert (o.mask_target, o.dice_norm, o.ema_decay, o.precision) == ("reference", "pairs", 0.0, "fp32")
    assert (o.augment.flip, o.augment.turns, o.augment.scale, o.augment.colour, o.augment.copy_paste) == (
        *(True, False, (1.0, 1.0), 0.0, 0.0),
    )
    steps = 7330  # of an epoch of COCO's 117 266 pictures with objects
    rates = [0.01 * learning_rate_factor(epoch * steps, 36 * steps, o) for epoch in (0, 1, 26, 27, 32, 33, 35)]
    assert rates == pytest.approx([1e-4, 0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4])


def test_recipes_follow_the_variant_where_they_say_so() -> None:
    full = (800, 768, 736, 704, 672, 640)
    assert _options("--recipe", "paper-3x", name="full-r50").short_sides == full
    assert _options("--recipe", "light-3x", name="full-r50").short_sides == SIX
    short = _options("--recipe", "paper-1x", name="full-r50")
    assert (short.short_sides, short.epochs, short.decay_epochs) == ((800,), 12, (8, 11))
    theirs = _options("--recipe", "mmdet-3x")
    assert (theirs.warmup_ratio, theirs.dice_norm, theirs.short_sides) == (pytest.approx(1 / 3), "cells", SIX)


def test_the_rate_grows_with_the_pictures_of_a_step() -> None:
    of_eight = _options("--recipe", "paper-3x", "--batch-size", "2", "--accumulate", "2", processes=2)
    assert of_eight.pictures_per_step == 8
    assert of_eight.learning_rate == pytest.approx(0.005)
    assert _options("--recipe", "paper-3x", "--batch-size", "4", "--learning-rate", "0.02").learning_rate == 0.02
    assert _options("--batch-size", "2").learning_rate == 2e-3  # AdamW's is not scaled
    assert _options("--optimizer", "sgd", "--batch-size", "8").learning_rate == pytest.approx(0.005)
    assert _options("--recipe", "paper-3x", "--optimizer", "adamw").weight_decay == 0.05


def test_what_is_given_counts_more_than_the_recipe() -> None:
    o = _options("--recipe", "paper-3x", "--dice-norm", "mmdet", "--no-flip", "--ema-decay", "0.99", "--colour", "0.2")
    assert (o.dice_norm, o.augment.flip, o.ema_decay, o.augment.colour) == ("cells", False, 0.99, 0.2)
    fixed = _options("--recipe", "paper-3x", "--input-size", "448x768", "--scale", "0.5", "1.5")
    assert (fixed.input_size, fixed.short_sides, fixed.augment.scale) == ((448, 768), (), (0.5, 1.5))
    several = _options("--short-sides", "64", "96")
    assert (several.input_size, several.short_sides, several.augment.scale) == (None, (64, 96), (1.0, 1.0))
    assert several.mask_target == "reference"
    assert _options("--large-scale-jitter").augment.scale == (0.1, 2.0)
    assert _options("--recipe", "paper-1x", "--schedule", "cosine", "--epochs", "7").decay_epochs == ()
    assert _options("--recipe", "paper-1x", "--epochs", "24", "--decay-epochs", "16", "22").decay_epochs == (16, 22)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe", "paper-4x"), "paper-3x"),
        (("--input-size", "64x64", "--short-sides", "64"), "contradict"),
        (("--scale", "1", "2", "--large-scale-jitter"), "contradict"),
        (("--short-sides", "64", "--scale", "0.5", "2"), "scale jitter"),
        (("--recipe", "paper-3x", "--large-scale-jitter"), "scale jitter"),
        (("--recipe", "paper-3x", "--mask-target", "coverage"), "mask_target"),
        (("--recipe", "paper-3x", "--epochs", "12"), "--decay-epochs"),
        (("--decay-epochs", "3"), "schedule steps"),
        (("--schedule", "steps", "--decay-epochs", "100"), "within the 100 epochs"),
    ],
)
def test_contradictions_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _options(*words)


def test_frozen_parts_need_weights(
    write_discs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    discs = write_discs(tmp_path)
    shared = ("train", "--annotations", str(discs), "--images", str(tmp_path), "-o", str(tmp_path / "run"))
    assert main([*shared, "--recipe", "paper-3x"]) == 2
    assert "--backbone-weights or --init" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_says_what_every_recipe_contains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "paper-3x", "--help"]) == 0
    text = capsys.readouterr().out
    for name in RECIPES:
        assert f"  {name}: " in text
    for words in ("x0.1 at epochs 27 and 33", "warm-up 500 steps from 0.01", "512 480 448 416 384 352", "clip 35"):
        assert words in text
    assert recipe_table() in text
    assert recipe("small-set").options == TrainOptions()
