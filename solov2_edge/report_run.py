"""The measurements behind ``solov2-edge report``: those of ``bench``, ``eval`` and ``verify``, made by these verbs.

Each verb is asked with the words a user would type, so that the report says what they would have said.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge import __version__
from solov2_edge.bench_print import when_busy
from solov2_edge.choices import size_text
from solov2_edge.cli import VERBS
from solov2_edge.console import Console
from solov2_edge.errors import InputError, require
from solov2_edge.manifest import sha256_of, size_of
from solov2_edge.opening import INTERPRETED, open_artefact

if TYPE_CHECKING:
    from solov2_edge.demos.conversion_data import LayerCost

__all__ = ["SCHEMA", "ask", "gather"]

SCHEMA = "solov2-edge report 1"
FRAMES = 30  # of the source are timed


def ask(verb: str, words: Sequence[str], console: Console) -> dict[str, Any]:
    """Run a verb with a user's words and return what its ``--json`` would print; its bars and logs go on."""
    module: Any = importlib.import_module(VERBS[verb][0])
    parser = argparse.ArgumentParser(prog=f"solov2-edge {verb}", allow_abbrev=False)
    module.add_arguments(parser)
    data: dict[str, Any] = module.run(parser.parse_args(list(words)), Console(json_mode=True, quiet=console.quiet)).data
    return data


def gather(args: argparse.Namespace, layers: Sequence[LayerCost], folder: Path, console: Console) -> dict[str, Any]:
    """Measure everything.

    Args:
        args: the verb's arguments, checked.
        layers: what a sensitivity analysis found.
        folder: of the report; overlays go into its ``worst/``.
        console: for progress.

    Returns:
        The document, JSON-ready but for paths.

    Raises:
        InputError: an artefact is unusable, of another checkpoint or of another input size than the first.
    """
    files = _inspect(list(dict.fromkeys(args.artefacts)), args.against, args.engine)
    timed = _bench(files, args, console)
    accuracy = _eval(files, args, console)
    rows = {Path(row["model"]): row for row in accuracy["results"]}
    entries = {Path(entry["artefact"]): entry for entry in timed["results"]} if timed else {}
    for file in files:
        path = file["path"]
        file |= {"eval": rows[path], "bench": entries.get(path), "verify": _verify(file, args, folder, console)}
    baseline = args.baseline or args.against
    busy = when_busy(timed["machine"]) if timed else ""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "model": args.against.stem,
        "checkpoint": {
            "name": args.against.name,
            "sha256": files[0]["source_sha256"],
            "size_bytes": size_of(args.against),
        },
        "baseline": {"name": baseline.name, "eval": rows[baseline]},
        "annotations": {"name": args.annotations.name, "sha256": sha256_of(args.annotations)},
        "max_drop": args.max_drop,
        "max_detections": args.max_detections,
        "files": files,
        "reference": timed["results"][0]["name"] if timed else None,
        "timing": {key: value for key, value in timed.items() if key != "results"} if timed else None,
        "sensitivity": [asdict(layer) for layer in layers],
        "notes": [*_notes(files), *accuracy["warnings"]],
        "warnings": [f"The machine was not quiet: {busy}."] if busy else [],
        "command": _command(args),
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "passed": accuracy["passed"] and all(file["verify"]["passed"] for file in files),
    }


def _inspect(paths: list[Path], checkpoint: Path, asked: str | None) -> list[dict[str, Any]]:
    """Open every artefact once, so that a wrong one is told before minutes go into the others."""
    digest = sha256_of(checkpoint)
    files: list[dict[str, Any]] = []
    for path in paths:
        with open_artefact(path, **({} if asked is None else {"engine": asked})) as segment:
            manifest, engine = segment.manifest, segment.engine
        if manifest.source_sha256 and manifest.source_sha256 != digest:
            raise InputError(
                f"{path} was made from another checkpoint (SHA-256 {manifest.source_sha256[:12]}…) than {checkpoint} "
                f"({digest[:12]}…); give that one, or convert again"
            )
        files.append(
            {
                "name": path.name,
                "path": path,
                "format": manifest.format,
                "precision": manifest.precision,
                "engine": engine,
                "size_bytes": size_of(path),
                "sha256": sha256_of(path),
                "source_sha256": digest,
                "input": {
                    "kind": manifest.input.kind, "height": manifest.input.height, "width": manifest.input.width
                },
                "tools": dict(manifest.tools),
                "calibration": manifest.calibration,
                "quantisation": manifest.quantisation,
                "weights_licence": manifest.weights_licence,
            }
        )  # fmt: skip
    for file in files:
        sizes = [size_text(f["input"]["height"], f["input"]["width"]) for f in (files[0], file)]
        require(
            sizes[0] == sizes[1],
            f"{files[0]['name']} takes {sizes[0]} and {file['name']} {sizes[1]}: AP and times of two sizes do "
            "not compare; make a report of each size",
        )
    return files


def _bench(files: list[dict[str, Any]], args: argparse.Namespace, console: Console) -> dict[str, Any] | None:
    """Time what an engine runs, in turn; ratios are to the baseline, else to a float32 artefact, else to PyTorch."""
    models = [file["path"] for file in files if not file["engine"].startswith(INTERPRETED)]
    if not models:
        return None
    floating = [file["path"] for file in files if file["path"] in models and file["precision"] == "fp32"]
    first = args.baseline if args.baseline in models else floating[0] if floating else args.against
    words = [str(path) for path in dict.fromkeys([first, *models])]
    words += [
        f"--source={args.source or args.images}",
        f"--frames={FRAMES}",
        f"--seconds={args.seconds}",
        "--instances",
    ]
    words += [] if args.threads is None else ["--threads", str(args.threads)]
    words += [] if args.engine is None else ["--engine", args.engine]
    words += [f"--input-size={_size(files)}"] if first == args.against else []
    _settle(args.settle, console)
    return ask("bench", words, console)


def _size(files: list[dict[str, Any]]) -> str:
    return size_text(files[0]["input"]["height"], files[0]["input"]["width"])


def _settle(seconds: float, console: Console) -> None:
    """Wait until at most half of the cores are busy: the opening alone leaves its trace in the load."""
    if not hasattr(os, "getloadavg"):
        return
    from solov2_edge.runtime.machine import read_machine

    quiet, end = read_machine().usable_cores / 2, time.monotonic() + seconds
    if os.getloadavg()[0] > quiet and seconds > 0:
        console.log(f"load {os.getloadavg()[0]:.1f}: waiting up to {seconds:g} s for the machine to become quiet")
    while os.getloadavg()[0] > quiet and time.monotonic() < end:
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))


def _eval(files: list[dict[str, Any]], args: argparse.Namespace, console: Console) -> dict[str, Any]:
    words = [str(file["path"]) for file in files]
    words += [f"--annotations={args.annotations}", f"--images={args.images}"]
    words += [f"--baseline={args.baseline or args.against}", f"--max-detections={args.max_detections}"]
    words += [f"--input-size={_size(files)}"] if args.baseline is None else []
    for option in ("max_drop", "limit", "threads", "engine"):
        if (value := getattr(args, option)) is not None:
            words.append(f"--{option.replace('_', '-')}={value}")
    console.log(f"measuring the AP of {len(files)} files and the baseline")
    return ask("eval", words, console)


def _verify(file: dict[str, Any], args: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Compare one artefact with PyTorch; of the findings the worst of each quantity is kept."""
    console.log(f"verifying {file['name']}")
    words = [str(file["path"]), f"--against={args.against}", f"--images={args.images}"]
    words += [f"--worst-pictures={folder / 'worst' / file['name']}", f"--worst={args.worst}"]
    words += [] if args.verify_limit is None else [f"--limit={args.verify_limit}"]
    words += [] if args.threads is None else [f"--threads={args.threads}"]
    words += [] if args.engine is None else [f"--engine={args.engine}"]
    found = ask("verify", words, console)
    notes = sorted({finding["note"] for finding in found["findings"] if finding["note"]})
    kept = {key: value for key, value in found.items() if key not in ("findings", "artefact", "checkpoint")}
    worst = [{**view, "path": Path(view["path"]).relative_to(folder).as_posix()} for view in found["worst_pictures"]]
    return {**kept, "worst_pictures": worst, "notes": notes}


def _notes(files: list[dict[str, Any]]) -> list[str]:
    interpreted = [file["name"] for file in files if file["engine"].startswith(INTERPRETED)]
    notes = [f"{file['name']}: {note}" for file in files for note in file["verify"]["notes"]]
    if interpreted:
        engine = next(file["engine"] for file in files if file["engine"].startswith(INTERPRETED))
        notes.append(
            f"{', '.join(interpreted)}: {engine}. Masks, AP and parity are the program's own; its times are not."
        )
    return notes


def _command(args: argparse.Namespace) -> str:
    """Return the command line that measures the same again, with bare file names."""
    words = ["solov2-edge", "report", *(path.name for path in args.artefacts)]
    for option in ("against", "images", "annotations", "baseline", "sensitivity", "source"):
        if (path := getattr(args, option)) is not None:
            words += [f"--{option}", path.name]
    for option in ("max_drop", "limit", "verify_limit", "threads"):
        if (value := getattr(args, option)) is not None:
            words += [f"--{option.replace('_', '-')}", f"{value:g}"]
    words += [] if args.engine is None else ["--engine", args.engine]
    if args.max_detections != 100:
        words += ["--max-detections", str(args.max_detections)]
    return shlex.join([*words, "-o", "report"])
