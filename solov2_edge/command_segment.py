"""``solov2-edge segment``: pictures in; overlays, one COCO file, LabelMe documents and panoptic maps out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from solov2_edge.choices import require_positive
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError
from solov2_edge.files import output_folder
from solov2_edge.opening import INTERPRETED, AnySegmenter, open_segmenter

__all__ = [
    "add_arguments",
    "add_engine_argument",
    "add_merging_arguments",
    "add_segmenter_arguments",
    "note_interpreter",
    "run",
    "segmenter_options",
]

MOST_MAGNIFIED = 16  # times: a picture of 8 megapixels then fills 6 GB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", type=Path, metavar="ARTEFACT", help="artefact, or a checkpoint (runs in PyTorch)")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures and folders of pictures")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    add_segmenter_arguments(parser)
    parser.add_argument("--no-overlay", action="store_true", help="write no overlay pictures")
    parser.add_argument("--no-labelme", action="store_true", help="write no LabelMe documents")
    parser.add_argument("--no-coco", action="store_true", help="write no COCO file")
    parser.add_argument(
        "--panoptic",
        action="store_true",
        help="of a network with stuff: also write panoptic.json and PNGs of segment ids as COCO has them, and overlays",
    )
    add_merging_arguments(parser)
    parser.add_argument("--no-labels", action="store_true", help="draw no tags on the overlays")
    parser.add_argument(
        "--shown-score",
        type=float,
        default=0.3,
        metavar="P",
        help="least score on overlays and in LabelMe documents, 0..1 (default: %(default)s); the COCO file keeps all",
    )
    parser.add_argument("--overlay-scale", type=int, default=1, metavar="N", help="magnify overlays N times")


def add_merging_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how panoptic maps are merged."""
    add = parser.add_argument
    add(
        "--panoptic-score",
        type=float,
        default=0.3,
        metavar="P",
        help="least score of a thing in a panoptic map, 0..1 (default: %(default)s)",
    )
    add(
        "--stuff-area",
        type=int,
        default=4096,
        metavar="N",
        help="least pixels of a stuff segment in a panoptic map (default: %(default)s)",
    )


def add_segmenter_arguments(
    parser: argparse.ArgumentParser, *, several_threads: bool = False, several_engines: bool = False
) -> None:
    """Declare the options every verb shares that opens something to segment with.

    Args:
        parser: gets them.
        several_threads: ``--threads`` takes a list, whose members the verb goes through itself.
        several_engines: so does ``--engine``.
    """
    parser.add_argument("--score-threshold", type=float, metavar="P", help="least class score of a candidate, 0..1")
    parser.add_argument("--keep-threshold", type=float, metavar="P", help="least score after Matrix NMS, 0..1")
    parser.add_argument("--mask-threshold", type=float, metavar="P", help="least mask probability, 0..1")
    parser.add_argument("--max-instances", type=int, metavar="N", help="most instances per picture")
    parser.add_argument("--nms-kernel", choices=("gaussian", "linear"), help="decay of Matrix NMS")
    several: dict[str, Any] = {"nargs": "+"} if several_threads else {}
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the network", **several)
    add_engine_argument(parser, several=several_engines)
    parser.add_argument(
        "--providers",
        nargs="+",
        metavar="NAME",
        help="an ONNX Runtime provider, a LiteRT delegate or its library, Core ML compute units, an OpenVINO device: "
        "one insists on it, several are a fallback list",
    )


def add_engine_argument(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Declare ``--engine``.

    Args:
        parser: gets it.
        several: it takes a list, whose members the verb goes through itself.
    """
    said = "onnxruntime, openvino, litert, coreml or ncnn, where not the artefact's own is meant"
    if several:
        help_ = f"{said}; every artefact runs in each of them that can, or in all that are installed: all"
        parser.add_argument("--engine", nargs="+", metavar="NAME", help=help_)
    else:
        help_ = f"{said}; auto: the fastest here that advise --remember wrote down"
        parser.add_argument("--engine", metavar="NAME", help=help_)


def segmenter_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what :func:`add_segmenter_arguments` collected, as keyword options; what was not given stays default."""
    for option in ("max_instances", "threads"):
        require_positive("--" + option.replace("_", "-"), getattr(args, option))
    names = ("score_threshold", "keep_threshold", "mask_threshold", "max_instances", "nms_kernel", "threads", "engine")
    options = {name: getattr(args, name) for name in names}
    # One name insists on that provider; several are a fallback list.
    options["providers"] = args.providers[0] if args.providers and len(args.providers) == 1 else args.providers
    return {name: value for name, value in options.items() if value is not None}


def note_interpreter(segment: AnySegmenter, console: Console) -> None:
    """Say so where a Core ML program is interpreted: masks and accuracy are the program's, speed is not."""
    engine = str(getattr(segment, "engine", ""))
    if engine.startswith(INTERPRETED):
        console.log(f"{engine}: results are the program's own, its times say nothing of a phone's")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Segment every picture; bad ones are named at the end, with exit code 2."""
    from solov2_edge.demos.image import Outputs, expand_pictures, segment_pictures
    from solov2_edge.runtime.panoptic import PanopticOptions

    require_positive("--overlay-scale", args.overlay_scale)
    if args.overlay_scale > MOST_MAGNIFIED:
        raise InputError(f"--overlay-scale must be at most {MOST_MAGNIFIED}, got {args.overlay_scale}")
    outputs = Outputs(
        not args.no_overlay,
        not args.no_labelme,
        not args.no_coco,
        not args.no_labels,
        args.overlay_scale,
        args.shown_score,
        args.panoptic,
    )
    if not (outputs.overlay or outputs.labelme or outputs.coco or outputs.panoptic):
        raise InputError("--no-overlay, --no-labelme and --no-coco together leave nothing to write; drop one of them")
    merging = PanopticOptions(args.panoptic_score, stuff_area=args.stuff_area)
    pictures = expand_pictures(args.images)
    segment = open_segmenter(args.model, **segmenter_options(args))
    note_interpreter(segment, console)
    if args.panoptic and not segment.spec.stuff_names:
        raise InputError(
            f"{args.model} segments instances only and has no panoptic map; leave --panoptic out, or train a network "
            "on COCO panoptic annotations: solov2-edge train --panoptic"
        )
    folder = output_folder(args.output)
    walk = console.track(pictures, len(pictures), "pictures")
    done = segment_pictures(
        segment, walk, folder, outputs, lambda: segment.timings, lambda frame: segment.panoptic(frame, merging)
    )

    good = [picture for picture in done if not picture.error]
    failed = [picture for picture in done if picture.error]
    for picture in good:
        total = sum((picture.timings or {}).values())
        console.say(f"{picture.path}: {picture.instances} instances, {picture.shown} shown, {total:.0f} ms")
    for picture in failed:
        # Part of the result, so --quiet does not hide it; and stderr, so that it is seen when stdout is piped.
        console.complain(picture.error)
    console.say(f"{len(good)} of {len(done)} pictures segmented into {folder}")
    data = {
        "output": folder,
        "pictures": [
            {
                "path": picture.path,
                "height": picture.height,
                "width": picture.width,
                "instances": picture.instances,
                "shown": picture.shown,
                "timings_ms": picture.timings,
                "files": list(picture.files),
            }
            for picture in good
        ],
        "failed": [{"path": picture.path, "error": picture.error} for picture in failed],
    }
    if failed:
        data["error"] = f"{len(failed)} of {len(done)} pictures could not be segmented"
        data["exit_code"] = InputError.exit_code
    return CommandResult(data, InputError.exit_code if failed else 0)
