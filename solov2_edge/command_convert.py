"""``solov2-edge convert``: a checkpoint becomes artefacts, each checked against PyTorch before it is written."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.budget import add_budget_arguments, check_budget, check_layers, describe_quantisation, mixed_search
from solov2_edge.choices import (
    INT8_ENGINES,
    MIXABLE,
    TARGETS,
    check_opset,
    check_system,
    default_size,
    parse_formats,
    parse_precisions,
    parse_size,
    size_text,
)
from solov2_edge.console import CommandResult, Console
from solov2_edge.conversions import Conversion, exporter, file_stem, options_for, plan
from solov2_edge.decode_choice import add_decode_arguments, check_candidates, decode_of
from solov2_edge.errors import require
from solov2_edge.files import output_folder
from solov2_edge.manifest import Manifest

if TYPE_CHECKING:
    from solov2_edge.converters.calibration import Calibration

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, help="authors', mmdetection, AdelaiDet or solov2-edge checkpoint")
    parser.add_argument(
        "--to", nargs="+", default=["onnx"], metavar="FORMAT", help="onnx (default), tflite, coreml, ncnn"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32"],
        help="; ".join(f"{name}: {', '.join(precisions)}" for name, precisions in TARGETS.items()) + " (default: fp32)",
    )
    parser.add_argument("--input-size", metavar="HxW", help="multiples of 32; default: the variant's box, 448x768")
    parser.add_argument(
        "--input",
        choices=("image", "tensor"),
        default="image",
        help="image (default): uint8 RGB, normalisation in the graph; tensor: normalised float32 NCHW",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="DIR",
        help="pictures like those the model will see, never those its accuracy is measured on; for integer activations",
    )
    parser.add_argument("--allow-small", action="store_true", help="calibrate with fewer than 32 pictures")
    parser.add_argument(
        "--dcn",
        choices=("native", "lowered"),
        help="onnx: deformable convolution as DeformConv (native, default) or lowered to portable operators",
    )
    parser.add_argument(
        "--for",
        dest="target",
        choices=tuple(INT8_ENGINES),
        help="onnx int8: for ONNX Runtime on CPUs (default), the symmetric form TensorRT wants, or the plain one that "
        "OpenVINO runs fastest",
    )
    add_budget_arguments(parser)
    parser.add_argument("--opset", type=int, metavar="N", help="onnx: opset; default: the oldest that can say it")
    parser.add_argument(
        "--deployment-target", metavar="iOSNN", help="coreml: the oldest system to run on; default: iOS16, or as needed"
    )
    add_decode_arguments(parser)
    parser.add_argument("--variant", help="variant of the checkpoint, if its tensors leave a doubt")
    parser.add_argument("--name", help="files are NAME.<precision>.<suffix>; default: the checkpoint's name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the artefacts")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Write every precision in every format; a failed check writes nothing of that file and ends with exit code 3."""
    formats = parse_formats(args.to)
    precisions = parse_precisions(args.precision, formats)
    size = parse_size(args.input_size) if args.input_size is not None else None
    check_opset(args.opset)
    require(args.checkpoint.exists(), f"{args.checkpoint}: no such checkpoint")
    name = file_stem(args.name, args.checkpoint)
    decode = decode_of(args, formats)
    conversions = plan(formats, precisions, args.output, name, args.target, decoded=decode is not None)
    own = options_for(conversions, vars(args))
    for conversion in conversions:
        if conversion.format == "coreml":
            check_system(args.deployment_target, conversion.precision)
    check_budget(args, [(conversion.format, conversion.precision) for conversion in conversions])
    calibration = _calibration(conversions, args)
    layers = _float_layers(args, calibration, console)

    from solov2_edge.checkpoint import load_model

    # A toolchain that is missing is told now, not after the first formats have been written.
    exporters = {format_: exporter(format_) for format_ in formats}
    model, checkpoint = load_model(args.checkpoint, args.variant)
    if decode is not None:
        check_candidates(decode, checkpoint.spec)
    check_layers(args.keep_float or (), checkpoint.state)
    height, width = size or default_size(checkpoint.spec)
    console.log(
        f"{args.checkpoint.name}: {checkpoint.spec.name}, {checkpoint.spec.num_classes} classes, {checkpoint.family}"
    )
    output_folder(args.output)
    artefacts = []
    for conversion, options in zip(conversions, own, strict=True):
        console.log(f"converting to {conversion.path.name}, {args.input} input {size_text(height, width)}")
        if decode is not None:
            options["decode"] = decode
        if conversion.calibrated:
            options["calibration"] = calibration
        if (conversion.format, conversion.precision) in MIXABLE:
            options |= layers
        manifest = exporters[conversion.format](
            model,
            conversion.path,
            height=height,
            width=width,
            input_kind=args.input,
            precision=conversion.precision,
            source_sha256=checkpoint.sha256,
            weights_licence=checkpoint.licence or "unknown",
            log=console.log,
            **options,
        )
        artefacts.append(_describe(conversion.path, manifest))
        _say(console, conversion.path, manifest)
    return CommandResult({"checkpoint": args.checkpoint, "variant": checkpoint.spec.name, "artefacts": artefacts})


def _calibration(conversions: tuple[Conversion, ...], args: argparse.Namespace) -> Calibration | None:
    """Read the calibration set if one is needed; one that nothing needs, or that is missing, is refused."""
    needing = [conversion for conversion in conversions if conversion.calibrated]
    if not needing:
        require(
            args.calibrate is None and not args.allow_small,
            "--calibrate and --allow-small are for precisions with integer activations, none of which was asked; "
            "leave them out",
        )
        return None
    require(
        args.calibrate is not None,
        f"{needing[0].format} {needing[0].precision} needs calibration pictures; add --calibrate DIR with 32 or more "
        "pictures like those the model will see",
    )
    from solov2_edge.converters.calibration import read_calibration

    return read_calibration(args.calibrate, allow_small=args.allow_small)


def _float_layers(args: argparse.Namespace, calibration: Calibration | None, console: Console) -> dict[str, Any]:
    """Return the exporters' options that say which layers of an int8 file stay float."""
    if args.max_drop is not None and calibration is not None:
        return {"choose": mixed_search(args, calibration, console.log)}
    return {"keep_float": frozenset(args.keep_float)} if args.keep_float else {}


def _describe(path: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "path": path,
        "format": manifest.format,
        "precision": manifest.precision,
        "input": {"kind": manifest.input.kind, "height": manifest.input.height, "width": manifest.input.width},
        "sha256": manifest.sha256,
        "size_bytes": manifest.size_bytes,
        "parity": manifest.parity,
        "calibration": manifest.calibration,
        "quantisation": manifest.quantisation,
        "weights_licence": manifest.weights_licence,
        "decode": asdict(manifest.decode) if manifest.decode is not None else None,
    }


def _say(console: Console, path: Path, manifest: Manifest) -> None:
    worst = max(manifest.parity.values(), default=float("nan"))
    console.say(f"{path}  {manifest.size_bytes / 1e6:.1f} MB  parity {worst:.1e} of range")
    console.say(f"  weights: {manifest.weights_licence}")
    for line in describe_quantisation(manifest.quantisation or {}):
        console.say(f"  {line}")
    if doubt := (manifest.quantisation or {}).get("doubt"):
        console.say(f"  warning: {doubt}")
