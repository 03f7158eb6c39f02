"""One command of solov2-edge in a process that dies on purpose: what ``kills.py`` starts again and again.

``python benchmarks/dying_run.py [--seconds S | --touch N | --bytes N] REPORT VERB ...`` runs the verb and writes into
``REPORT``, if it reaches its end, how long it took and how often it touched the folder behind ``-o``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

EVENTS = frozenset(("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"))


def watch_touches(folder: str, last: int | None = None) -> list[float]:
    """Note from now on the moments at which something is opened, renamed, made or deleted in a folder.

    Args:
        folder: Path as the command spells it.
        last: Number of the moment at which to be killed; None never is.

    Returns:
        The moments so far, of ``time.perf_counter()``; grows.
    """
    moments: list[float] = []

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not str(arguments[0]).startswith(folder):
            return
        moments.append(time.perf_counter())
        if len(moments) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    return moments


def main() -> int:
    """Arm what ends this process, run the verb, and report if nothing did."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="be killed so long after the beginning")
    parser.add_argument("--touch", type=int, help="be killed at this touch of the folder")
    parser.add_argument("--bytes", type=int, help="die in a write as soon as a file grows beyond this")
    parser.add_argument("report", type=Path)
    parser.add_argument("verb", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    touches = watch_touches(options.verb[options.verb.index("-o") + 1], options.touch)
    if options.seconds is not None:
        killer = threading.Timer(options.seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
        killer.daemon = True
        killer.start()
    if options.bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it and would raise OSError instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.bytes, options.bytes))
    from solov2_edge.cli import main as solov2_edge

    code = solov2_edge([*options.verb, "--quiet"])
    if code == 0:
        ended = time.perf_counter()
        first = (touches[0] if touches else ended) - began
        options.report.write_text(json.dumps({"first": first, "seconds": ended - began, "touches": len(touches)}))
    return code


if __name__ == "__main__":
    sys.exit(main())
