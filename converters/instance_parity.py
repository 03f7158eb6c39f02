"""Are the instances the same: matched recall and precision, mask IoU, score differences, and what they are held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from solov2_edge.converters.matching import Matching, match
from solov2_edge.converters.verification import Finding
from solov2_edge.runtime import DecodeOptions, Instances

__all__ = ["decode_findings", "instance_findings"]


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds at one precision.

    Attributes:
        at_50, at_90: least recall and precision at mask IoU 0.5 and 0.9; None: reported only.
        score: score difference that ``share`` of the matched pairs must keep to; None: reported only.
        share: below 1 where rounding is coarse enough to swap near-equal masks, whose decay then swaps as well.
        margin: how near a threshold a score must be for its instance to come and go without blame.
    """

    at_50: float
    at_90: float | None
    score: float | None
    share: float
    margin: float


BOUNDS = {
    "fp32": _Bounds(1.0, 1.0, 1e-4, 1.0, 0.001),
    "fp16": _Bounds(0.95, 0.9, 0.02, 0.9, 0.02),
}
INTEGER_BOUNDS = _Bounds(0.8, None, None, 0.9, 0.05)
# The runtime's decoding against the oracle's, on the same numbers (the design's bounds).
DECODE_IOU, DECODE_SCORE = 0.999, 1e-4


def decode_findings(picture: str, oracle: Instances, ours: Instances, options: DecodeOptions) -> Iterator[Finding]:
    """Compare two decodings of the same raw outputs: same instances, same scores, same masks."""
    matching = match(oracle, ours)
    recall, precision, _ = _rates(oracle, ours, matching, DECODE_IOU, options, DECODE_SCORE)
    yield Finding(picture, "decode", "instances in common", min(recall, precision), 1.0, at_least=True)
    yield Finding(picture, "decode", "score", max(matching.score_differences, default=0.0), DECODE_SCORE)


def instance_findings(
    picture: str, reference: Instances, ours: Instances, options: DecodeOptions, precision: str, *, noisy: bool
) -> tuple[list[Finding], int]:
    """Compare the artefact's instances with PyTorch's.

    Args:
        picture: name for the rows.
        reference: PyTorch's instances.
        ours: the artefact's.
        options: how both were decoded.
        precision: of the artefact.
        noisy: the network's own rounding noise is above the bound on this picture, so the rows are only reported.

    Returns:
        The rows, and how many of the reference's instances are matched at IoU 0.5.
    """
    bounds = BOUNDS.get(precision, INTEGER_BOUNDS)
    matching = match(reference, ours)
    note = "only reported: the network's own rounding noise is above the bound here" if noisy else ""
    rows = []
    found = 0
    for iou, bound in ((0.5, bounds.at_50), (0.9, bounds.at_90)):
        held = None if noisy else bound
        recall, exact, count = _rates(reference, ours, matching, iou, options, bounds.margin)
        rows.append(Finding(picture, "instances", f"recall at {iou}", recall, held, at_least=True, note=note))
        rows.append(Finding(picture, "instances", f"precision at {iou}", exact, held, at_least=True, note=note))
        found = count if iou == 0.5 else found
    mean = float(np.mean(matching.ious)) if matching.ious else 1.0
    rows.append(Finding(picture, "instances", "mean mask IoU", mean, at_least=True))
    name = "score" if bounds.share == 1 else f"score of {bounds.share:.0%}"
    apart = _score_difference(reference, ours, matching, options, bounds)
    rows.append(Finding(picture, "instances", name, apart, None if noisy else bounds.score, note=note))
    return rows, found


def _score_difference(
    reference: Instances, ours: Instances, matching: Matching, options: DecodeOptions, bounds: _Bounds
) -> float:
    """Return what the score differences of ``bounds.share`` of the pairs above the edge of a threshold keep to.

    A mask is decayed by better ones only, so what comes and goes at the edge leaves scores above it alone.
    """
    edge = _edge(reference, ours, options) + bounds.margin
    apart = [
        difference
        for (i, j), difference in zip(matching.pairs, matching.score_differences, strict=True)
        if min(reference.scores[i], ours.scores[j]) > edge
    ]
    return float(np.quantile(apart, bounds.share, method="lower")) if apart else 0.0


def _edge(reference: Instances, ours: Instances, options: DecodeOptions) -> float:
    """Return the score below which rounding alone lets an instance come and go."""
    edge = max(options.score_threshold, options.keep_threshold)
    for result in (reference, ours):
        if len(result) == options.max_instances:
            edge = max(edge, float(result.scores[-1]))
    return edge


def _rates(
    reference: Instances, ours: Instances, matching: Matching, iou: float, options: DecodeOptions, margin: float
) -> tuple[float, float, int]:
    """Return recall, precision and the number matched at ``iou``; nothing to find and nothing found is 1.

    An unmatched instance at the edge of a threshold counts for neither: rounding alone lets it come and go. The edge
    reaches up to ``margin`` above the score threshold (a class score there becomes a score no higher), and above the
    lowest score of a result cut at ``max_instances``.
    """
    in_reference, in_ours = matching.matched(iou)
    recall = _rate(reference, in_reference, ours, options, margin)
    precision = _rate(ours, in_ours, reference, options, margin)
    return recall, precision, len(in_reference)


def _rate(whole: Instances, matched: set[int], other: Instances, options: DecodeOptions, margin: float) -> float:
    edge = _edge(whole, other, options)
    missed = sum(1 for i, score in enumerate(whole.scores) if i not in matched and score > edge + margin)
    return len(matched) / (len(matched) + missed) if len(matched) + missed else 1.0
