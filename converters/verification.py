"""What a verification found: one row per quantity and picture, each with its bound, and the verdict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ALL_PICTURES", "PROBES", "STAGES", "Finding", "Generated", "StageSummary", "Verification", "WorstPicture"]

# The last is what the artefact's manifest claims.
STAGES = ("preprocess", "network", "decode", "instances", "manifest")
ALL_PICTURES = "(all pictures)"
PROBES = "(export probes)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured quantity of one picture.

    Attributes:
        picture: file name; ``"(one colour)"`` and ``"(noise)"`` for the two frames that are always included;
            :data:`ALL_PICTURES` for a measurement over the user's pictures together, :data:`PROBES` for one on what
            exports are judged by.
        stage: one of :data:`STAGES`.
        quantity: what was measured, for example ``"kernels"`` or ``"recall at 0.5"``.
        value: the measurement.
        bound: what it is held to; None for a quantity that is only reported.
        at_least: the bound is a floor (recall) and not a ceiling (a difference).
        note: why the bound is not the usual one, or empty.
    """

    picture: str
    stage: str
    quantity: str
    value: float
    bound: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bound holds; True where there is none. NaN holds no bound."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain data; a value that is no finite number is None."""
        return {
            "picture": self.picture,
            "stage": self.stage,
            "quantity": self.quantity,
            "value": self.value if math.isfinite(self.value) else None,
            "bound": self.bound,
            "at_least": self.at_least,
            "passed": self.passed,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class StageSummary:
    """The worst of one quantity over all pictures; fields as in :class:`Finding`, ``picture`` is where it happened."""

    stage: str
    quantity: str
    worst: float
    bound: float | None
    at_least: bool
    picture: str
    passed: bool


@dataclass(frozen=True, slots=True)
class WorstPicture:
    """One of the pictures the artefact and PyTorch disagree on most.

    Attributes:
        picture: file name of the picture.
        path: the overlay: PyTorch, the artefact, and where they disagree.
        quality: panoptic quality of the artefact's instances against PyTorch's, 0..1, of those a person would be shown.
        missed: instances only PyTorch finds.
        extra: instances only the artefact finds.
        loose: instances both find, whose masks have an IoU below 0.9.
    """

    picture: str
    path: str
    quality: float
    missed: int
    extra: int
    loose: int


@dataclass(frozen=True, slots=True)
class Generated:
    """Instances on the generated frames, one of one colour and one of noise, counted apart from the pictures'.

    The frame of noise alone gives as many chance instances as a dozen pictures, most of them near a threshold: among
    the pictures' it would say nothing of what users see, and make rounding look worse than it is.

    Attributes:
        frames: how many were compared.
        matched: instances matched at IoU 0.5.
        expected: instances PyTorch finds, as in :class:`Verification`.
    """

    frames: int = 0
    matched: int = 0
    expected: int = 0


@dataclass(frozen=True, slots=True)
class Verification:
    """An artefact compared with the checkpoint it was made from.

    Attributes:
        artefact: path of the artefact.
        checkpoint: path of the checkpoint.
        precision: of the artefact.
        engine: what ran the artefact.
        pictures: how many of the user's were compared.
        matched: instances matched at IoU 0.5, over the user's pictures.
        expected: instances PyTorch finds, over the user's pictures; unmatched ones at the edge of a threshold, where
            rounding alone lets them come and go, are left out.
        findings: every row, in order of picture and stage.
        worst: the side-by-side overlays that were written, worst picture first.
        generated: the same counts over the generated frames.
    """

    artefact: str
    checkpoint: str
    precision: str
    engine: str
    pictures: int
    matched: int
    expected: int
    findings: tuple[Finding, ...]
    worst: tuple[WorstPicture, ...] = ()
    generated: Generated = Generated()

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return all(finding.passed for finding in self.findings)

    @property
    def verdicts(self) -> dict[str, bool]:
        """Stage -> whether every bound of it holds, in the order of :data:`STAGES`: a fault shows in its own stage."""
        found = {finding.stage for finding in self.findings}
        return {
            stage: all(finding.passed for finding in self.findings if finding.stage == stage)
            for stage in STAGES
            if stage in found
        }

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        found = f"{self.matched} of {self.expected} instances matched on {self.pictures} pictures"
        if self.generated.frames:
            apart = self.generated
            found += f", {apart.matched} of {apart.expected} on {apart.frames} generated frames"
        failed = [row for row in self.summary() if not row.passed]
        if not failed:
            return f"passed: {found}"
        worst = "; ".join(_in_words(row) for row in failed[:3])
        return f"failed: {worst}; {found}"

    def summary(self) -> list[StageSummary]:
        """Return one row per stage and quantity, stage by stage: a failed finding if there is one, else the worst."""
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in sorted(self.findings, key=lambda finding: STAGES.index(finding.stage)):
            groups.setdefault((finding.stage, finding.quantity), []).append(finding)
        return [_worst(rows) for rows in groups.values()]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain data."""
        stages = [
            {
                "stage": row.stage,
                "quantity": row.quantity,
                "worst": row.worst if math.isfinite(row.worst) else None,
                "bound": row.bound,
                "at_least": row.at_least,
                "picture": row.picture,
                "passed": row.passed,
            }
            for row in self.summary()
        ]
        return {
            "artefact": self.artefact,
            "checkpoint": self.checkpoint,
            "precision": self.precision,
            "engine": self.engine,
            "passed": self.passed,
            "verdict": self.verdict,
            "verdicts": self.verdicts,
            "pictures": self.pictures,
            "matched": self.matched,
            "expected": self.expected,
            "generated": asdict(self.generated),
            "stages": stages,
            "worst_pictures": [asdict(worst) for worst in self.worst],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def _worst(rows: list[Finding]) -> StageSummary:
    def badness(row: Finding) -> tuple[bool, float]:
        value = math.inf if math.isnan(row.value) else row.value
        return not row.passed, -value if row.at_least else value

    row = max(rows, key=badness)
    passed = all(finding.passed for finding in rows)
    return StageSummary(row.stage, row.quantity, row.value, row.bound, row.at_least, row.picture, passed)


def _in_words(row: StageSummary) -> str:
    limit = "at least" if row.at_least else "at most"
    where = {ALL_PICTURES: "over all pictures", PROBES: "on the export's probes"}.get(row.picture, f"on {row.picture}")
    return f"{row.stage} {row.quantity} is {row.worst:.3g} {where}, {limit} {row.bound:.3g} is wanted"
