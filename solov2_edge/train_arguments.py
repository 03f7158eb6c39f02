"""The choices of ``solov2-edge train``: a recipe, and the options given over it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import parse_size
from solov2_edge.errors import require
from solov2_edge.spec import ModelSpec

if TYPE_CHECKING:
    from solov2_edge.train_options import IntegerOptions, TrainOptions

__all__ = ["add_choice_arguments", "options_of"]

LARGE_SCALE = (0.1, 2.0)  # Ghiasi et al., Simple Copy-Paste (CVPR 2021)
DICE_NORMS = {"official": "pairs", "mmdet": "cells"}
RATES = {"adamw": 2e-3, "sgd": 0.01}  # peak, sgd's for 16 pictures a step
DECAYS = {"adamw": 0.05, "sgd": 1e-4}

# Arguments that are options of the same name, and those that are augmentation's.
_PLAIN = (
    *("epochs", "batch_size", "accumulate", "optimizer", "learning_rate", "weight_decay", "decay_norms", "schedule"),
    *("warmup_steps", "warmup_ratio", "clip_norm", "ema_decay", "precision", "compile", "frozen_stages", "norm_eval"),
    *("workers", "evaluate_every", "keep_every", "state_every", "seed", "mask_target"),
)
_AUGMENT = ("flip", "turns", "colour", "copy_paste")


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe and what may be given over it; nothing given means the recipe's value."""
    from solov2_edge.recipes import DEFAULT_RECIPE, recipe_table

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"recipes:\n{recipe_table()}"
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--recipe", default=DEFAULT_RECIPE, help="named choices, listed below (default: %(default)s)")

    size = parser.add_argument_group("sizes and augmentation, over the recipe's")
    add = size.add_argument
    add("--input-size", help="H x W in multiples of 32: one input size")
    add("--short-sides", type=int, nargs="+", metavar="N", help="instead: short sides to draw from, batches padded")
    add("--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="scale jitter around the input size")
    add("--large-scale-jitter", action="store_true", help="the same as --scale 0.1 2")
    add("--flip", action=switch, help="mirror half of the pictures")
    add("--turns", action=switch, help="also turn by quarters: for pictures with no upright direction")
    add("--colour", type=float, help="strength of colour changes, 0 to 1")
    add("--copy-paste", type=float, metavar="P", help="share of pictures that get objects of another")
    add("--mask-target", choices=("coverage", "reference"), help="soft quarter-scale masks, or the authors' hard ones")
    add("--dice-norm", choices=tuple(DICE_NORMS), help="average the dice loss over pairs, or divide by positive cells")

    step = parser.add_argument_group("optimiser and schedule, over the recipe's")
    add = step.add_argument
    add("--epochs", type=int, help="passes over the pictures (with --qat 5)")
    add("--batch-size", type=int, help="pictures of one forward pass of one process")
    add("--accumulate", type=int, metavar="N", help="forward passes per optimiser step")
    add("--optimizer", choices=tuple(RATES))
    add("--learning-rate", type=float, help="peak rate for all pictures of a step (with --qat a twentieth)")
    add("--weight-decay", type=float)
    add("--decay-norms", action=switch, help="weight decay on norms and biases too")
    add("--schedule", choices=("cosine", "steps"))
    add("--decay-epochs", type=int, nargs="+", metavar="E", help="where schedule steps cuts the rate to a tenth")
    add("--warmup-steps", type=int, help="(with --qat 20)")
    add("--warmup-ratio", type=float, help="share of the peak rate the warm-up starts from")
    add("--clip-norm", type=float, help="longest gradient")
    add("--ema-decay", type=float, metavar="D", help="share of the weight average kept per step; 0: no average")
    add("--frozen-stages", type=int, metavar="N", help="stages of the backbone that are not trained")
    add("--norm-eval", action=switch, help="keep the statistics of the backbone's batch norms")

    machine = parser.add_argument_group("machine")
    add = machine.add_argument
    add("--precision", choices=("fp32", "bf16", "fp16"), help="of the network (default: fp32)")
    add("--compile", action=switch, help="let torch.compile fuse the network")
    add("--workers", type=int, help="processes that prepare pictures (default: 0)")
    add("--evaluate-every", type=int, help="epochs between evaluations (default: 10)")
    add("--keep-every", type=int, help="epochs between states to resume from (default: 1)")
    add("--state-every", type=int, metavar="STEPS", help="also write a state every so many steps of an epoch")
    add("--seed", type=int, help="(default: 0)")


def options_of(
    args: argparse.Namespace, spec: ModelSpec, processes: int, integers: IntegerOptions | None
) -> TrainOptions:
    """Return the recipe's choices with what was given over them.

    Raises:
        InputError: an unknown recipe, values out of range, or two that contradict each other.
    """
    from solov2_edge.recipes import recipe

    chosen = recipe(args.recipe)
    options = chosen.for_network(spec)
    given: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(args, name)) is not None}
    given |= {"processes": processes, "integers": integers}
    if args.dice_norm is not None:
        given["dice_norm"] = DICE_NORMS[args.dice_norm]
    if args.qat:
        require(args.recipe == "small-set", f"--qat trains on what is trained; leave --recipe {args.recipe} out")
        given = {"epochs": 5, "warmup_steps": 20} | given
    given |= _geometry(args, options)
    _rates(args, given, options, chosen.rate_pictures)
    given["decay_epochs"] = _decay_epochs(args, given, options)
    return replace(options, **given)


def _geometry(args: argparse.Namespace, options: TrainOptions) -> dict[str, Any]:
    """Return what the given sizes and augmentation change: one input size ends several short sides, and the reverse."""
    _not_both(args, ("input_size", "short_sides"), ("scale", "large_scale_jitter"))
    scale = tuple(args.scale) if args.scale is not None else LARGE_SCALE if args.large_scale_jitter else None
    given: dict[str, Any] = {}
    default = options.augment.scale
    if args.input_size is not None:
        given |= {"input_size": parse_size(args.input_size), "short_sides": ()}
    elif args.short_sides is not None:
        given |= {"input_size": None, "short_sides": tuple(args.short_sides)}
        given |= {"mask_target": args.mask_target or "reference"}
        default = (1.0, 1.0)
    changed: dict[str, Any] = {name: value for name in _AUGMENT if (value := getattr(args, name)) is not None}
    return given | {"augment": replace(options.augment, scale=scale or default, **changed)}


def _rates(args: argparse.Namespace, given: dict[str, Any], options: TrainOptions, per: int | None) -> None:
    """Fill in the rate and the decay that belong to the optimiser and to the pictures of a step."""
    optimizer = given.get("optimizer", options.optimizer)
    step = given["processes"]
    for name in ("batch_size", "accumulate"):
        step *= given.get(name, getattr(options, name))
    rate, decay = options.learning_rate, options.weight_decay
    if optimizer != options.optimizer:
        rate, decay, per = RATES[optimizer], DECAYS[optimizer], 16 if optimizer == "sgd" else None
    given.setdefault("learning_rate", rate * (step / per if per else 1) * (0.05 if args.qat else 1))
    given.setdefault("weight_decay", decay)


def _decay_epochs(args: argparse.Namespace, given: dict[str, Any], options: TrainOptions) -> tuple[int, ...]:
    """Return where the rate is cut: as given, or as the recipe has it while its schedule and length stand."""
    if args.decay_epochs is not None:
        return tuple(args.decay_epochs)
    epochs, schedule = given.get("epochs", options.epochs), given.get("schedule", options.schedule)
    if schedule != options.schedule:
        return ()
    require(
        epochs == options.epochs or not options.decay_epochs,
        f"recipe {args.recipe} cuts the rate at {options.decay_epochs} of its {options.epochs} epochs; with --epochs "
        f"{epochs} give --decay-epochs too, or --schedule cosine",
    )
    return options.decay_epochs


def _not_both(args: argparse.Namespace, *pairs: Iterable[str]) -> None:
    for pair in pairs:
        given = ["--" + name.replace("_", "-") for name in pair if getattr(args, name) not in (None, False)]
        require(len(given) < 2, f"{' and '.join(given)} contradict each other; give one of them")
