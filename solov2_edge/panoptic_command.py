"""What ``train`` and ``eval`` have for panoptic annotations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import parse_size, require_positive
from solov2_edge.command_segment import note_interpreter, segmenter_options
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import require
from solov2_edge.opening import is_checkpoint, open_segmenter

if TYPE_CHECKING:
    from solov2_edge.panoptic_data import PanopticPictures
    from solov2_edge.runtime.panoptic_quality import PanopticQuality

__all__ = ["add_panoptic_argument", "evaluate_panoptic", "open_panoptic"]

CATEGORIES_SHOWN = 20


def add_panoptic_argument(parser: argparse.ArgumentParser) -> None:
    """Declare what ``train`` learns stuff from."""
    parser.add_argument(
        "--panoptic",
        type=Path,
        metavar="DIR",
        help="learn stuff too: folder of the PNGs of segment ids that a COCO panoptic --annotations names",
    )


def open_panoptic(args: argparse.Namespace) -> PanopticPictures:
    """Read the panoptic pictures of a run.

    Raises:
        InputError: annotations cannot be used, or an option was given that is for instance annotations.
    """
    from solov2_edge.panoptic_data import read_panoptic_pictures

    _refuse(args, "check", "cache", "draw_batch", "classes", "rename", "qat", "copy_paste")
    return read_panoptic_pictures(args.annotations, _images(args), args.panoptic)


def _refuse(args: argparse.Namespace, *names: str) -> None:
    """Refuse options that panoptic annotations do not go with; of those a verb lacks nothing is asked."""
    given = ["--" + name.replace("_", "-") for name in names if getattr(args, name, None)]
    require(not given, f"{', '.join(given)} cannot be combined with --panoptic; leave out one or the other")


def _images(args: argparse.Namespace) -> Path:
    require(args.images is not None, "--panoptic needs --images, the folder of the pictures; give it")
    return Path(args.images)


def evaluate_panoptic(args: argparse.Namespace, console: Console) -> CommandResult:
    """Measure the panoptic quality of each model: ``eval`` with ``--panoptic``.

    Raises:
        InputError: an option that belongs to AP, or files that cannot be used.
    """
    from solov2_edge.runtime.panoptic import PanopticOptions

    _refuse(args, "baseline", "max_drop", "classes", "rename")
    require_positive("--limit", args.limit)
    merging = PanopticOptions(args.panoptic_score, stuff_area=args.stuff_area)
    results = {model: _measure(model, args, merging, console) for model in dict.fromkeys(args.models)}
    rows = [
        (model.name, kind, f"{q.pq:.1f}", f"{q.sq:.1f}", f"{q.rq:.1f}", str(q.categories), str(result.pictures))
        for model, result in results.items()
        for kind, q in (("all", result.all), ("things", result.things), ("stuff", result.stuff))
    ]
    console.table(("model", "of", "PQ", "SQ", "RQ", "categories", "pictures"), rows)
    for model, result in results.items():
        if len(result.by_name) <= CATEGORIES_SHOWN:
            named = (f"{name} {row['pq']:.1f}" for name, row in result.by_name.items())
            console.say(f"{model.name}: PQ of {', '.join(named)}")
    return CommandResult(
        {
            "annotations": args.annotations,
            "results": [{"model": model, **result.to_dict()} for model, result in results.items()],
        }
    )


def _measure(model: Path, args: argparse.Namespace, merging: Any, console: Console) -> PanopticQuality:
    from solov2_edge.runtime.panoptic_quality import panoptic_quality

    size = parse_size(args.input_size) if args.input_size is not None and is_checkpoint(model) else None
    segment = open_segmenter(model, input_size=size, **segmenter_options(args))
    note_interpreter(segment, console)
    with console.counter(model.name) as progress:
        return panoptic_quality(
            lambda frame: segment.panoptic(frame, merging),
            args.annotations,
            args.panoptic,
            _images(args),
            limit=args.limit,
            progress=progress,
        )
