"""``solov2-edge train``: anyone's COCO json in, a checkpoint out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from solov2_edge.choices import parse_size
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError, require
from solov2_edge.qat_command import add_qat_arguments, calibration_of, imitation, integer_options
from solov2_edge.spec import ModelSpec

if TYPE_CHECKING:
    from solov2_edge.model import SOLOv2

__all__ = ["add_arguments", "run"]

Number = TypeVar("Number", int, float)


class _Usual(NamedTuple):
    """Defaults that depend on where a run starts; ``rate`` is a factor on the peak learning rate."""

    epochs: int
    warmup_steps: int
    rate: float


LONG = _Usual(100, 300, 1.0)  # from scratch
SHORT = _Usual(5, 20, 0.05)  # of trained weights that only have to get used to rounding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; the defaults train a few hundred pictures from scratch."""
    add = parser.add_argument
    add("--annotations", required=True, type=Path, help="COCO json of the training pictures")
    add("--images", required=True, type=Path, help="folder of the training pictures")
    add("--val-annotations", type=Path, help="COCO json to measure mask AP on")
    add("--val-images", type=Path, help="folder of its pictures (default: --images)")
    add("--variant", default="nano", help="network, for example nano or light-448-r18 (default: %(default)s)")
    add("-o", "--output", required=True, type=Path, help="run folder")
    add("--init", type=Path, help="checkpoint to start from; a class layer of another size starts fresh")
    add("--resume", action="store_true", help="continue the run in -o if it has a state")
    add("--input-size", default="448x448", help="H x W in multiples of 32 (default: %(default)s)")
    add("--epochs", type=int, help="(default: 100, with --qat 5)")
    add("--batch-size", type=int, default=8)
    add("--optimizer", default="adamw", choices=("adamw", "sgd"))
    add(
        "--learning-rate",
        type=float,
        help="peak rate (default: 0.002 for adamw, 0.01 * batch / 16 for sgd; with --qat a twentieth)",
    )
    add("--weight-decay", type=float, help="(default: 0.05 for adamw, 0.0001 for sgd)")
    add("--schedule", default="cosine", choices=("cosine", "steps"))
    add("--warmup-steps", type=int, help="(default: 300, with --qat 20)")
    add("--precision", default="fp32", choices=("fp32", "bf16"))
    add("--scale", type=float, nargs=2, default=(0.8, 1.25), metavar=("LOW", "HIGH"), help="scale jitter")
    add("--turns", action="store_true", help="also turn by quarters: for pictures with no upright direction")
    add("--colour", type=float, default=0.5, help="strength of colour changes, 0 to 1 (default: %(default)s)")
    add("--copy-paste", type=float, default=0.0, metavar="P", help="share of pictures that get objects of another")
    add("--mask-target", default="coverage", choices=("coverage", "reference"))
    add("--workers", type=int, default=0, help="processes that prepare pictures (default: %(default)s)")
    add("--evaluate-every", type=int, default=10, help="epochs between evaluations (default: %(default)s)")
    add("--keep-every", type=int, default=1, help="epochs between states to resume from (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--licence", default="", help="licence of the trained weights, kept in the checkpoint")
    add_qat_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Train as asked; the run folder holds state, log, curves, last and best checkpoint.

    Raises:
        InputError: annotations, pictures, options or the state to resume from cannot be used.
    """
    from solov2_edge.augment import AugmentOptions
    from solov2_edge.checkpoint import read_checkpoint
    from solov2_edge.data import read_coco
    from solov2_edge.train import train
    from solov2_edge.train_options import TrainOptions
    from solov2_edge.variants import variant

    size = parse_size(args.input_size)
    calibration = calibration_of(args)
    checkpoint = None if args.init is None else read_checkpoint(args.init)
    usual = SHORT if args.qat else LONG
    sgd = args.optimizer == "sgd"
    options = TrainOptions(
        epochs=_either(args.epochs, usual.epochs),
        batch_size=args.batch_size,
        input_size=size,
        optimizer=args.optimizer,
        learning_rate=_either(args.learning_rate, usual.rate * (0.01 * args.batch_size / 16 if sgd else 2e-3)),
        weight_decay=_either(args.weight_decay, 1e-4 if sgd else 0.05),
        schedule=args.schedule,
        warmup_steps=_either(args.warmup_steps, usual.warmup_steps),
        precision=args.precision,
        workers=args.workers,
        evaluate_every=args.evaluate_every,
        keep_every=args.keep_every,
        seed=args.seed,
        mask_target=args.mask_target,
        integers=None if calibration is None or checkpoint is None else integer_options(args, checkpoint, calibration),
        augment=AugmentOptions(
            turns=args.turns, scale=tuple(args.scale), colour=args.colour, copy_paste=args.copy_paste
        ),
    )
    require(
        args.val_annotations is not None or args.val_images is None,
        "--val-images without --val-annotations; give both or neither",
    )
    pictures = read_coco(args.annotations, args.images)
    spec = variant(args.variant, pictures.class_names)
    # The network learns one input size; its reference geometry must lead there too.
    spec = replace(spec, resize_box=(min(size), max(size)))
    start: dict[str, Any] = {"initial": None if checkpoint is None else _initial(checkpoint, spec)}
    if args.output.exists() and not args.resume and (args.output / "state.pt").exists():
        raise InputError(f"{args.output} already holds a run; add --resume to continue it or give another -o")
    counts = f"{len(pictures.files)} pictures, {len(pictures.class_names)} classes"
    console.log(f"{counts}, {spec.name} at {size[0]}x{size[1]}")
    if calibration is not None and checkpoint is not None:
        start = imitation(checkpoint, spec, options, calibration, console)
    result = train(
        pictures,
        spec,
        args.output,
        options,
        **start,
        evaluate=_evaluator(args, size),
        resume=args.resume,
        licence=args.licence,
        track=console.track,
        log=console.log,
    )
    best = result.folder / ("best.safetensors" if result.best_ap is not None else "last.safetensors")
    ap = "" if result.best_ap is None else f" (AP {result.best_ap})"
    console.say(f"trained {result.epochs} epochs: {best}{ap}")
    return CommandResult(
        {"checkpoint": str(best), "epochs": result.epochs, "ap": result.best_ap, "log": str(result.folder / "log.csv")}
    )


def _either(value: Number | None, default: Number) -> Number:
    return default if value is None else value


def _initial(checkpoint: Any, spec: ModelSpec) -> dict[str, Any]:
    """Return the checkpoint's tensors if its body is the spec's; the class layer may differ."""
    ours, theirs = (replace(s, name="-", class_names=("-",), resize_box=(1, 1)) for s in (spec, checkpoint.spec))
    require(
        replace(ours, scale_ranges=theirs.scale_ranges, train_short_sides=theirs.train_short_sides) == theirs,
        f"{checkpoint.path} is a {checkpoint.spec.name}, the run trains {spec.name}; give the matching --variant",
    )
    state: dict[str, Any] = checkpoint.state
    return state


def _evaluator(args: argparse.Namespace, size: tuple[int, int]) -> Any:
    """Return the function that measures a model on the validation pictures, or None if there are none."""
    if args.val_annotations is None:
        return None
    from solov2_edge.reference import reference_from_model
    from solov2_edge.runtime.annotations import read_annotations
    from solov2_edge.runtime.evaluate import evaluate

    read_annotations(args.val_annotations)  # a file that cannot be used is told of now, not after the first epochs

    def measure(model: SOLOv2) -> dict[str, float]:
        segment = reference_from_model(model, input_size=size)
        result = evaluate(segment, args.val_annotations, args.val_images or args.images)
        return {"ap": result.ap, "ap50": result.ap50, "ap75": result.ap75}

    return measure
