"""``solov2-edge eval``: COCO mask AP of artefacts and checkpoints, with a gate on what conversion cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.annotation_arguments import add_annotation_arguments, class_choice
from solov2_edge.choices import parse_size, require_positive
from solov2_edge.command_segment import (
    add_merging_arguments,
    add_segmenter_arguments,
    note_interpreter,
    segmenter_options,
)
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import GateError, InputError
from solov2_edge.opening import is_checkpoint, open_segmenter

if TYPE_CHECKING:
    from solov2_edge.runtime.bootstrap import Interval
    from solov2_edge.runtime.evaluate import Evaluation

__all__ = ["add_arguments", "run"]

COLUMNS = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "small": "ap_small",
    "medium": "ap_medium",
    "large": "ap_large",
}
BOX_COLUMNS = {"box AP": "ap", "box AP50": "ap50", "box AP75": "ap75"}
FREQUENCY_COLUMNS = {"APr": "ap_rare", "APc": "ap_common", "APf": "ap_frequent"}
USUAL_DETECTIONS = {"coco": 100, "lvis": 300}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="ARTEFACT", help="artefacts and checkpoints, any formats"
    )
    add_annotation_arguments(parser)
    parser.add_argument("--baseline", type=Path, metavar="A", help="what the others are compared with")
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="fail (exit 3) if AP falls further below the baseline; the drop on these pictures decides, and a warning "
        "says if they are too few to bear it out",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N pictures only")
    parser.add_argument(
        "--max-detections", type=int, metavar="N", help="detections per picture that count (100; 300 under LVIS)"
    )
    parser.add_argument("--boxes", action="store_true", help="also judge the boxes of the masks, as detection: box AP")
    parser.add_argument(
        "--protocol",
        choices=("coco", "lvis"),
        default="coco",
        help="lvis: by LVIS's lists of searched categories, with AP of rare, common and frequent ones (coco)",
    )
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        help="run checkpoints at this size, as an artefact of it would (default: the reference's own geometry)",
    )
    parser.add_argument(
        "--panoptic",
        type=Path,
        metavar="DIR",
        help="measure panoptic quality (PQ) instead of AP: folder of the PNGs of a COCO panoptic --annotations",
    )
    add_merging_arguments(parser)
    add_segmenter_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Evaluate each, one after the other; exit code 3 if one falls too far below the baseline."""
    if args.panoptic is not None:
        from solov2_edge.panoptic_command import evaluate_panoptic

        return evaluate_panoptic(args, console)
    if args.max_drop is not None and args.baseline is None:
        raise InputError("--max-drop needs --baseline: name the artefact or checkpoint the drop is counted from")
    if args.max_drop is not None and not args.max_drop >= 0:
        raise InputError(f"--max-drop must be a number of AP points of at least 0, got {args.max_drop}")
    require_positive("--limit", args.limit)
    require_positive("--max-detections", args.max_detections)
    class_choice(args, args.annotations)  # names that are no class, before any work is done
    if args.input_size is not None:
        parse_size(args.input_size)  # before any work is done
        if not any(is_checkpoint(model) for model in (*args.models, args.baseline) if model is not None):
            raise InputError("--input-size is for checkpoints, and none is given; an artefact has its own size")
    options = segmenter_options(args)
    args.max_detections = args.max_detections or USUAL_DETECTIONS[args.protocol]
    options.setdefault("max_instances", args.max_detections)

    models = list(dict.fromkeys([*([args.baseline] if args.baseline else []), *args.models]))
    if args.baseline is not None and len(models) < 2:
        raise InputError(f"nothing to compare with the baseline {args.baseline}: name another artefact")
    _refuse_changed(models)
    results = {model: _evaluate(model, args, options, console) for model in models}
    rows = [_row(model, result) for model, result in results.items()]
    if args.baseline is None:
        _print(rows, console)
        return CommandResult({"annotations": args.annotations, "results": rows})
    _compare(rows, results, args.baseline)
    gate = _gate(rows, args.max_drop)
    _print(rows, console)
    console.say(gate["verdict"])
    for warning in gate["warnings"]:
        console.say(f"warning: {warning}")
    data = {"annotations": args.annotations, "results": rows, **gate}
    return CommandResult(data, 0 if gate["passed"] else GateError.exit_code)


def _refuse_changed(models: list[Path]) -> None:
    """Refuse an artefact that is not the one its manifest was written for, before minutes go into the others."""
    from solov2_edge.runtime.artefact import read_sidecar

    for model in models:
        if not is_checkpoint(model):
            read_sidecar(model)


def _evaluate(model: Path, args: argparse.Namespace, options: dict[str, Any], console: Console) -> Evaluation:
    from solov2_edge.runtime.evaluate import evaluate

    size = parse_size(args.input_size) if args.input_size is not None and is_checkpoint(model) else None
    if is_checkpoint(model):  # it runs in PyTorch, whatever the artefacts beside it run in
        options = {name: value for name, value in options.items() if name != "engine"}
    segment = open_segmenter(model, input_size=size, **options)
    note_interpreter(segment, console)
    with console.counter(model.name) as progress:
        return evaluate(
            segment,
            args.annotations,
            args.images,
            choice=class_choice(args),
            max_detections=args.max_detections,
            limit=args.limit,
            boxes=args.boxes,
            protocol=args.protocol,
            progress=progress,
        )


def _row(model: Path, result: Evaluation) -> dict[str, Any]:
    from solov2_edge.runtime.bootstrap import ap_interval

    return {"model": model, **result.to_dict(), "ap_interval": _ends(ap_interval(result.matches))}


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _compare(rows: list[dict[str, Any]], results: dict[Path, Evaluation], baseline: Path) -> None:
    """Add the drop from the baseline, in points of AP, and its interval to every row but the baseline's."""
    from solov2_edge.runtime.bootstrap import drop_interval

    reference = results[baseline]
    for row in rows:
        if row["model"] != baseline:
            interval = drop_interval(reference.matches, results[row["model"]].matches)
            row |= {"drop": reference.ap - row["ap"], "drop_interval": _ends(interval)}


def _print(rows: list[dict[str, Any]], console: Console) -> None:
    compared = any("drop" in row for row in rows)
    boxes = BOX_COLUMNS if "boxes" in rows[0] else {}
    frequencies = FREQUENCY_COLUMNS if "frequencies" in rows[0] else {}
    header = (
        "model",
        *COLUMNS,
        *frequencies,
        *boxes,
        "AP 95%",
        *(("drop", "drop 95%") if compared else ()),
        "pictures",
        "objects",
    )
    console.table(header, [_cells(row, compared=compared) for row in rows])


def _cells(row: dict[str, Any], *, compared: bool) -> tuple[str, ...]:
    drop = (f"{row['drop']:.2f}", _range(row["drop_interval"], 2)) if "drop" in row else ("-", "-")
    return (
        row["model"].name,
        *(_points(row[key]) for key in COLUMNS.values()),
        *(_points(row["frequencies"][key]) for key in FREQUENCY_COLUMNS.values() if "frequencies" in row),
        *(_points(row["boxes"][key]) for key in BOX_COLUMNS.values() if "boxes" in row),
        _range(row["ap_interval"], 1),
        *(drop if compared else ()),
        str(row["pictures"]),
        str(row["instances"]),
    )


def _points(ap: float) -> str:
    """Return AP with one digit; COCO says -1 where there is no such object."""
    return f"{ap:.1f}" if ap >= 0 else "-"


def _range(ends: list[float] | None, digits: int) -> str:
    return "-" if ends is None else f"{ends[0]:.{digits}f}..{ends[1]:.{digits}f}"


def _gate(rows: list[dict[str, Any]], max_drop: float | None) -> dict[str, Any]:
    """Judge the largest drop; it is the measured one that counts, and a warning says what the pictures cannot bear."""
    from solov2_edge.runtime.bootstrap import Interval, doubt

    others = [row for row in rows if "drop" in row]
    baseline = next(row["model"] for row in rows if "drop" not in row)
    worst = max(others, key=lambda row: float(row["drop"]))
    passed = max_drop is None or worst["drop"] <= max_drop
    moved = f"{worst['model'].name} is {abs(worst['drop']):.2f} points {'below' if worst['drop'] >= 0 else 'above'}"
    verdict = f"{moved} {baseline.name}"
    warnings = []
    if max_drop is not None:
        verdict = f"{'PASSED' if passed else 'FAILED'}: {verdict}, at most {max_drop:g} below are allowed"
        for row in others:
            ends, pictures = row["drop_interval"], row["pictures"]
            said = doubt(None if ends is None else Interval(ends[0], ends[1], pictures), max_drop, pictures)
            warnings += [f"{row['model'].name}: {said}"] if said else []
    return {
        "baseline": baseline,
        "max_drop": max_drop,
        "worst_drop": worst["drop"],
        "passed": passed,
        "verdict": verdict,
        "warnings": warnings,
    }
