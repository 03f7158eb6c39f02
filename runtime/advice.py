"""Which artefact to ship on this machine: the decision as a pure function of what was measured.

The rule, in order. What loses more accuracy than allowed is out. Of the rest the fastest wins; what takes at most 5 %
longer, or longer by less than the measurement can tell, is as fast. Among equally fast ones the most accurate wins if
accuracy differs, else the smallest. Nothing is assumed of a precision: int8 that is slower here is said to be so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from solov2_edge.errors import require
from solov2_edge.manifest import PRECISIONS

__all__ = ["Advice", "Candidate", "advise", "median_error"]

TIE = 0.05  # relative time; less is not felt, and changes from one hour to the next
ERRORS = 2.0  # standard errors that a difference in time must exceed to be one
SAME_AP = 0.1  # points; the noise of float16 against float32
FLOAT_PARITY = 1e-2  # of range: float16's bound, below which accuracy was never seen to move
FLOATS = ("fp32", "fp16")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was measured of one artefact.

    Attributes:
        name: file name.
        precision: one of :data:`solov2_edge.manifest.PRECISIONS`.
        size_bytes: size of the artefact.
        frame_ms: median milliseconds of a whole frame; None where it cannot be timed on this machine.
        ratio: median over the rounds of its time over the baseline's; None where not timed.
        ratio_error: standard error of ``ratio``.
        drop: points of mask AP below the baseline; None where AP was not measured.
        parity: largest difference from PyTorch its manifest records, as a part of the range; None: records none.
    """

    name: str
    precision: str
    size_bytes: int
    frame_ms: float | None = None
    ratio: float | None = None
    ratio_error: float = 0.0
    drop: float | None = None
    parity: float | None = None

    def __post_init__(self) -> None:
        require(self.precision in PRECISIONS, f"unknown precision {self.precision!r}")
        require(
            (self.frame_ms is None) == (self.ratio is None), f"{self.name} needs a time and a ratio, or neither of them"
        )
        require(self.ratio is None or self.ratio > 0, f"a ratio of times must be above 0, got {self.ratio}")


@dataclass(frozen=True, slots=True)
class Advice:
    """What to ship.

    Attributes:
        choice: file name; None if nothing meets the bound on accuracy.
        verdict: one sentence with the reason.
        reasons: name of every other candidate -> why not that one.
        accuracy_known: whether the choice rests on measured AP, and not on what manifests record.
    """

    choice: str | None
    verdict: str
    reasons: dict[str, str]
    accuracy_known: bool


def advise(candidates: Sequence[Candidate], baseline: str, max_drop: float) -> Advice:
    """Choose one of several artefacts of one network.

    Args:
        candidates: at least one that was timed, the baseline among them; either all have a drop or none.
        baseline: name of the one that ratios and drops are counted from.
        max_drop: points of mask AP that may be lost, at least 0.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    require(baseline in by_name, f"the baseline {baseline} must be one of the candidates")
    require(len(by_name) == len(candidates), "candidates must have names of their own")
    require(max_drop >= 0, f"the accuracy that may be lost must be at least 0 points, got {max_drop}")
    timed = [candidate for candidate in candidates if candidate.ratio is not None]
    fit = [candidate for candidate in timed if candidate.drop is None or candidate.drop <= max_drop]
    reasons = {c.name: "it cannot be timed on this machine" for c in candidates if c.ratio is None}
    reasons |= {c.name: _too_lossy(c, max_drop) for c in timed if c not in fit}
    known = all(candidate.drop is not None for candidate in fit)
    if not fit:
        return Advice(None, f"none of them is within {max_drop:g} points of {baseline}", reasons, known)
    fastest = min(fit, key=_ratio)
    chosen = min((c for c in fit if _as_fast(c, fastest)), key=lambda c: (_loss(c), c.size_bytes, _ratio(c)))
    reasons |= {c.name: _why_not(c, chosen) for c in fit if c is not chosen}
    return Advice(chosen.name, _verdict(chosen, by_name[baseline], timed), reasons, known)


def median_error(low: float, high: float, rounds: int) -> float:
    """Return the standard error of a median whose samples lie between ``low`` and ``high``, the middle 90 %.

    For a normal distribution: 90 % span 3.29 standard deviations, and a median's error is 1.253 sigma / sqrt(n).
    """
    return 1.253 * (high - low) / 3.29 / math.sqrt(max(rounds, 1))


def _ratio(candidate: Candidate) -> float:
    assert candidate.ratio is not None  # only what was timed is compared
    return candidate.ratio


def _as_fast(candidate: Candidate, other: Candidate) -> bool:
    """Whether ``candidate`` is as fast as a faster one."""
    relative = _ratio(candidate) / _ratio(other) - 1
    error = math.hypot(candidate.ratio_error / _ratio(candidate), other.ratio_error / _ratio(other))
    return relative <= max(TIE, ERRORS * error)


def _loss(candidate: Candidate) -> int:
    """Return the accuracy lost, in steps that can be told apart; without AP, whether float's parity is recorded."""
    if candidate.drop is not None:
        return max(0, round(candidate.drop / SAME_AP))
    return 0 if candidate.parity is not None and candidate.parity <= FLOAT_PARITY else 1


def _verdict(chosen: Candidate, baseline: Candidate, timed: Sequence[Candidate]) -> str:
    said = f"ship {chosen.name}: {chosen.frame_ms:.1f} ms a frame, {_megabytes(chosen)}"
    if chosen is not baseline:
        ratio = _ratio(chosen)
        speed = f"{1 / ratio:.2f} times as fast as" if ratio < 1 else f"{ratio:.2f} times the time of"
        said += f"; {speed} {baseline.name}"
        if chosen.drop is not None:
            said += f", {abs(chosen.drop):.2f} points of AP {'below' if chosen.drop > 0 else 'above'} it"
    rounded = [candidate for candidate in timed if candidate.precision not in FLOATS]
    if baseline.precision in FLOATS and rounded and min(map(_ratio, rounded)) >= 1:
        names = " and ".join(dict.fromkeys(candidate.precision for candidate in rounded))
        said += f"; {names} {'is' if len(rounded) == 1 else 'are'} no faster than {baseline.precision} here"
    return said


def _too_lossy(candidate: Candidate, max_drop: float) -> str:
    return f"it loses {candidate.drop:.2f} points of AP, at most {max_drop:g} are allowed"


def _why_not(candidate: Candidate, chosen: Candidate) -> str:
    relative = _ratio(candidate) / _ratio(chosen)
    if relative > 1 and not _as_fast(candidate, chosen):
        return f"it takes {relative:.2f} times as long"
    # One that is faster by a hair is a tie as well, or it had been chosen.
    if _loss(candidate) > _loss(chosen):
        lost = "its accuracy is not proven" if candidate.drop is None else f"it loses {candidate.drop:.2f} points of AP"
        return f"it is about as fast and {lost}"
    if candidate.size_bytes > chosen.size_bytes:
        return f"it is about as fast and larger ({_megabytes(candidate)})"
    return "it is about as fast and no better"


def _megabytes(candidate: Candidate) -> str:
    return f"{candidate.size_bytes / 1e6:.1f} MB"
