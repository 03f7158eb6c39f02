"""What the activations of an ML Program are, for calibrating int8 activations without a Mac."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from solov2_edge.converters.mil_execute import Observer, execute
from solov2_edge.converters.mil_program import Program
from solov2_edge.errors import require

__all__ = ["observe", "ranges"]


def observe(program: Program, feeds: Mapping[str, Tensor], callback: Observer) -> None:
    """Run a program once and call ``callback(name, value)`` for its inputs and for every result of every op.

    Constants are not reported. float16 comes as float32; values must not be changed.
    """
    execute(program, feeds, callback)


def ranges(program: Program, feeds: Iterable[Mapping[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest number of every activation over all feeds.

    Args:
        program: what to run.
        feeds: one mapping of inputs per picture.

    Returns:
        Name of every input and of every floating-point result -> (minimum, maximum).

    Raises:
        InputError: there is no feed, or an activation is infinite or no number: a float16 program overflowed.
    """
    found: dict[str, tuple[float, float]] = {}

    def widen(name: str, value: Tensor) -> None:
        if not value.is_floating_point() or value.numel() == 0:
            return
        low, high = (float(end) for end in value.aminmax())
        require(
            abs(low) < float("inf") and abs(high) < float("inf"),
            f"activation {name!r} ranges from {low:g} to {high:g}: the program overflows; use fp32 or other weights",
        )
        before = found.get(name, (low, high))
        found[name] = (min(before[0], low), max(before[1], high))

    for feed in feeds:
        observe(program, feed, widen)
    require(bool(found), "no picture to take activation statistics from")
    return found
