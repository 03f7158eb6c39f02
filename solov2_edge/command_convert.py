"""``solov2-edge convert``: a checkpoint becomes artefacts, each checked against PyTorch before it is written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from solov2_edge.choices import default_size, parse_formats, parse_precisions, parse_size, require_positive, size_text
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError, require
from solov2_edge.files import output_folder
from solov2_edge.manifest import Manifest

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, help="authors', mmdetection, AdelaiDet or solov2-edge checkpoint")
    parser.add_argument("--to", nargs="+", default=["onnx"], metavar="FORMAT", help="onnx (default)")
    parser.add_argument("--precision", nargs="+", default=["fp32"], help="fp32 (default), fp16")
    parser.add_argument("--input-size", metavar="HxW", help="multiples of 32; default: the variant's box, 448x768")
    parser.add_argument(
        "--input",
        choices=("image", "tensor"),
        default="image",
        help="image (default): uint8 RGB, normalisation in the graph; tensor: normalised float32 NCHW",
    )
    parser.add_argument(
        "--dcn",
        choices=("native", "lowered"),
        default="native",
        help="deformable convolution as DeformConv (default) or lowered to portable operators",
    )
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX opset; default: the oldest that can say it")
    parser.add_argument("--variant", help="variant of the checkpoint, if its tensors leave a doubt")
    parser.add_argument("--name", help="files are NAME.<precision>.onnx; default: the checkpoint's name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the artefacts")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Convert once per precision; a failed parity check writes nothing and ends with exit code 3."""
    parse_formats(args.to)
    precisions = parse_precisions(args.precision)
    size = parse_size(args.input_size) if args.input_size is not None else None
    require_positive("--opset", args.opset)
    name = args.name or args.checkpoint.stem
    if Path(name).name != name:
        raise InputError(f"--name must be a bare file name, got {name!r}; the folder goes to --output")
    require(args.checkpoint.exists(), f"{args.checkpoint}: no such checkpoint")

    from solov2_edge.checkpoint import load_model
    from solov2_edge.converters.to_onnx import export_onnx

    model, checkpoint = load_model(args.checkpoint, args.variant)
    height, width = size or default_size(checkpoint.spec)
    console.log(
        f"{args.checkpoint.name}: {checkpoint.spec.name}, {checkpoint.spec.num_classes} classes, {checkpoint.family}"
    )
    folder = output_folder(args.output)
    options: dict[str, Any] = {} if args.opset is None else {"opset": args.opset}
    artefacts = []
    for precision in precisions:
        path = folder / f"{name}.{precision}.onnx"
        console.log(f"converting to {path.name}, {args.input} input {size_text(height, width)}")
        manifest = export_onnx(
            model,
            path,
            height=height,
            width=width,
            input_kind=args.input,
            precision=precision,
            dcn=args.dcn,
            source_sha256=checkpoint.sha256,
            weights_licence=checkpoint.licence or "unknown",
            log=console.log,
            **options,
        )
        artefacts.append(_describe(path, manifest))
        _say(console, path, manifest)
    return CommandResult({"checkpoint": args.checkpoint, "variant": checkpoint.spec.name, "artefacts": artefacts})


def _describe(path: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "path": path,
        "format": manifest.format,
        "precision": manifest.precision,
        "input": {"kind": manifest.input.kind, "height": manifest.input.height, "width": manifest.input.width},
        "sha256": manifest.sha256,
        "size_bytes": manifest.size_bytes,
        "parity": manifest.parity,
        "weights_licence": manifest.weights_licence,
    }


def _say(console: Console, path: Path, manifest: Manifest) -> None:
    worst = max(manifest.parity.values(), default=float("nan"))
    console.say(f"{path}  {manifest.size_bytes / 1e6:.1f} MB  parity {worst:.1e} of range")
    console.say(f"  weights: {manifest.weights_licence}")
