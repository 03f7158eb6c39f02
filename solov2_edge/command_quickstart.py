"""``solov2-edge quickstart``: the main job on the bundled model, ending in a page to look at.

With PyTorch: convert to every format whose toolchain is installed, verify, evaluate, segment. Without: the ready ONNX
file is evaluated and segments.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge import __version__
from solov2_edge.bundled import Bundle, bundle
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import GateError
from solov2_edge.files import output_folder, write_aside
from solov2_edge.quickstart_convert import convert_all, missing_packages
from solov2_edge.quickstart_measure import measure

if TYPE_CHECKING:
    from solov2_edge.demos.report_data import ArtefactFacts, PictureFacts

__all__ = ["add_arguments", "run"]

REPORT_NAME = "report.html"
OVERLAY_SCALE = 3  # the bundled pictures are 256 pixels high


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("quickstart-output"), metavar="DIR", help="default: quickstart-output"
    )


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Do the main job; exit code 3 if an artefact does not match PyTorch."""
    from solov2_edge.demos.report import render_report
    from solov2_edge.demos.report_data import Report

    started = time.perf_counter()
    files = bundle()
    folder = output_folder(args.output)
    missing = missing_packages("onnx")
    notes: list[str] = []
    if missing:
        notes.append(
            f"Conversion and verification were left out: they need {', '.join(missing)} "
            "(pip install 'solov2-edge[convert]'). The ready ONNX file of the bundled model was used instead."
        )
        console.log(notes[0])
        paths = [files.artefact]
    else:
        paths, left_out = convert_all(files, folder, console)
        notes += left_out
        for note in left_out:
            console.log(note)
    if importlib.util.find_spec("pycocotools") is None:
        notes.append("AP was left out: it needs pycocotools (pip install 'solov2-edge[eval]').")
        console.log(notes[-1])

    models = paths if missing else [*paths, files.checkpoint]
    size = _input_size(paths[0])
    artefacts = []
    for path in models:
        console.log(f"measuring {path.name}")
        verify_it = path in paths and not missing
        artefacts.append(measure(path, files, input_size=size, verify_it=verify_it))
    console.log("segmenting the bundled pictures")
    pictures = _segment(paths[0], files, folder)
    report = Report(
        thing=files.thing,
        things=files.things,
        model=files.checkpoint.stem,
        pictures=pictures,
        artefacts=tuple(artefacts),
        notes=tuple(notes),
        provenance=_provenance(paths[0], files),
        commands=_commands(paths[0]),
    )
    page = write_aside(folder / REPORT_NAME, render_report(report)).resolve()
    passed = all(artefact.passed is not False for artefact in artefacts)
    _print(artefacts, console)
    console.say(f"{sum(p.found_count for p in pictures)} {files.things} in {len(pictures)} pictures")
    console.say(f"done in {time.perf_counter() - started:.0f} s; overlays in {folder.resolve() / 'masks'}")
    console.say(f"open {page}")
    data: dict[str, Any] = {
        "report": page,
        "overlays": folder.resolve() / "masks",
        "artefacts": [_plain(artefact) for artefact in artefacts],
        "pictures": [{"name": p.name, "found": p.found_count, "annotated": p.annotated_count} for p in pictures],
        "notes": notes,
        "passed": passed,
    }
    return CommandResult(data, 0 if passed else GateError.exit_code)


def _input_size(path: Path) -> tuple[int, int]:
    """Return (H, W) of an artefact's input."""
    from solov2_edge.runtime import load

    with load(path) as segment:
        return segment.manifest.input.height, segment.manifest.input.width


def _segment(path: Path, files: Bundle, folder: Path) -> tuple[PictureFacts, ...]:
    from solov2_edge.demos.image import Outputs, expand_pictures, segment_pictures
    from solov2_edge.demos.quickstart import picture_facts
    from solov2_edge.opening import open_segmenter

    segment = open_segmenter(path)
    masks = output_folder(folder / "masks")
    segment_pictures(segment, expand_pictures([files.pictures]), masks, Outputs(scale=OVERLAY_SCALE))
    return picture_facts(segment, lambda: segment.timings, files.annotations, files.pictures)


def _provenance(path: Path, files: Bundle) -> dict[str, str]:
    import cv2
    import numpy as np

    from solov2_edge.manifest import sha256_of
    from solov2_edge.runtime import load

    with load(path) as segment:
        manifest, engine = segment.manifest, segment.engine
    versions = {"solov2-edge": __version__, "Python": platform.python_version(), "numpy": np.__version__}
    tools = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    contract = manifest.input
    return {
        "Artefact": f"{path.name}, {manifest.precision}, {contract.kind} input {contract.height}x{contract.width}",
        "SHA-256 of the artefact": sha256_of(path),
        "Checkpoint": files.checkpoint.name,
        "SHA-256 of the checkpoint": manifest.source_sha256 or "unknown",
        "Weights": manifest.weights_licence,
        "Pictures": "Data Science Bowl 2018, validation pictures, CC0",
        "Converted with": tools or "unknown",
        "Run with": ", ".join(f"{k} {v}" for k, v in versions.items()) + f", OpenCV {cv2.__version__}, {engine}",
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "Date": time.strftime("%Y-%m-%d"),
    }


def _commands(path: Path) -> tuple[tuple[str, str], ...]:
    return (
        ("Masks of your own pictures", f"solov2-edge segment {path} PICTURES/ -o masks"),
        ("Your own checkpoint", "solov2-edge convert model.pth --to onnx tflite --precision fp32 fp16 -o artefacts"),
        (
            "Integers for phones",
            "solov2-edge convert model.pth --to tflite --precision int8 --calibrate PICTURES/ -o artefacts",
        ),
        (
            "What the conversion cost",
            "solov2-edge eval artefacts/*.onnx --baseline model.pth --max-drop 0.5 --annotations val.json --images val",
        ),
        ("Your own data", "solov2-edge train --annotations train.json --images train --variant nano -o run"),
    )


def _print(artefacts: list[ArtefactFacts], console: Console) -> None:
    rows = [
        (
            artefact.name,
            f"{artefact.size_bytes / 1e6:.1f} MB",
            "-" if artefact.ap is None else f"{artefact.ap:.1f}",
            f"{max(stage.difference for stage in artefact.parity):.1e}" if artefact.parity else "-",
            "-" if artefact.network_ms is None else f"{artefact.network_ms:.0f} ms",
            {None: "-", True: "passed", False: "FAILED"}[artefact.passed],
        )
        for artefact in artefacts
    ]
    console.table(("file", "size", "AP", "from PyTorch", "network", "verdict"), rows)


def _plain(artefact: ArtefactFacts) -> dict[str, Any]:
    return {**asdict(artefact), "parity": {stage.stage: stage.difference for stage in artefact.parity}}
