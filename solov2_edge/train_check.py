"""``solov2-edge train --check``: every bad annotation by name, and what the good ones hold, before any training."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from solov2_edge.annotation_arguments import class_choice
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import GateError

if TYPE_CHECKING:
    from solov2_edge.annotation_check import Checked
    from solov2_edge.spec import ModelSpec
    from solov2_edge.train_options import TrainOptions

__all__ = ["check"]

SHOWN = 50  # faults in words; the JSON has more
KEPT = 10_000
EXAMPLES = 5
MIN_SIDE = 2  # pixels at the input size, as data.MIN_SIDE: importing that would import torch


def check(args: argparse.Namespace, console: Console, spec: ModelSpec, options: TrainOptions) -> CommandResult:
    """Check the training set, and the validation set if one is given; exit code 3 if anything in them is bad.

    Args:
        args: of ``train``.
        console: to write to.
        spec: the network to be trained; its scale ranges decide which sizes of objects it learns.
        options: of the run; where short sides are drawn, sizes are counted as in the spec's ``resize_box``.
    """
    from solov2_edge.annotation_check import check_annotations
    from solov2_edge.runtime.annotation_sets import COCO, locate

    sets = [("training", args.annotations, args.images, "train")]
    if args.val_annotations is not None:
        same = args.images if args.val_images is None and locate(args.val_annotations).form == COCO else None
        sets.append(("validation", args.val_annotations, args.val_images or same, "val"))
    results: dict[str, Any] = {}
    for role, path, images, split in sets:
        with console.counter(f"{role} set") as progress:
            found = check_annotations(locate(path, images), split, class_choice(args), progress)
        results[role] = {"annotations": path, **_report(found, spec, options.input_size)}
        _say(role, results[role], found, console)
    count = sum(result["fault_count"] for result in results.values())
    console.say(f"{count} {'fault' if count == 1 else 'faults'}" if count else "nothing bad")
    return CommandResult({"passed": not count, **results}, GateError.exit_code if count else 0)


def _report(found: Checked, spec: ModelSpec, size: tuple[int, int] | None) -> dict[str, Any]:
    """Return what is counted, JSON-ready."""
    pictures = Counter(label for label, _ in {(label, picture) for label, picture, *_ in found.objects})
    objects = Counter(label for label, *_ in found.objects)
    levels, untaught = _levels(found, spec, size)
    return {
        "form": found.form,
        "pictures": found.pictures,
        "pictures_with_objects": len({picture for _, picture, *_ in found.objects}),
        "objects": len(found.objects),
        "crowds": found.crowds,
        "classes": [{"name": name, "pictures": pictures[name], "objects": objects[name]} for name in found.class_names],
        "levels": levels,
        "untaught": {"count": len(untaught), "examples": untaught[:EXAMPLES]},
        "fault_count": len(found.faults),
        "faults": [asdict(fault) for fault in found.faults[:KEPT]],
    }


def _levels(found: Checked, spec: ModelSpec, size: tuple[int, int] | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the objects that each level learns at the input size, and where those are that none does."""
    counts, untaught = [0] * len(spec.grids), []
    short, long = (min(size), max(size)) if size is not None else spec.resize_box
    for _, _, (height, width), extent, where in found.objects:
        if size is not None:
            factor = min(size[0] / height, size[1] / width)
        else:
            factor = min(short / min(height, width), long / max(height, width))
        sides = extent.width * factor, extent.height * factor
        scale = (sides[0] * sides[1]) ** 0.5
        fitting = [low <= scale <= high and min(sides) >= MIN_SIDE for low, high in spec.scale_ranges]
        counts = [count + fits for count, fits in zip(counts, fitting, strict=True)]
        if not any(fitting):
            untaught.append(f"{where}: {sides[1]:.3g} x {sides[0]:.3g} pixels (H x W)")
    rows = [
        {"grid": grid, "range": list(bounds), "objects": count}
        for grid, bounds, count in zip(spec.grids, spec.scale_ranges, counts, strict=True)
    ]
    return rows, untaught


def _say(role: str, result: dict[str, Any], found: Checked, console: Console) -> None:
    console.say(
        f"{role} set {result['annotations']}: {found.form}, {result['pictures']} pictures "
        f"({result['pictures_with_objects']} with objects), {result['objects']} objects, {result['crowds']} crowds"
    )
    rows = [(entry["name"], str(entry["pictures"]), str(entry["objects"])) for entry in result["classes"]]
    console.table(("class", "pictures", "objects"), rows)
    levels = [
        (f"{level['grid']} x {level['grid']}", "{:g}..{:g}".format(*level["range"]), str(level["objects"]))
        for level in result["levels"]
    ]
    console.table(("level's grid", "sizes it learns", "objects"), levels)
    missed = result["untaught"]
    if missed["count"]:
        objects = "1 object" if missed["count"] == 1 else f"{missed['count']} objects"
        console.say(f"note: no level learns {objects} at this input size, for example {'; '.join(missed['examples'])}")
    for fault in found.faults[:SHOWN]:
        console.say(f"bad: {fault}")
    if len(found.faults) > SHOWN:
        console.say(f"and {len(found.faults) - SHOWN} more faults, which --json lists")
