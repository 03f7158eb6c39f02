"""The cheapest layers to keep float so that a reduced network loses no more accuracy than allowed, for any engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from solov2_edge.errors import GateError, require

__all__ = ["Candidate", "Choice", "keep_float"]

Artefact = TypeVar("Artefact")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group of layers that can be kept float.

    Attributes:
        name: of the group.
        layers: its layers.
        gain: what keeping them float is expected to bring, in any unit, the same for all: points of AP, or dB.
        cost: what it costs, above 0: milliseconds, or multiplications where nothing was timed.
    """

    name: str
    layers: tuple[str, ...]
    gain: float
    cost: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What was found.

    Attributes:
        kept: the candidates whose layers stay float.
        drop: points of AP the network loses that way.
        cost: of the candidates, together.
        tried: how many networks were built and measured.
    """

    kept: tuple[Candidate, ...]
    drop: float
    cost: float
    tried: int

    @property
    def layers(self) -> frozenset[str]:
        """The layers that stay float."""
        return frozenset(layer for candidate in self.kept for layer in candidate.layers)


def keep_float(
    candidates: Sequence[Candidate],
    build: Callable[[frozenset[str]], Artefact],
    drop_of: Callable[[Artefact], float],
    max_drop: float,
    *,
    may: Callable[[frozenset[str]], bool] = lambda _layers: True,
    log: Callable[[str], None] | None = None,
) -> Choice:
    """Search for a cheap set of candidates that keeps the drop within ``max_drop``.

    Layers are tried in order of expected gain per cost: first as few of them as suffice, found by doubling and halving
    their number; then each one taken back, the dearest first, wherever the rest suffices. Only measured drops decide;
    the expected gains merely give the order. About ``2 log2(n) + k`` networks are measured for k layers kept of n.

    Args:
        candidates: what can be kept float.
        build: from the layers to keep float to an artefact, or anything that stands for it.
        drop_of: from that to the points of AP it loses against float, on pictures kept for this purpose.
        max_drop: points of AP that may be lost, at least 0.
        may: whether these layers may be float together; a candidate that may not join the better ones is left out.
        log: called with one line per network measured.

    Raises:
        InputError: a cost is not above 0, two candidates have one name, or ``max_drop`` is negative.
        GateError: even with all candidates float that may be, the drop is larger.
    """
    require(max_drop >= 0, f"the largest drop must be at least 0 points of AP, got {max_drop:g}")
    names = [candidate.name for candidate in candidates]
    require(len(set(names)) == len(names), "two groups of layers have the same name; give each its own")
    free = [candidate.name for candidate in candidates if not candidate.cost > 0]
    require(not free, f"keeping layers float must cost something, {', '.join(free)} costs nothing")
    say = log or (lambda _text: None)
    measured: dict[frozenset[str], float] = {}

    def drop(kept: Sequence[Candidate]) -> float:
        key = frozenset(candidate.name for candidate in kept)
        if key not in measured:
            layers = frozenset(layer for candidate in kept for layer in candidate.layers)
            measured[key] = drop_of(build(layers))
            said = f"{len(key)} kept float" if key else "nothing kept float"
            say(f"{said}: {measured[key]:.2f} points lost, {max_drop:g} allowed")
        return measured[key]

    order = _allowed(sorted(candidates, key=lambda one: (-one.gain / one.cost, one.name)), may)
    enough = _fewest(len(order), lambda count: drop(order[:count]) <= max_drop)
    if enough is None:
        many = "all" if len(order) == len(candidates) else "the most that may be,"
        raise GateError(
            f"with {many} {len(order)} groups of layers float the network still loses {drop(order):.2f} points of AP, "
            f"where {max_drop:g} are allowed; allow more, convert to fp16, or measure on more pictures"
        )
    kept = order[:enough]
    for candidate in sorted(kept, key=lambda candidate: (-candidate.cost, candidate.name)):
        rest = [other for other in kept if other is not candidate]
        if drop(rest) <= max_drop:
            kept = rest
    return Choice(tuple(kept), drop(kept), sum(candidate.cost for candidate in kept), len(measured))


def _allowed(order: Sequence[Candidate], may: Callable[[frozenset[str]], bool]) -> list[Candidate]:
    """Return the candidates, best first, without those that may not be float together with better ones."""
    taken: list[Candidate] = []
    layers: frozenset[str] = frozenset()
    for candidate in order:
        if may(layers | frozenset(candidate.layers)):
            taken.append(candidate)
            layers |= frozenset(candidate.layers)
    return taken


def _fewest(count: int, suffices: Callable[[int], bool]) -> int | None:
    """Return a number from 0 to ``count`` that suffices while the one below does not, None where none is found."""
    too_few, tried = -1, 0
    while not suffices(tried):
        if tried == count:
            return None
        too_few, tried = tried, min(max(2 * tried, 1), count)
    while tried - too_few > 1:
        middle = (tried + too_few) // 2
        if suffices(middle):
            tried = middle
        else:
            too_few = middle
    return tried
