"""``solov2-edge train``: anyone's annotated pictures in, a checkpoint out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError, require
from solov2_edge.panoptic_command import add_panoptic_argument, open_panoptic
from solov2_edge.qat_command import add_qat_arguments, calibration_of, imitation, integer_options
from solov2_edge.spec import ModelSpec
from solov2_edge.spec_changes import add_change_argument, changed_variant
from solov2_edge.train_arguments import add_choice_arguments, options_of
from solov2_edge.training_data import add_data_arguments, open_training, open_validation

if TYPE_CHECKING:
    from solov2_edge.annotated_pictures import CocoPictures
    from solov2_edge.checkpoint import Checkpoint
    from solov2_edge.distributed import World
    from solov2_edge.model import SOLOv2
    from solov2_edge.train_options import TrainOptions

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; the defaults train a few hundred pictures from scratch."""
    add = parser.add_argument
    add_data_arguments(parser)
    add_panoptic_argument(parser)
    add("--variant", default="nano", help="network, for example nano or light-448-r18 (default: %(default)s)")
    add_change_argument(parser)
    add("-o", "--output", type=Path, help="run folder; needed unless --check ends before any training")
    add("--init", type=Path, help="checkpoint or published name to start from; the layer of other classes is new")
    add("--backbone-weights", metavar="FILE", help="ResNet weights to start from: torchvision's file, or timm:resnet18")
    add("--resume", action="store_true", help="continue the run in -o if it has a state")
    add("--licence", default="", help="licence of the trained weights (default: that of --init holds on)")
    add("--tensorboard", action="store_true", help="also write TensorBoard's event files into the run folder")
    add_choice_arguments(parser)
    add_qat_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Train as asked; the run folder holds state, log, curves, last and best checkpoint.

    Under ``torchrun`` every process comes here, and process 0 tells what there is to tell.

    Raises:
        InputError: annotations, pictures, options or the state to resume from cannot be used.
        SystemExit: this is not process 0, and all is well.
    """
    from solov2_edge.distributed import joined, place, yielding

    if args.check:
        return _check(args, console)
    require(args.output is not None, "a run needs a folder: give it with -o, or --check to look at the data only")
    world = place()
    with yielding(world):
        job = _job(args, console if world.leads else Console(json_mode=True, quiet=True), world)
        with joined(world):
            result = job()
    if not world.leads:
        raise SystemExit(0)
    return result


def _check(args: argparse.Namespace, console: Console) -> CommandResult:
    from solov2_edge.train_check import check

    require(args.panoptic is None, "--check looks through annotations of instances; leave --panoptic out")
    spec = changed_variant(args.variant, args.changes)
    options = options_of(args, spec, 1, None)
    result = check(args, console, spec, options)
    if args.draw_batch is not None and not result.exit_code:
        pictures = open_training(args, 0, console)
        _draw(
            args.draw_batch,
            pictures,
            _spec(changed_variant(args.variant, args.changes, pictures.class_names), options),
            options,
            console,
        )
    return result


def _draw(path: Path, pictures: CocoPictures, spec: ModelSpec, options: TrainOptions, console: Console) -> None:
    from solov2_edge.draw_batch import draw_first_batch

    draw_first_batch(path, pictures, spec, options)
    console.log(f"the first batch with its targets: {path}")


def _job(args: argparse.Namespace, console: Console, world: World) -> Callable[[], CommandResult]:
    """Check what was given and return the training that was asked for."""
    from solov2_edge.checkpoint import read_checkpoint
    from solov2_edge.panoptic_data import with_stuff
    from solov2_edge.train import Watch, train

    calibration = calibration_of(args)
    checkpoint = None if args.init is None else read_checkpoint(_named(args.init))
    integers = None if calibration is None or checkpoint is None else integer_options(args, checkpoint, calibration)
    options = options_of(args, changed_variant(args.variant, args.changes), world.size, integers)
    evaluate = _evaluator(args, options.input_size)
    pictures = open_training(args, options.workers, console) if args.panoptic is None else open_panoptic(args)
    spec = with_stuff(_spec(changed_variant(args.variant, args.changes, pictures.class_names), options), pictures)
    resumes = args.resume and (args.output / "state.pt").exists()
    start: dict[str, Any] = {"initial": _initial(args, checkpoint, spec, options, resumes=resumes)}
    if not args.resume and (args.output / "state.pt").exists():
        raise InputError(f"{args.output} already holds a run; add --resume to continue it or give another -o")
    size = options.input_size
    shown = f"short sides {' '.join(map(str, options.short_sides))}" if size is None else f"{size[0]}x{size[1]}"
    console.log(f"{len(pictures.files)} pictures, {len(pictures.class_names)} classes, {spec.name} at {shown}")
    if args.draw_batch is not None and world.leads:
        _draw(args.draw_batch, pictures, spec, options, console)
    if calibration is not None and checkpoint is not None:
        start = imitation(checkpoint, spec, options, calibration, console)
    watch = Watch(console.track, console.note, console.log, args.tensorboard)

    def job() -> CommandResult:
        result = train(
            pictures,
            spec,
            args.output,
            options,
            **start,
            evaluate=evaluate,
            resume=args.resume,
            licence=args.licence or _inherited(checkpoint),
            watch=watch,
            world=world,
        )
        best = result.folder / ("best.safetensors" if result.best_ap is not None else "last.safetensors")
        ap = "" if result.best_ap is None else f" (AP {result.best_ap})"
        console.say(f"trained {result.epochs} epochs: {best}{ap}")
        log = str(result.folder / "log.csv")
        return CommandResult({"checkpoint": str(best), "epochs": result.epochs, "ap": result.best_ap, "log": log})

    return job


def _named(init: Path) -> Path:
    """Return the checkpoint to start from: a file, or a published one by its name, fetched if it is not there yet."""
    from solov2_edge.zoo import ZOO

    if init.exists() or str(init) not in ZOO:
        return init
    from solov2_edge.download import download

    return download(ZOO[str(init)]).path


def _inherited(checkpoint: Checkpoint | None) -> str:
    """Return what the weights a run starts from say of those it ends with."""
    licence = "" if checkpoint is None else checkpoint.licence
    prefix = "fine-tuned from weights under: "
    return "" if not licence else licence if licence.startswith(prefix) else prefix + licence


def _spec(spec: ModelSpec, options: TrainOptions) -> ModelSpec:
    """Return the spec with the sizes it is trained at: its reference geometry must lead there too."""
    if options.input_size is None:
        return replace(spec, train_short_sides=options.short_sides)
    return replace(spec, resize_box=(min(options.input_size), max(options.input_size)))


def _initial(
    args: argparse.Namespace, checkpoint: Checkpoint | None, spec: ModelSpec, options: TrainOptions, *, resumes: bool
) -> dict[str, Any] | None:
    """Return the weights to start from: a checkpoint's, a classifier's for the backbone, or none."""
    from solov2_edge.backbone_weights import read_backbone

    require(
        checkpoint is None or args.backbone_weights is None,
        "--init brings a backbone already; leave --backbone-weights out",
    )
    if checkpoint is not None:
        return _of_checkpoint(checkpoint, spec)
    if args.backbone_weights is not None:
        return read_backbone(args.backbone_weights, spec)
    require(
        resumes or not (options.frozen_stages or options.norm_eval),
        "what is frozen of the backbone would stay random; give "
        "--backbone-weights or --init, or train all of it: --frozen-stages 0 --no-norm-eval",
    )
    return None


def _of_checkpoint(checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, Any]:
    """Return the checkpoint's tensors if its body is the spec's; the class layer and the stuff may differ."""
    ours, theirs = (
        replace(s, name="-", class_names=("-",), stuff_names=(), resize_box=(1, 1)) for s in (spec, checkpoint.spec)
    )
    require(
        replace(ours, scale_ranges=theirs.scale_ranges, train_short_sides=theirs.train_short_sides) == theirs,
        f"{checkpoint.path} is a {checkpoint.spec.name}, the run trains {spec.name}; give the matching --variant",
    )
    if spec.class_names == checkpoint.spec.class_names:
        return checkpoint.state
    # Rows of as many other classes would fit, and start every one of these as something else.
    return {name: tensor for name, tensor in checkpoint.state.items() if "conv_cls" not in name}


def _evaluator(args: argparse.Namespace, size: tuple[int, int] | None) -> Any:
    """Return the function that measures a model on the validation pictures, or None if there are none."""
    validation = open_validation(args)
    if validation is None:
        return None
    annotations, images, choice = validation
    from solov2_edge.reference import reference_from_model
    from solov2_edge.runtime.evaluate import evaluate

    def measure(model: SOLOv2) -> dict[str, float]:
        segment = reference_from_model(model, input_size=size)
        result = evaluate(segment, annotations, images, **choice)
        return {"ap": result.ap, "ap50": result.ap50, "ap75": result.ap75}

    return measure
