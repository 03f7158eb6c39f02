"""The part of ``solov2-edge train`` that fine-tunes for integers: its arguments, and the network they ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from solov2_edge.console import Console
from solov2_edge.errors import require
from solov2_edge.qat_rules import DEFAULT_TARGET, RULES
from solov2_edge.spec import ModelSpec

if TYPE_CHECKING:
    from solov2_edge.checkpoint import Checkpoint
    from solov2_edge.converters.calibration import Calibration
    from solov2_edge.train_options import IntegerOptions, TrainOptions

__all__ = ["add_qat_arguments", "calibration_of", "imitation", "integer_options"]


def add_qat_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what belongs to ``--qat``."""
    group = parser.add_argument_group("fine-tuning for integers")
    add = group.add_argument
    add("--qat", action="store_true", help="train --init on with the rounding of its int8 artefact: a last resort")
    add("--calibrate", metavar="DIR", help="folder of the calibration pictures that convert will be given")
    add("--allow-small", action="store_true", help="calibrate with fewer than 32 pictures")
    add("--for", dest="target", choices=tuple(RULES), help=f"who will run the artefact (default: {DEFAULT_TARGET})")


def calibration_of(args: argparse.Namespace) -> Calibration | None:
    """Return the calibration set of a run with ``--qat``, None for an ordinary one.

    Raises:
        InputError: ``--qat`` lacks what it needs, something was given that only it takes, or the set is unusable.
    """
    given = [
        option
        for option, value in (
            ("--calibrate", args.calibrate),
            ("--allow-small", args.allow_small or None),
            ("--for", args.target),
        )
        if value is not None
    ]
    if not args.qat:
        require(not given, f"{', '.join(given)} without --qat; add it to fine-tune for integers, or leave them out")
        return None
    require(args.init is not None, "--qat trains on what is trained already; give its checkpoint with --init")
    require(
        args.calibrate is not None,
        "--qat takes the ranges of integers from pictures; give a folder of them with --calibrate",
    )
    from solov2_edge.converters.calibration import read_calibration

    return read_calibration(args.calibrate, allow_small=args.allow_small)


def integer_options(args: argparse.Namespace, checkpoint: Checkpoint, calibration: Calibration) -> IntegerOptions:
    """Return what a run with ``--qat`` imitates."""
    from solov2_edge.train_options import IntegerOptions

    require(
        not checkpoint.spec.stuff_names,
        f"--qat is for networks without stuff, and {checkpoint.path} has {', '.join(checkpoint.spec.stuff_names)}; an "
        "int8 artefact has no semantic branch",
    )
    return IntegerOptions(args.target or DEFAULT_TARGET, checkpoint.sha256, calibration.sha256)


def imitation(
    checkpoint: Checkpoint, spec: ModelSpec, options: TrainOptions, calibration: Calibration, console: Console
) -> dict[str, Any]:
    """Return what :func:`~solov2_edge.train.train` takes to imitate what ``options.integers`` names."""
    import torch

    from solov2_edge.manifest import InputContract
    from solov2_edge.qat import rounded_network
    from solov2_edge.qat_steps import weights_on_steps

    assert options.integers is not None  # this is what the run is for
    assert options.input_size is not None  # the options have seen to it
    batches = calibration.batches(spec, InputContract("tensor", *options.input_size))
    tracked = console.track(batches, len(calibration.pictures), "calibrating")
    pictures = (torch.from_numpy(batch) for batch in tracked)
    network = rounded_network(spec, checkpoint.state, options.integers.target, pictures)
    return {"network": network, "weights_of": weights_on_steps}
