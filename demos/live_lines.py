"""What was found in every frame, as JSON lines for other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TextIO

from solov2_edge.console import json_ready
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.errors import require

__all__ = ["JsonLines", "frame_line"]


def frame_line(shown: Shown) -> dict[str, Any]:
    """Return one frame as JSON-ready data: its place, times and instances; see docs/live.md."""
    height, width = shown.frame.image.shape[:2]
    return {
        "index": shown.frame.index,
        "name": shown.frame.name,
        "seconds": None if shown.frame.seconds is None else round(shown.frame.seconds, 4),
        "latency_ms": round(shown.latency, 2),
        "timings_ms": {name: round(value, 2) for name, value in shown.timings.items()},
        "dropped": shown.statistics.dropped,
        "height": height,
        "width": width,
        "instances": shown.objects(),
    }


class JsonLines:
    """Writes a line per frame, complete and flushed before the next frame, so that a reader never waits or halves one.

    A frame that is shown again is not written again.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file anew, or take stdout.

        Raises:
            InputError: a folder stands there, or its folder does not exist.
            OSError: it cannot be written.
        """
        self._own = path is not None
        if path is not None:
            require(not path.is_dir(), f"--json-lines {path} is a folder; name a file")
            require(path.parent.is_dir(), f"the folder of --json-lines {path} does not exist; make it first")
        self._stream: TextIO = sys.stdout if path is None else path.open("w", encoding="utf-8")

    def show(self, shown: Shown) -> None:
        """Write the frame's line.

        Raises:
            BrokenPipeError: the reader has gone.
        """
        if not shown.repeated:
            self._stream.write(json.dumps(json_ready(frame_line(shown)), allow_nan=False) + "\n")
            self._stream.flush()

    def tick(self, statistics: Statistics) -> None:
        """Nothing is to do between frames."""

    def close(self) -> None:
        """Close the file; stdout stays open."""
        if self._own:
            self._stream.close()
