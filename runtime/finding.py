"""One line of ``solov2-edge doctor``: what was looked at, how it is, and the cure."""

from __future__ import annotations

from dataclasses import dataclass

from solov2_edge.errors import require

__all__ = ["STATES", "Finding", "judged"]

STATES = ("ok", "warning", "missing")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing.

    Attributes:
        topic: the heading it stands under, for example ``"cameras"``.
        name: of the thing.
        state: ``"ok"``; ``"warning"``: it works worse than it could; ``"missing"``: something cannot be done.
        text: what it is, in words.
        cure: what to do about it, a command where there is one; empty where nothing is wrong.
    """

    topic: str
    name: str
    state: str
    text: str
    cure: str = ""

    def __post_init__(self) -> None:
        require(self.state in STATES, f"a finding is {', '.join(STATES)}, got {self.state!r}")
        require(
            (self.state == "ok") == (not self.cure),
            f"{self.name}: a cure belongs to what is not ok, and to nothing else",
        )


def judged(topic: str, name: str, text: str, cure: str = "") -> Finding:
    """Return a finding that is a warning where there is a cure, else ok."""
    return Finding(topic, name, "warning" if cure else "ok", text, cure)
