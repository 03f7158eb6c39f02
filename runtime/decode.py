"""From raw outputs to instances, step by step as SOLO's and mmdetection's code has it (they agree bit for bit).

1. Candidates: (cell, class) scores above ``score_threshold`` (strict) that survive points NMS.
2. Their masks at quarter scale; a mask stays if its area exceeds its level's stride (a pixel count against a stride).
3. Score times maskness, the mean probability over the binary mask.
4. The best ``max_candidates``, Matrix NMS, scores of at least ``keep_threshold`` (not strict), the best
   ``max_instances``.
5. Masks resized to the frame; scores stay, and masks that turn out empty there stay too.

Sorts are stable: equal scores keep the candidates' order (levels, then cells row-major, then classes), where the
reference leaves ties to chance. The work is done for candidates only, and once per cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.dynamic_conv import level_kernels
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.matrix_nms import NMS_KERNELS, matrix_nms
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.quarter_masks import CHUNK_BYTES, QuarterMasks, chunks, mask_logits, measure_masks
from solov2_edge.runtime.raw_checks import check_finite, check_mask_features, check_shapes
from solov2_edge.runtime.scratch import scratch
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.upscale import axis_table, upscale_mask
from solov2_edge.spec import ModelSpec

__all__ = ["DecodeOptions", "decode"]

_SORTED_AT_ONCE = 8  # times the limit: more scores than that are cut down before they are sorted


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How raw outputs become instances; the defaults are the reference's.

    Attributes:
        score_threshold: class score a candidate must exceed, in [0, 1).
        keep_threshold: score an instance must reach after Matrix NMS, in [0, 1].
        mask_threshold: probability a mask's pixel must exceed, in (0, 1).
        max_candidates: candidates that enter Matrix NMS.
        max_instances: instances returned at most.
        nms_kernel: ``"gaussian"`` or ``"linear"``.
        nms_sigma: sigma of exp(-sigma * iou^2); above 0.
        points_nms: keep a class score only where no left, upper or upper-left neighbour exceeds it.
        area_filter: drop masks of at most as many quarter-scale pixels as their level's stride; without it, only
            empty ones.
    """

    score_threshold: float = 0.1
    keep_threshold: float = 0.05
    mask_threshold: float = 0.5
    max_candidates: int = 500
    max_instances: int = 100
    nms_kernel: str = "gaussian"
    nms_sigma: float = 2.0
    points_nms: bool = True
    area_filter: bool = True

    def __post_init__(self) -> None:
        require(
            _number(self.score_threshold) and 0 <= self.score_threshold < 1,
            f"score_threshold must be at least 0 and below 1, got {self.score_threshold!r}",
        )
        require(
            _number(self.keep_threshold) and 0 <= self.keep_threshold <= 1,
            f"keep_threshold must lie between 0 and 1, got {self.keep_threshold!r}",
        )
        require(
            _number(self.mask_threshold) and 0 < self.mask_threshold < 1,
            f"mask_threshold must be above 0 and below 1, got {self.mask_threshold!r}",
        )
        for name, value in (("max_candidates", self.max_candidates), ("max_instances", self.max_instances)):
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(good, f"{name} must be a whole number of at least 1, got {value!r}")
        require(
            self.nms_kernel in NMS_KERNELS,
            f"nms_kernel must be one of {', '.join(NMS_KERNELS)}, got {self.nms_kernel!r}",
        )
        require(
            _number(self.nms_sigma) and 0 < self.nms_sigma < math.inf,
            f"nms_sigma must be a finite number above 0, got {self.nms_sigma!r}",
        )
        for name, flag in (("points_nms", self.points_nms), ("area_filter", self.area_filter)):
            require(isinstance(flag, bool), f"{name} must be True or False, got {flag!r}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def decode(
    raw: RawOutputs,
    geometry: Geometry,
    spec: ModelSpec,
    options: DecodeOptions | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Instances:
    """Return the instances of one frame, scores falling.

    Args:
        raw: the network's outputs for this frame.
        geometry: how the frame became the network's input.
        spec: the network: grids, strides, class names.
        options: thresholds and limits; None is the reference's.
        chunk_bytes: bound on the quarter-scale logits in memory; changes the time taken, not the result.

    Raises:
        InputError: the outputs do not belong to this spec and geometry.
        SolovEdgeError: the outputs hold NaN or infinity.
    """
    options = DecodeOptions() if options is None else options
    check_shapes(raw, geometry, spec)
    check_finite("class scores", raw.class_scores)
    check_finite("kernels", raw.kernels)
    found = find_candidates(raw.class_scores, spec.grids, options.score_threshold, options.points_nms)
    cells, row = _distinct(found.cells)
    if not len(cells):
        check_finite("mask features", raw.mask_features)
        return Instances.empty(geometry.frame_height, geometry.frame_width, spec.class_names)
    kernels = level_kernels(raw.kernels[cells], cells, spec)
    at_once = next(chunks(len(kernels), raw.mask_features, chunk_bytes)).stop
    memory = scratch((at_once, *raw.mask_features.shape[1:]))
    quarter = measure_masks(kernels, raw.mask_features, options.mask_threshold, chunk_bytes, memory)
    check_mask_features(raw.mask_features, kernels, quarter.logits if spec.plain_kernels else None)

    smallest = _cell_strides(spec.grids, spec.strides)[found.cells] if options.area_filter else 0
    large = np.flatnonzero(quarter.packed.areas[row] > smallest)
    scores = found.scores[large] * quarter.maskness[row[large]]
    best = _falling(scores, options.max_candidates)
    large, scores = large[best], scores[best]

    labels, row = found.labels[large], row[large]
    scores = matrix_nms(quarter.packed.select(row), scores, labels, kernel=options.nms_kernel, sigma=options.nms_sigma)
    kept = np.flatnonzero(scores >= options.keep_threshold)
    kept = kept[_falling(scores[kept], options.max_instances)]
    masks = _frame_masks(kernels, quarter, row[kept], raw.mask_features, geometry, options.mask_threshold, chunk_bytes)
    return Instances(scores[kept], labels[kept], spec.class_names, masks)


def _falling(scores: NDArray[np.float32], limit: int) -> NDArray[np.intp]:
    """Return the indices of the ``limit`` largest scores, falling, ties in their present order."""
    if len(scores) <= _SORTED_AT_ONCE * limit:
        return np.argsort(-scores, kind="stable")[:limit]
    least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    best = np.flatnonzero(scores >= least)
    return best[np.argsort(-scores[best], kind="stable")[:limit]]


def _distinct(rising: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return ``np.unique(rising, return_inverse=True)`` of numbers that never fall, without sorting them."""
    new = np.ones(len(rising), np.bool_)
    np.not_equal(rising[1:], rising[:-1], out=new[1:])
    return rising[new], np.cumsum(new) - 1


def _frame_masks(
    kernels: NDArray[np.float32],
    quarter: QuarterMasks,
    rows: NDArray[np.intp],
    mask_features: NDArray[np.float32],
    geometry: Geometry,
    threshold: float,
    chunk_bytes: int,
) -> CroppedMasks:
    """Resize the masks ``rows`` of ``quarter`` to the frame; each distinct one once."""
    vertical = axis_table(mask_features.shape[1], geometry.resized_height, geometry.frame_height)
    horizontal = axis_table(mask_features.shape[2], geometry.resized_width, geometry.frame_width)
    distinct, position = np.unique(rows, return_inverse=True)
    corners, crops = [], []
    for part in chunks(len(distinct), mask_features, chunk_bytes):
        group = distinct[part]
        # What one chunk held is still there; several are computed again rather than kept.
        known = quarter.logits
        logits = mask_logits(kernels[group], mask_features) if known is None else [known[i] for i in group]
        for mask, box in zip(logits, quarter.packed.boxes[group], strict=True):
            corner, crop = upscale_mask(mask, box, vertical, horizontal, threshold)
            corners.append(corner)
            crops.append(crop)
    return CroppedMasks(
        geometry.frame_height,
        geometry.frame_width,
        tuple(corners[i] for i in position),
        tuple(crops[i] for i in position),
    )


@lru_cache(maxsize=8)
def _cell_strides(grids: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the stride of each cell's level, (cells,) int64."""
    return np.repeat(np.array(strides, np.int64), np.square(grids))
