"""What verbs have for panoptic maps: options of the merging, and the evaluation of panoptic quality."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import parse_size, require_positive
from solov2_edge.command_segment import note_interpreter, segmenter_options
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import require
from solov2_edge.opening import is_checkpoint, open_segmenter

if TYPE_CHECKING:
    from pathlib import Path

    from solov2_edge.runtime.panoptic_quality import PanopticQuality

__all__ = ["evaluate_panoptic"]

CATEGORIES_SHOWN = 20


def evaluate_panoptic(args: argparse.Namespace, console: Console) -> CommandResult:
    """Measure the panoptic quality of each model: ``eval`` with ``--panoptic``.

    Raises:
        InputError: an option that belongs to AP, or files that cannot be used.
    """
    from solov2_edge.runtime.panoptic import PanopticOptions

    require(
        args.baseline is None and args.max_drop is None,
        "--baseline and --max-drop compare AP; panoptic quality has no gate: leave them out with --panoptic",
    )
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
            args.images,
            limit=args.limit,
            progress=progress,
        )
