"""Are the instances the same: matched recall and precision, mask IoU, score differences, and what they are held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from solov2_edge.converters.matching import Matching, match
from solov2_edge.converters.tolerances import DECODE, Overall, PerPicture
from solov2_edge.converters.verification import ALL_PICTURES, Finding
from solov2_edge.runtime import DecodeOptions, Instances

__all__ = [
    "Agreement",
    "InstanceParity",
    "compare_instances",
    "decode_findings",
    "overall_findings",
    "picture_findings",
]

OVERALL_SHARE = 0.9  # of the matched pairs keep to the score difference that is stated


@dataclass(frozen=True, slots=True)
class Agreement:
    """Instances of two results at one mask IoU; indices are ranks by score.

    An unmatched instance at the edge of a threshold is neither missed nor extra: rounding alone lets it come and go.

    Attributes:
        matched: pairs.
        missed: instances only the reference has.
        extra: instances only the artefact has.
    """

    matched: int
    missed: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def recall(self) -> float:
        """Matched of the reference's instances; nothing to find is 1."""
        return _share(self.matched, len(self.missed))

    @property
    def precision(self) -> float:
        """Matched of the artefact's instances; nothing found is 1."""
        return _share(self.matched, len(self.extra))


@dataclass(frozen=True, slots=True)
class InstanceParity:
    """One picture's instances, the artefact's against PyTorch's.

    Attributes:
        at_50: at mask IoU 0.5.
        at_90: at mask IoU 0.9.
        ious: mask IoU of the pairs matched at 0.5.
        scores: score differences of those pairs, without the ones at the edge of a threshold: a mask is decayed by
            better ones only, so what comes and goes at the edge leaves scores above it alone.
    """

    at_50: Agreement
    at_90: Agreement
    ious: tuple[float, ...]
    scores: tuple[float, ...]


def compare_instances(reference: Instances, ours: Instances, options: DecodeOptions, margin: float) -> InstanceParity:
    """Match the artefact's instances with the reference's.

    Args:
        reference: PyTorch's instances.
        ours: the artefact's, of the same frame.
        options: how both were decoded.
        margin: how near a threshold a score must be for its instance to come and go without blame. The edge reaches
            that far above the score threshold (a class score there becomes a score no higher), and above the lowest
            score of a result cut at ``max_instances``.
    """
    matching = match(reference, ours)
    edge = _edge(reference, ours, options) + margin
    good = [place for place, iou in enumerate(matching.ious) if iou >= 0.5]
    scores = [
        matching.score_differences[place]
        for place in good
        if min(reference.scores[matching.pairs[place][0]], ours.scores[matching.pairs[place][1]]) > edge
    ]
    return InstanceParity(
        at_50=_agreement(reference, ours, matching, 0.5, edge),
        at_90=_agreement(reference, ours, matching, 0.9, edge),
        ious=tuple(matching.ious[place] for place in good),
        scores=tuple(scores),
    )


def decode_findings(picture: str, oracle: Instances, ours: Instances, options: DecodeOptions) -> Iterator[Finding]:
    """Compare two decodings of the same raw outputs: same instances, same scores, same masks."""
    matching = match(oracle, ours)
    same = _agreement(oracle, ours, matching, DECODE.iou, _edge(oracle, ours, options) + DECODE.score)
    yield Finding(picture, "decode", "instances in common", min(same.recall, same.precision), 1.0, at_least=True)
    yield Finding(picture, "decode", "score", max(matching.score_differences, default=0.0), DECODE.score)


def picture_findings(picture: str, parity: InstanceParity, bounds: PerPicture, *, noisy: bool) -> Iterator[Finding]:
    """Give one picture's rows.

    Args:
        picture: name for the rows.
        parity: what was compared.
        bounds: what the picture is held to.
        noisy: the network's own rounding noise is above the bound on this picture, so the rows are only reported.
    """
    note = "only reported: the network's own rounding noise is above the bound here" if noisy else ""
    for iou, agreement, bound in ((0.5, parity.at_50, bounds.at_50), (0.9, parity.at_90, bounds.at_90)):
        held = None if noisy else bound
        for name, value in (("recall", agreement.recall), ("precision", agreement.precision)):
            yield Finding(picture, "instances", f"{name} at {iou}", value, held, at_least=True, note=note)
    yield Finding(picture, "instances", "mean mask IoU", _mean(parity.ious), at_least=True)
    name = "score" if bounds.share == 1 else f"score of {bounds.share:.0%}"
    yield Finding(
        picture, "instances", name, _quantile(parity.scores, bounds.share), None if noisy else bounds.score, note=note
    )


def overall_findings(parities: Sequence[InstanceParity], bounds: Overall) -> Iterator[Finding]:
    """Give the rows of all pictures together.

    Of few instances one may always differ: no share of three instances tells rounding from a fault.

    Args:
        parities: one per picture.
        bounds: what they are held to.
    """
    for iou, agreements, bound in (
        (0.5, [parity.at_50 for parity in parities], bounds.at_50),
        (0.9, [parity.at_90 for parity in parities], bounds.at_90),
    ):
        matched = sum(agreement.matched for agreement in agreements)
        for name, apart in (
            ("recall", sum(len(agreement.missed) for agreement in agreements)),
            ("precision", sum(len(agreement.extra) for agreement in agreements)),
        ):
            held = None if bound is None else min(bound, _share(matched + apart - 1, 1))
            value = _share(matched, apart)
            yield Finding(ALL_PICTURES, "instances", f"overall {name} at {iou}", value, held, at_least=True)
    ious = [iou for parity in parities for iou in parity.ious]
    yield Finding(ALL_PICTURES, "instances", "overall mean mask IoU", _mean(ious), bounds.iou, at_least=True)
    scores = [score for parity in parities for score in parity.scores]
    name = f"overall score of {OVERALL_SHARE:.0%}"
    yield Finding(ALL_PICTURES, "instances", name, _quantile(scores, OVERALL_SHARE), bounds.score)


def _agreement(reference: Instances, ours: Instances, matching: Matching, iou: float, edge: float) -> Agreement:
    in_reference, in_ours = matching.matched(iou)
    return Agreement(
        len(in_reference),
        tuple(i for i, score in enumerate(reference.scores) if i not in in_reference and score > edge),
        tuple(i for i, score in enumerate(ours.scores) if i not in in_ours and score > edge),
    )


def _edge(reference: Instances, ours: Instances, options: DecodeOptions) -> float:
    """Return the score below which rounding alone lets an instance come and go."""
    edge = max(options.score_threshold, options.keep_threshold)
    for result in (reference, ours):
        if len(result) == options.max_instances:
            edge = max(edge, float(result.scores[-1]))
    return edge


def _share(matched: int, apart: int) -> float:
    return matched / (matched + apart) if matched + apart > 0 else 1.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 1.0


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share, method="lower")) if values else 0.0
