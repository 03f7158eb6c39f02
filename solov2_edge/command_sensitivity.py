"""``solov2-edge sensitivity``: what 8 bits cost in each layer, measured one by one in the runtime the file is for."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import INT8_ENGINES, default_size, parse_size, require_positive, size_text
from solov2_edge.console import CommandResult, Console, json_ready
from solov2_edge.conversions import plan
from solov2_edge.errors import require
from solov2_edge.files import output_folder, write_aside

if TYPE_CHECKING:
    from solov2_edge.converters.calibration import Calibration
    from solov2_edge.converters.quantisable import Quantisable
    from solov2_edge.manifest import InputContract
    from solov2_edge.model import SOLOv2

__all__ = ["add_arguments", "run"]

TITLES = {"onnx": "ONNX int8 for CPUs", "tflite": "TFLite int8"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, help="authors', mmdetection, AdelaiDet or solov2-edge checkpoint")
    parser.add_argument("--to", choices=("onnx", "tflite"), default="onnx", help="format (default: %(default)s)")
    parser.add_argument(
        "--for",
        dest="target",
        choices=tuple(INT8_ENGINES),
        help="onnx: the form for ONNX Runtime on CPUs (default), for TensorRT or for OpenVINO",
    )
    parser.add_argument("--calibrate", type=Path, required=True, metavar="DIR", help="calibration pictures")
    parser.add_argument("--allow-small", action="store_true", help="calibrate with fewer than 32 pictures")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="pictures to measure on, none of which calibrates"
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="JSON",
        help="COCO json, LabelMe or YOLO of them: measure mask AP as well, which is slow",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N pictures only")
    parser.add_argument("--by", choices=("layer", "block"), default="layer", help="what goes together (%(default)s)")
    parser.add_argument("--input-size", metavar="HxW", help="multiples of 32; default: the variant's box, 448x768")
    parser.add_argument("--input", choices=("image", "tensor"), default="image", help="as for convert (%(default)s)")
    parser.add_argument("--dcn", choices=("native", "lowered"), help="onnx: as for convert")
    parser.add_argument("--variant", help="variant of the checkpoint, if its tensors leave a doubt")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the engine")
    parser.add_argument("--max-detections", type=int, default=100, metavar="N", help="detections that count (100)")
    parser.add_argument("--name", help="files are NAME.int8.<suffix>.sensitivity.*; default: the checkpoint's name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the JSON, CSV, PNG")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Measure every layer alone and left out; print the table, write the figures and draw them."""
    for option in ("limit", "threads", "max_detections"):
        require_positive("--" + option.replace("_", "-"), getattr(args, option))
    size = parse_size(args.input_size) if args.input_size is not None else None
    for option, value in (("--for", args.target), ("--dcn", args.dcn)):
        require(value is None or args.to == "onnx", f"{option} is for --to onnx; leave it out")
    require(args.checkpoint.exists(), f"{args.checkpoint}: no such checkpoint")
    name = args.name or args.checkpoint.stem
    require(Path(name).name == name, f"--name must be a bare file name, got {name!r}; the folder goes to --output")

    from solov2_edge.converters.calibration import read_calibration
    from solov2_edge.converters.held_out import read_held_out

    calibration = read_calibration(args.calibrate, allow_small=args.allow_small)
    held_out = read_held_out(calibration.pictures, args.images, args.annotations, limit=args.limit)

    from solov2_edge.checkpoint import load_model
    from solov2_edge.converters.quantisable import groups_of
    from solov2_edge.converters.sensitivity import measure_sensitivity
    from solov2_edge.converters.trials import Trials
    from solov2_edge.manifest import InputContract
    from solov2_edge.sensitivity_record import SCHEMA, entries_of

    model, checkpoint = load_model(args.checkpoint, args.variant)
    contract = InputContract(args.input, *(size or default_size(checkpoint.spec)))
    folder = output_folder(args.output)
    network = _quantisable(args, model, contract, calibration, console)
    everything = frozenset(layer.name for layer in network.layers)
    floating = network.build(everything)
    trials = Trials(network.suffix, floating, held_out, threads=args.threads, max_detections=args.max_detections)
    # A bar on a terminal, else a line per layer: both at once would tear each other apart.
    log = None if sys.stderr.isatty() else console.log
    with console.counter(f"{args.by}s, alone and left out") as progress:
        found = measure_sensitivity(
            groups_of(network.layers, args.by), network.build, trials.figures, log=log, progress=progress
        )
    document = json_ready(
        {
            "schema": SCHEMA,
            "checkpoint": args.checkpoint.name,
            "source_sha256": checkpoint.sha256,
            "variant": checkpoint.spec.name,
            "format": args.to,
            "precision": "int8",
            **network.facts,
            "engine": trials.engine,
            "input": {"kind": contract.kind, "height": contract.height, "width": contract.width},
            "by": args.by,
            "calibration": calibration.to_manifest(),
            "pictures": held_out.to_manifest(),
            "compared": trials.compared,
            "annotations": None if args.annotations is None else args.annotations.name,
            "floating": dict(found.floating),
            "reduced": dict(found.reduced),
            "layers": entries_of(found, network.layers),
        }
    )
    (conversion,) = plan([args.to], ["int8"], folder, name, args.target)
    return _give(document, conversion.path, args, console)


def _quantisable(
    args: argparse.Namespace, model: SOLOv2, contract: InputContract, calibration: Calibration, console: Console
) -> Quantisable:
    if args.to == "tflite":
        from solov2_edge.converters.to_tflite import tflite_quantisable

        return tflite_quantisable(model, contract, calibration, log=console.log)
    from solov2_edge.converters.to_onnx import onnx_quantisable

    target, dcn = args.target or "cpu", args.dcn or "native"
    return onnx_quantisable(model, contract, calibration, target=target, dcn=dcn, log=console.log)


def _give(document: dict[str, Any], artefact: Path, args: argparse.Namespace, console: Console) -> CommandResult:
    """Print the table, write the three files, and say where they are."""
    import cv2

    from solov2_edge.sensitivity_record import as_csv, decibels, picture_of, table_of

    header, rows = table_of(document["layers"])
    console.table((args.by, *header[1:]), rows)
    reduced = document["reduced"]
    console.say(f"all in int8: {decibels(reduced)} dB{_ap(document)}")
    files = {kind: artefact.with_name(f"{artefact.name}.sensitivity.{kind}") for kind in ("json", "csv", "png")}
    title = f"What int8 costs {artefact.name.partition('.int8')[0]}, {args.by} by {args.by}"
    picture = picture_of(document, title, _said(document))
    done, data = cv2.imencode(".png", picture)
    assert done  # eight-bit colours always fit
    write_aside(files["json"], json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_aside(files["csv"], as_csv(document["layers"]))
    write_aside(files["png"], data.tobytes())
    for path in files.values():
        console.say(str(path))
    return CommandResult({**document, "files": files})


def _ap(document: dict[str, Any]) -> str:
    floating, reduced = document["floating"].get("ap"), document["reduced"].get("ap")
    if floating is None:
        return ""
    return f", mask AP {reduced:.2f}, float32 {floating:.2f}, on {document['pictures']['count']} pictures"


def _said(document: dict[str, Any]) -> str:
    engine = document.get("target")
    target = TITLES[document["format"]] if engine is None else f"ONNX int8 for {INT8_ENGINES[engine]}"
    size = size_text(document["input"]["height"], document["input"]["width"])
    said = f"{target}, {document['engine']}, {size}; noise of the outputs before NMS on {document['compared']} pictures"
    if document["annotations"] is None:
        return said
    lost = document["floating"]["ap"] - document["reduced"]["ap"]
    return f"{said}, mask AP on {document['pictures']['count']}: all in int8 lose {lost:.2f} points"
