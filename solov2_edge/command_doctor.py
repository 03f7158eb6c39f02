"""``solov2-edge doctor``: what this machine can run, what holds it back, and the cure for each."""

from __future__ import annotations

import argparse
import importlib
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from solov2_edge import __version__
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import SolovEdgeError

__all__ = ["add_arguments", "run"]

CURES = {
    "lib": "sudo apt install libgl1 libglib2.0-0, or pip uninstall -y opencv-python && pip install --no-deps "
    "opencv-python-headless",
    "numpy": "pip install 'numpy<2'  # this OpenCV was built for numpy 1, as JetPack's is",
    "other": "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR",
        help="read a machine's recorded system files below DIR instead (proc, sys, etc, ... as in /)",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Look at everything; the exit code stays 0, because only the user knows which of it is needed."""
    try:
        examine = importlib.import_module("solov2_edge.runtime.doctor").examine
    except SolovEdgeError:
        raise
    except (ImportError, AttributeError, SystemError) as error:
        # The runtime cannot do without OpenCV, and nothing else here works before that is cured.
        findings = [_broken(error)]
    else:
        findings = [asdict(finding) for finding in examine(args.root)]
    _print(findings, console)
    counts = Counter(finding["state"] for finding in findings)
    said = [f"{counts['warning']} warning{'s' * (counts['warning'] != 1)}", f"{counts['missing']} missing"]
    console.say("")
    console.say(f"{counts['ok']} ok, {', '.join(said)}")
    return CommandResult(
        {
            "version": __version__,
            "python": platform.python_version(),
            "root": args.root,
            "counts": {state: counts[state] for state in ("ok", "warning", "missing")},
            "findings": findings,
        }
    )


def _print(findings: Iterable[dict[str, Any]], console: Console) -> None:
    topic = ""
    for finding in findings:
        if finding["topic"] != topic:
            if topic:
                console.say("")
            topic = finding["topic"]
            console.say(topic)
        console.say(f"  {finding['state']:<8} {finding['name']:<17} {finding['text']}")
        if finding["cure"]:
            console.say(f"  {'':<8} {'':<17} -> {finding['cure']}")


def _broken(error: BaseException) -> dict[str, Any]:
    """Return the finding about an OpenCV or NumPy that cannot be imported."""
    text = " ".join(str(error).split())
    said, cause = "", error.__cause__ or error.__context__
    while cause is not None:
        said, cause = f"{said} {cause}", cause.__cause__ or cause.__context__
    said = f"{text} {said}"
    kind = "numpy" if "_ARRAY_API" in said or "multiarray" in said else "lib" if ".so" in said else "other"
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    return {
        "topic": "OpenCV",
        "name": "OpenCV" if absent in (None, "cv2") else absent,
        "state": "missing",
        "text": f"cannot be imported, and everything else waits for it: {text[:300]}",
        "cure": CURES[kind] if absent in (None, "cv2") else f"pip install {absent}",
    }
