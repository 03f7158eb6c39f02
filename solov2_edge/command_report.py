"""``solov2-edge report``: one self-contained page about a conversion, to attach to a release."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from solov2_edge.choices import require_positive
from solov2_edge.console import CommandResult, Console, json_ready
from solov2_edge.errors import GateError, require
from solov2_edge.files import output_folder, write_aside
from solov2_edge.opening import is_checkpoint

__all__ = ["DOCUMENT_NAME", "PAGE_NAME", "add_arguments", "run"]

PAGE_NAME, DOCUMENT_NAME = "report.html", "report.json"
WORST = 2  # overlays of a file: one may be an accident
SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("artefacts", nargs="+", type=Path, metavar="ARTEFACT", help="converted files, any formats")
    parser.add_argument(
        "--against", type=Path, required=True, metavar="CKPT", help="the checkpoint they were made from"
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the annotated pictures")
    parser.add_argument("--annotations", type=Path, required=True, metavar="PATH", help="COCO json, LabelMe or YOLO")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the report")
    parser.add_argument(
        "--baseline", type=Path, metavar="A", help="one of the artefacts to count drops from (default: the checkpoint)"
    )
    parser.add_argument("--max-drop", type=float, metavar="POINTS", help="fail (exit 3) if AP falls further")
    parser.add_argument(
        "--sensitivity", type=Path, metavar="JSON", help='per layer: [{"layer", "drop", "sqnr_db", "macs"}, ...]'
    )
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="frames that are timed (default: those of --images)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="measure AP on the first N pictures only")
    parser.add_argument(
        "--verify-limit", type=int, metavar="N", help="compare with PyTorch on the first N pictures only"
    )
    parser.add_argument("--max-detections", type=int, default=100, metavar="N", help="detections that count (100)")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="time for the times (%(default)g)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the network")
    parser.add_argument(
        "--engine", metavar="NAME", help="such as openvino, where not the artefacts' own is meant; runs all of them"
    )
    parser.add_argument(
        "--worst", type=int, default=WORST, metavar="N", help="pictures of most disagreement per file (%(default)s)"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=60.0,
        metavar="S",
        help="wait up to S seconds for a busy machine to become quiet before timing (%(default)g)",
    )


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Measure with the other verbs, then write the page; exit code 3 if a file fails verification or drops too far."""
    _check(args)
    from solov2_edge.report_sensitivity import read_sensitivity

    layers = read_sensitivity(args.sensitivity) if args.sensitivity is not None else ()

    from solov2_edge.demos.conversion_report import render_conversion
    from solov2_edge.report_facts import conversion_report
    from solov2_edge.report_run import gather

    folder = output_folder(args.output)
    data: dict[str, Any] = json_ready(gather(args, layers, folder, console))
    page = write_aside(folder / PAGE_NAME, render_conversion(conversion_report(data, folder))).resolve()
    write_aside(folder / DOCUMENT_NAME, json.dumps(data, indent=1, allow_nan=False) + "\n")
    console.table(("file", "size", "AP", "drop", "95 %", "network", "parity"), [_row(file) for file in data["files"]])
    for note in [*data["notes"], *data["warnings"]]:
        console.say(f"note: {note}")
    console.say(f"open {page}")
    return CommandResult({"report": page, **data}, 0 if data["passed"] else GateError.exit_code)


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before any work is done."""
    for option in ("limit", "verify_limit", "max_detections", "threads", "worst"):
        require_positive("--" + option.replace("_", "-"), getattr(args, option))
    require(0 < args.seconds < float("inf"), f"--seconds must be above 0, got {args.seconds}")
    require(0 <= args.settle < float("inf"), f"--settle must be at least 0 seconds, got {args.settle}")
    require(
        args.max_drop is None or args.max_drop >= 0,
        f"--max-drop must be a number of AP points of at least 0, got {args.max_drop}",
    )
    paths = [(path, "artefact") for path in args.artefacts]
    paths += [(args.against, "checkpoint"), (args.images, "folder of pictures"), (args.annotations, "annotations")]
    paths += [(path, "file") for path in (args.sensitivity, args.source) if path is not None]
    for path, role in paths:
        require(path.exists(), f"{path}: no such {role}")
    for path in args.artefacts:
        require(not is_checkpoint(path), f"{path} is a checkpoint, expected a converted file; it goes to --against")
    require(
        is_checkpoint(args.against), f"--against {args.against} must be the checkpoint the artefacts were made from"
    )
    names = [path.name for path in dict.fromkeys(args.artefacts)]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"two artefacts are called {', '.join(twice)}, and a report tells them by name; rename one")
    require(
        args.baseline is None or args.baseline in args.artefacts,
        f"--baseline {args.baseline} must be one of the artefacts; add it, or leave the option out for the checkpoint",
    )
    require(
        args.baseline is None or len(names) > 1,
        f"nothing to compare with the baseline {args.baseline}; add an artefact",
    )


def _row(file: dict[str, Any]) -> tuple[str, ...]:
    found, timed = file["eval"], file["bench"]
    ends = found.get("drop_interval")
    return (
        file["name"],
        f"{file['size_bytes'] / 1e6:.1f} MB",
        f"{found['ap']:.1f}",
        f"{found['drop']:.2f}" if "drop" in found else "-",
        f"{ends[0]:.2f}..{ends[1]:.2f}" if ends else "-",
        f"{timed['ratio_to_first']['network']['p50']:.2f} x" if timed else "-",
        "passed" if file["verify"]["passed"] else "FAILED",
    )
