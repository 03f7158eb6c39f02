"""What ``advise --remember`` writes down: the engine that ran each artefact fastest on this machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from solov2_edge.console import Console
from solov2_edge.engine_choice import Placed

if TYPE_CHECKING:
    from solov2_edge.runtime.advice import Candidate

__all__ = ["remember_engines"]


def remember_engines(
    candidates: Sequence[Candidate], models: Sequence[Placed], args: argparse.Namespace, console: Console
) -> list[dict[str, Any]]:
    """Write down the best engine of every artefact that ran in several.

    Args:
        candidates: what was measured.
        models: of which artefact in which engine, in the same order.
        args: the verb's arguments: points of AP that may be lost, threads.
        console: told of each.

    Returns:
        What was written, an entry per artefact.

    Raises:
        InputError: it cannot be written.
    """
    from solov2_edge.runtime.advice import advise
    from solov2_edge.runtime.engine_record import EngineRecord, remember

    written = []
    for path in dict.fromkeys(model.path for model in models):
        own = {
            candidate.name: (str(model.engine), candidate)
            for model, candidate in zip(models, candidates, strict=True)
            if model.path == path and candidate.frame_ms is not None
        }
        if len(own) < 2:
            continue
        choice = advise([candidate for _, candidate in own.values()], next(iter(own)), args.max_drop).choice
        if choice is None:
            console.say(f"nothing remembered of {path.name}: every engine loses too much accuracy")
            continue
        engine = own[choice][0]
        times = {name: float(candidate.frame_ms or 0) for name, candidate in own.values()}
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        file = remember(path, EngineRecord(path.name, engine, times, args.threads, when))
        console.say(f"remembered: {path.name} in {engine} ({file})")
        written.append({"artefact": path, "engine": engine, "milliseconds": times, "file": file})
    return written
