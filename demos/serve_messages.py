"""What the server and the page tell each other, as JSON: a few short messages, each checked before it is believed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.errors import InputError, require

__all__ = ["MESSAGE_BYTES", "hello", "read_message", "refused", "state"]

# What the page may change; recording and the end stay with whoever started the program.
OPEN_SETTINGS = ("score_threshold", "classes", "paused", "alpha", "labels")
MESSAGE_BYTES = 32 << 10  # room for the names of a thousand classes


def hello(title: str, controls: Controls) -> str:
    """Return the first message: what is looked at and the classes of the model."""
    return json.dumps({"kind": "hello", "title": title, "classes": controls.class_names})


def refused(message: str) -> str:
    """Return the message that a change was not made, and why."""
    return json.dumps({"kind": "refused", "message": message})


def state(
    number: int, shown: Shown | None, age: float, statistics: Statistics, controls: Controls, *, picture: bool
) -> str:
    """Return the message with everything that changes.

    Args:
        number: of the frame that is shown, from 1; 0 while there was none.
        shown: that frame.
        age: seconds since it came.
        statistics: as they are now, which while no frame comes are newer than the frame's.
        controls: their settings are those of now, which a frame that stands still does not have yet.
        picture: whether the next message is the frame's picture, as JPEG.
    """
    counts = {} if shown is None else Counter(shown.instances.names)
    return json.dumps(
        {
            "kind": "state",
            "number": number,
            "picture": picture,
            "age": round(age, 2),
            "latency": 0.0 if shown is None else round(shown.latency, 2),
            "instances": sum(counts.values()),
            "counts": counts,
            "statistics": statistics.to_dict(),
            "settings": controls.settings.to_dict(),
        }
    )


def read_message(text: str | bytes) -> dict[str, Any]:
    """Return what a page says: ``{"seen": N}``, ``{"watching": bool}`` or ``{"set": {...}}``, one of them.

    Raises:
        InputError: anything else.
    """
    require(isinstance(text, str), "a page's message must be text, got bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("a page's message must be JSON") from error
    require(isinstance(message, dict) and len(message) == 1, "a page's message must be an object with one entry")
    kind, value = next(iter(message.items()))
    kinds = {"seen": int, "watching": bool, "set": dict}
    require(
        kind in kinds and type(value) is kinds[kind],
        f"a page's message must be one of {', '.join(kinds)} with a value of its type, got {kind[:40]!r}",
    )
    if kind == "set":
        require(set(value) <= set(OPEN_SETTINGS), f"a page may change {', '.join(OPEN_SETTINGS)} only")
        classes = value.get("classes")
        require(
            classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes)),
            "classes must be a list of names, or null for all",
        )
    return dict(message)
