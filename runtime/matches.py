"""Which detections of a data set are right, kept so that AP can be recomputed over any selection of its pictures.

pycocotools matches detections with annotations picture by picture and only then adds the pictures up. What it has
matched is kept here per category, sorted by score; a picture that counts ``w`` times adds ``w`` to every sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["CategoryMatches", "Matches", "read_matches"]

_EPSILON = np.spacing(1)  # pycocotools', in the denominator of precision
_CHUNK = 4_000_000  # numbers in the largest temporary array: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class CategoryMatches:
    """The detections of one category by falling score, over all its object sizes.

    Attributes:
        picture: (D,) index of each detection's picture.
        right: (T, D) whether it is matched with an object, at each IoU threshold.
        counts: (T, D) whether it counts at all; one matched with a crowd does not.
        objects: (P,) objects in each picture, crowds left out.
    """

    picture: NDArray[np.intp]
    right: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    objects: NDArray[np.int64]

    def precision_sums(self, weights: NDArray[np.int64], recalls: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (B, T): the interpolated precision summed over ``recalls``, for each row of ``weights``.

        Args:
            weights: (B, P) how often each picture counts; every row must leave at least one object.
            recalls: (R,) the recalls precision is read at, rising from 0 to 1.
        """
        sums = np.zeros((len(weights), len(self.right)))
        needed = _needed(weights @ self.objects, recalls)
        seen: NDArray[np.int64] | None = None
        for t, (right, counts) in enumerate(zip(self.right, self.counts, strict=True)):
            # Detections that count are mostly the same at every threshold, and adding them up is the dear part.
            if seen is None or not np.array_equal(counts, self.counts[t - 1]):
                seen = np.cumsum(weights[:, self.picture] * counts, axis=1)
            places = np.flatnonzero(right & counts)
            if len(places):
                found = np.cumsum(weights[:, self.picture[places]], axis=1)
                sums[:, t] = _interpolated(found, seen[:, places], needed)
        return sums


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The matched detections of a whole evaluation.

    Attributes:
        pictures: (P,) the pictures' identities; two evaluations compare only if they are equal.
        categories: those with an object.
        recalls: (R,) the recalls precision is read at.
    """

    pictures: tuple[int | str, ...]
    categories: tuple[CategoryMatches, ...]
    recalls: NDArray[np.float64]

    def ap(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (B,) mask AP in points of 100 for each row of ``weights``.

        As in COCO, categories without an object in the chosen pictures are left out of the mean.

        Args:
            weights: (B, P) how often each picture counts, at least 0.

        Returns:
            AP; NaN for a row that leaves no object.
        """
        require(
            weights.ndim == 2 and weights.shape[1] == len(self.pictures),
            f"weights must be (n, {len(self.pictures)}), one per picture, got {weights.shape}",
        )
        sums, defined = np.zeros(len(weights)), np.zeros(len(weights))
        for category in self.categories:
            rows = np.flatnonzero(weights @ category.objects > 0)
            step = max(1, _CHUNK // max(1, len(category.picture)))
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                sums[part] += category.precision_sums(weights[part], self.recalls).mean(axis=1) / len(self.recalls)
            defined[rows] += 1
        ap = np.full(len(weights), np.nan)
        np.divide(100 * sums, defined, out=ap, where=defined > 0)
        return ap


def _needed(objects: NDArray[np.int64], recalls: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (B, R): the least number of objects that makes each recall, in pycocotools' own float64 division."""
    totals, inverse = np.unique(objects, return_inverse=True)
    table = [np.searchsorted(np.arange(total + 1) / total, recalls, side="left") for total in totals]
    return np.asarray(np.stack(table)[inverse.ravel()], np.int64)


def _interpolated(found: NDArray[np.int64], seen: NDArray[np.int64], needed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (B,): the largest precision at each recall or beyond, summed over the recalls.

    Precision rises at right detections only, so that they are all that has to be looked at.

    Args:
        found: (B, n) objects found up to each right detection, it included.
        seen: (B, n) detections up to there.
        needed: (B, R) objects each recall needs; more than there are gives precision 0.
    """
    precision = found / (seen + _EPSILON)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    # One search for all rows: each gets a range of numbers of its own.
    shift = np.arange(len(found))[:, None] * (max(int(found.max()), int(needed.max())) + 1)
    places = np.searchsorted((found + shift).ravel(), (needed + shift).ravel(), side="left").reshape(needed.shape)
    places -= np.arange(len(found))[:, None] * found.shape[1]
    return np.asarray(np.take_along_axis(best, places, axis=1).sum(axis=1))


def read_matches(
    per_picture: Sequence[dict[str, Any] | None],
    pictures: Sequence[int | str],
    areas: int,
    recalls: NDArray[np.float64],
    thresholds: int,
) -> Matches:
    """Read pycocotools' ``COCOeval.evalImgs``: per category, area range and picture what was matched.

    Args:
        per_picture: the list; None where a picture has neither objects nor detections of the category.
        pictures: the pictures' identities in pycocotools' order.
        areas: how many area ranges there are; the first is that of all objects.
        recalls: (R,) the recalls precision is read at.
        thresholds: how many IoU thresholds there are.
    """
    step = areas * len(pictures)
    entries = (per_picture[start : start + len(pictures)] for start in range(0, len(per_picture), step))
    found = (_read_category(entry, thresholds) for entry in entries)
    return Matches(tuple(pictures), tuple(category for category in found if category.objects.any()), recalls)


def _read_category(entries: Sequence[dict[str, Any] | None], thresholds: int) -> CategoryMatches:
    """Join the pictures of one category."""
    objects = np.array([0 if e is None else int(np.count_nonzero(np.asarray(e["gtIgnore"]) == 0)) for e in entries])
    rows = [(index, entry) for index, entry in enumerate(entries) if entry is not None and len(entry["dtScores"])]
    if not rows:
        nothing = np.zeros((thresholds, 0), np.bool_)
        return CategoryMatches(np.zeros(0, np.intp), nothing, nothing, objects)
    scores = np.concatenate([np.asarray(entry["dtScores"], np.float64) for _, entry in rows])
    order = np.argsort(-scores, kind="mergesort")  # pycocotools' order among equal scores
    picture = np.concatenate([np.full(len(entry["dtScores"]), index, np.intp) for index, entry in rows])[order]
    matched = np.concatenate([np.asarray(entry["dtMatches"]) != 0 for _, entry in rows], axis=1)[:, order]
    counts = ~np.concatenate([np.asarray(entry["dtIgnore"], np.bool_) for _, entry in rows], axis=1)[:, order]
    return CategoryMatches(picture, matched & counts, counts, objects)
