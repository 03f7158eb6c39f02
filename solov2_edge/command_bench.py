"""``solov2-edge bench``: time per stage, artefacts in turn, against instance count, frame size and threads."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from solov2_edge.bench_print import print_comparison, print_report
from solov2_edge.choices import parse_size, require_positive
from solov2_edge.command_segment import add_segmenter_arguments
from solov2_edge.console import CommandResult, Console, json_ready
from solov2_edge.engine_choice import expanded, placed
from solov2_edge.errors import InputError, require
from solov2_edge.files import write_aside
from solov2_edge.opening import is_checkpoint

__all__ = ["add_arguments", "run"]

SECONDS = 15.0  # of measuring, where neither --repeats nor --seconds is given
COUNTS = (0, 5, 20, 100)
MASKS = ("crops", "rle", "full")
STREAM_DEPTH = 3  # that of Segmenter.stream, whose module is imported only when something is measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "models", nargs="*", type=Path, metavar="ARTEFACT", help="artefacts, folders of them, and checkpoints"
    )
    parser.add_argument(
        "--source", action="append", type=Path, default=[], metavar="FILE",
        help="video, picture or folder (default: the bundled pictures); given again, another line of each table",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=30, metavar="N", help="use the first N of the source (30)")
    parser.add_argument(
        "--frame-size",
        nargs="+",
        default=[],
        metavar="HxW",
        help="stretch the frames to these sizes, such as 1080x1920",
    )
    parser.add_argument("--warm-up", type=int, default=5, metavar="N", help="untimed frames for each (5)")
    parser.add_argument("--repeats", type=int, metavar="N", help="timed frames for each")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"or the time to measure for, in all ({SECONDS:g})")
    parser.add_argument(
        "--instances", nargs="*", type=int, default=list(COUNTS), metavar="N",
        help="time decoding at exactly these numbers of instances (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--masks",
        choices=MASKS,
        default="crops",
        help="what is made of the masks: crops as decoded, RLE, full canvases",
    )
    parser.add_argument(
        "--stream", nargs="?", type=int, const=STREAM_DEPTH, metavar="DEPTH",
        help="also frames per second by calls and as a stream with up to DEPTH frames under way (%(const)s)",
    )  # fmt: skip
    parser.add_argument("--input-size", metavar="HxW", help="run checkpoints at this size, as an artefact of it would")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the measurement as JSON")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="compare two saved measurements")
    parser.add_argument(
        "--across", action="store_true", help="compare even where machine, threads or work differ; says what differs"
    )
    add_segmenter_arguments(parser, several_threads=True, several_engines=True)


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Measure, or compare two measurements."""
    if args.compare is not None:
        return _compare(args, console)
    require(not args.across, "--across belongs to --compare")
    require(bool(args.models), "name an artefact to measure, or two saved measurements with --compare A.json B.json")
    args.models = expanded(args.models)
    _check(args)
    placed(args.models, args.engine)
    sizes = [_frame_size(text) for text in args.frame_size]
    if args.save is not None:  # before minutes of measuring
        require(args.save.parent.is_dir(), f"the folder of --save {args.save} does not exist; make it first")
        require(not args.save.is_dir(), f"--save {args.save} is a folder; name a file")

    from solov2_edge.bench_run import measure_models

    document = measure_models(args, sizes, args.seconds or SECONDS, console)
    if args.save is not None:
        write_aside(args.save, json.dumps(json_ready(document), indent=1, allow_nan=False) + "\n")
        console.log(f"saved to {args.save}")
    print_report(document, console)
    return CommandResult(document)


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before any work is done."""
    for option in ("frames", "warm_up", "repeats", "max_instances", "stream"):
        require_positive("--" + option.replace("_", "-"), getattr(args, option))
    for threads in args.threads or []:
        require_positive("--threads", threads)
    require(args.repeats is None or args.seconds is None, "--repeats and --seconds exclude each other; give one")
    require(args.seconds is None or 0 < args.seconds < float("inf"), f"--seconds must be above 0, got {args.seconds}")
    require(
        min(args.instances, default=0) >= 0, f"--instances must be at least 0, got {min(args.instances, default=0)}"
    )
    most = max(args.instances, default=0)
    require(
        args.max_instances is None or args.max_instances >= most,
        f"--instances {most} cannot come out of --max-instances {args.max_instances}; change one of them",
    )
    if args.input_size is not None:
        parse_size(args.input_size)
        require(
            any(is_checkpoint(model) for model in args.models),
            "--input-size is for checkpoints, and none is given; an artefact has its own size",
        )


def _frame_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text.strip())
    size = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    require(min(size) > 0, f"--frame-size must be HEIGHTxWIDTH in pixels such as 1080x1920, got {text!r}")
    return size


def _compare(args: argparse.Namespace, console: Console) -> CommandResult:
    from solov2_edge.runtime.bench_compare import compare
    from solov2_edge.runtime.bench_report import read_report

    given = [
        name
        for name in ("models", "save", "source", "frame_size", "repeats", "seconds", "stream")
        if getattr(args, name)
    ]
    names = ", ".join("artefacts" if name == "models" else "--" + name.replace("_", "-") for name in given)
    require(not given, f"--compare measures nothing, so {names} cannot be given with it")
    before, after = (read_report(path) for path in args.compare)
    comparison = compare(before, after)
    if comparison.fatal and not args.across:
        raise InputError(
            f"{args.compare[0]} and {args.compare[1]} are not comparable ("
            + "; ".join(str(difference) for difference in comparison.fatal)
            + "); --across compares them all the same"
        )
    print_comparison(comparison, args.compare, console)
    return CommandResult(
        {
            "before": args.compare[0],
            "after": args.compare[1],
            "comparable": not comparison.fatal,
            "differences": [
                {"what": d.what, "before": d.before, "after": d.after, "fatal": d.fatal} for d in comparison.differences
            ],
            "unpaired": list(comparison.unpaired),
            "stages": [
                {
                    "name": s.name,
                    "threads": s.threads,
                    "instances": s.instances,
                    "stage": s.stage,
                    "before_ms": s.before_ms,
                    "after_ms": s.after_ms,
                    "ratios": s.ratios,
                }
                for s in comparison.stages
            ],
        }
    )
