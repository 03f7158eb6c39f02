"""The README's table of precisions: the bundled model in every precision of every format, measured.

``make report`` runs this: it converts, lets ``solov2-edge report`` measure and write its page, and prints the table as
Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solov2_edge.bundled import Bundle, bundle
from solov2_edge.choices import TARGETS
from solov2_edge.console import Console
from solov2_edge.conversions import plan
from solov2_edge.errors import GateError, MissingDependencyError, SolovEdgeError
from solov2_edge.files import output_folder
from solov2_edge.report_facts import TITLES, file_title
from solov2_edge.report_run import ask

__all__ = ["convert_all", "main", "markdown"]

HEADER = ("format, precision", "size", "AP", "drop (95 %)", "from PyTorch", "instances matched", "network time")
NO_VALUE = "-"
# Precisions that are another file for another engine: (format, precision) -> who runs it.
TARGETED = {("onnx", "int8"): ("cpu", "tensorrt")}


def markdown(data: Mapping[str, Any]) -> str:
    """Return the table of a report's document, with a line below it that says how it was measured."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(_cells(file)) + " |" for file in data["files"]]
    return "\n".join([*lines, "", _said(data)])


def _cells(file: Mapping[str, Any]) -> tuple[str, ...]:
    found, timed, verified = file["eval"], file["bench"], file["verify"]
    drop, ends = NO_VALUE, found.get("drop_interval")
    if "drop" in found:
        drop = f"{_points(found['drop'])}" + (f" ({_points(ends[0])} to {_points(ends[1])})" if ends else "")
    failed = "" if verified["passed"] else ", FAILED"
    return (
        file_title(file),
        f"{file['size_bytes'] / 1e6:.1f} MB",
        f"{found['ap']:.1f}",
        drop,
        _distance(verified) + failed,
        f"{verified['matched']} of {verified['expected']}",
        f"{timed['ratio_to_first']['network']['p50']:.2f} x" if timed else NO_VALUE,
    )


def _points(value: float) -> str:
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _distance(verified: Mapping[str, Any]) -> str:
    """Return the worst of the network's outputs that has a bound: a difference, or noise where all is rounded."""
    rows = [row for row in verified["stages"] if row["stage"] == "network" and row["bound"] is not None]
    if any(row["worst"] is None for row in rows):
        return "not finite"
    row = max(rows, key=lambda row: float(row["worst"]))
    kind = "noise" if row["quantity"].startswith("noise") else "largest"
    return f"{kind} {row['worst']:.1g}"


def _said(data: Mapping[str, Any]) -> str:
    pictures = data["baseline"]["eval"]["pictures"]
    compared = max(file["verify"]["pictures"] for file in data["files"])
    size = data["files"][0]["input"]
    said = (
        f"{data['model']} at {size['height']}x{size['width']}; drop in points of AP from {data['baseline']['name']} "
        f"(AP {data['baseline']['eval']['ap']:.1f}) on {pictures} pictures; distance from PyTorch on {compared}: the "
        "largest difference as a share of an output's range, or its noise as a share of its spread"
    )
    timing = data["timing"]
    if timing is None:
        return said + "."
    machine, entry = timing["machine"], next(file["bench"] for file in data["files"] if file["bench"])
    threads = (
        "default threads"
        if entry["threads"] is None
        else f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
    )
    first = f"; network time over that of {data['reference']} in one interleaved run of {entry['rounds']} rounds, "
    where = f"{threads}, {machine['cpu']}, {machine['usable_cores']} cores, "
    quiet = "which were not quiet" if data["warnings"] else "which were quiet"
    untimed = any(file["bench"] is None for file in data["files"])
    interpreted = " A file without a time was interpreted, not run by its engine." if untimed else ""
    return f"{said}{first}{where}{quiet}.{interpreted}"


def convert_all(
    files: Bundle, folder: Path, console: Console, *, keep: bool, formats: Sequence[str] = tuple(TARGETS)
) -> tuple[list[Path], list[str], bool]:
    """Convert the bundled checkpoint to every precision there is.

    Args:
        files: the bundle.
        folder: for the artefacts.
        console: for progress.
        keep: take an artefact that is already there.
        formats: out of :data:`TARGETS`; default: all.

    Returns:
        The artefacts; a sentence for each one that is missing; whether one of those lost its parity.
    """
    paths, notes, refused = [], [], False
    everything = [
        (conversion, target)
        for format_ in formats
        for precision in TARGETS[format_]
        for target in TARGETED.get((format_, precision), (None,))
        for conversion in plan([format_], [precision], folder, files.checkpoint.stem, target)
    ]
    for conversion, target in everything:
        if keep and conversion.path.exists():
            paths.append(conversion.path)
            continue
        words = [str(files.checkpoint), "--to", conversion.format, "--precision", conversion.precision]
        words += ["-o", str(folder)]
        words += ["--calibrate", str(files.calibration)] if conversion.calibrated else []
        words += ["--for", target] if target else []
        try:
            ask("convert", words, console)
        except (GateError, MissingDependencyError, ModuleNotFoundError) as error:
            refused |= isinstance(error, GateError)
            notes.append(f"{TITLES[conversion.format]} {conversion.precision} is missing: {error}")
        else:
            paths.append(conversion.path)
    return paths, notes, refused


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, measure and print the table; exit codes are the command line's."""
    parser = argparse.ArgumentParser(prog="python -m solov2_edge.report_table", description=__doc__, allow_abbrev=False)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for artefacts and report")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="validation pictures")
    parser.add_argument("--annotations", type=Path, required=True, metavar="JSON", help="COCO annotations of them")
    parser.add_argument(
        "--to",
        nargs="+",
        choices=tuple(TARGETS),
        default=list(TARGETS),
        metavar="FORMAT",
        help="default: all; Core ML packages are interpreted off a Mac, which takes most of the time",
    )
    parser.add_argument("--keep", action="store_true", help="take artefacts that are already there")
    parser.add_argument("--quiet", action="store_true", help="no logs")
    args, rest = parser.parse_known_args(argv)
    console = Console(quiet=args.quiet)
    try:
        return _run(args, rest, console)
    except SolovEdgeError as error:
        console.complain(f"solov2-edge: {error}")
        return error.exit_code


def _run(args: argparse.Namespace, rest: Sequence[str], console: Console) -> int:
    files = bundle()
    folder = output_folder(args.output)
    paths, notes, refused = convert_all(
        files, output_folder(folder / "artefacts"), console, keep=args.keep, formats=args.to
    )
    words = [*map(str, paths), f"--against={files.checkpoint}", f"--images={args.images}"]
    data = ask("report", [*words, f"--annotations={args.annotations}", f"--output={folder}", *rest], console)
    console.say(markdown(data))
    for note in notes:
        console.say(f"\n{note}")
    console.log(f"open {data['report']}")
    return GateError.exit_code if refused or not data["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
