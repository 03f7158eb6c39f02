"""``solov2-edge verify``: does an artefact still compute what its checkpoint does, stage by stage, with a verdict."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from solov2_edge.choices import require_positive
from solov2_edge.command_segment import add_engine_argument
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import GateError, require
from solov2_edge.opening import CORE_ML_SUFFIX, is_checkpoint

if TYPE_CHECKING:
    from solov2_edge.converters.verification import StageSummary, Verification

__all__ = ["add_arguments", "run", "with_apple_units"]

WORST = 5  # overlays; enough to see what kind of fault it is
APPLE_PICTURES = 3  # for each choice of compute units; opening a package for the Neural Engine takes long


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="converted file, for example model.fp16.onnx")
    parser.add_argument("--against", type=Path, required=True, metavar="CKPT", help="the checkpoint it was made from")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures the comparison runs on")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N pictures only")
    parser.add_argument("--variant", help="variant of the checkpoint, if its tensors leave a doubt")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the artefact's engine")
    add_engine_argument(parser)
    parser.add_argument(
        "--other-checkpoint", action="store_true", help="compare even if the artefact was made from another checkpoint"
    )
    parser.add_argument(
        "--worst-pictures",
        type=Path,
        metavar="DIR",
        help="write the pictures of most disagreement: PyTorch, the artefact, and where they differ, side by side",
    )
    parser.add_argument("--worst", type=int, metavar="N", help=f"how many of them (default: {WORST})")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Compare and print the worst of every quantity; exit code 3 if a bound does not hold."""
    require_positive("--limit", args.limit)
    require_positive("--threads", args.threads)
    require_positive("--worst", args.worst)
    require(
        args.worst is None or args.worst_pictures is not None,
        "--worst says how many overlays to write and needs --worst-pictures DIR to write them to",
    )
    for path, role in ((args.artefact, "artefact"), (args.against, "checkpoint"), (args.images, "pictures")):
        require(path.exists(), f"{path}: no such {role}")
    swapped = is_checkpoint(args.artefact) and not is_checkpoint(args.against)
    hint = f"; did you mean: verify {args.against} --against {args.artefact}?" if swapped else ""
    require(not is_checkpoint(args.artefact), f"{args.artefact} is a checkpoint, expected a converted file{hint}")

    from solov2_edge.converters.verify import verify

    with console.counter("pictures") as progress:
        result = verify(
            args.artefact,
            args.against,
            args.images,
            variant=args.variant,
            limit=args.limit,
            threads=args.threads,
            engine=args.engine,
            allow_other_checkpoint=args.other_checkpoint,
            worst_pictures=args.worst_pictures,
            worst_count=args.worst or WORST,
            progress=progress,
        )
    if sys.platform == "darwin" and args.artefact.suffix.lower() == CORE_ML_SUFFIX:
        result = with_apple_units(result, args.artefact, args.images)
    console.table(("stage", "worst", "bound", "on", ""), [_row(stage) for stage in result.summary()])
    for note in sorted({finding.note for finding in result.findings if finding.note}):
        console.say(f"note: {note}")
    for worst in result.worst:
        console.say(
            f"{worst.path}: {worst.missed} only in PyTorch, {worst.extra} only in the artefact, "
            f"{worst.loose} outlines apart"
        )
    if args.worst_pictures is not None and not result.worst:
        console.say("no overlay was written: no picture shows a disagreement")
    console.say(", ".join(f"{stage} {'ok' if good else 'FAILED'}" for stage, good in result.verdicts.items()))
    console.say(result.verdict)
    return CommandResult(result.to_dict(), 0 if result.passed else GateError.exit_code)


def with_apple_units(result: Verification, package: Path, images: Path) -> Verification:
    """Add what Apple's runtime says on each choice of compute units, against the interpreter's, to a verification."""
    from solov2_edge.converters.verify_apple import compare_units
    from solov2_edge.runtime.pictures import list_pictures, read_picture

    frames = {path.name: read_picture(path) for path in list_pictures(images)[:APPLE_PICTURES]}
    return replace(result, findings=(*result.findings, *compare_units(package, frames)))


def _row(stage: StageSummary) -> tuple[str, ...]:
    bound = "-" if stage.bound is None else f"{'>=' if stage.at_least else '<='} {stage.bound:.3g}"
    name = f"{stage.stage}: {stage.quantity.replace('_', ' ')}"
    return name, f"{stage.worst:.3g}", bound, stage.picture, "ok" if stage.passed else "FAILED"
