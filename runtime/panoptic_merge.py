"""Instances and semantic logits merged into one panoptic map, in numpy.

Reference: Kirillov et al., Panoptic Segmentation and Panoptic Feature Pyramid Networks (both CVPR 2019). Instances, in
falling order of score, take the pixels that are still free; one that finds more than the overlap threshold of its mask
taken is left out. Stuff takes what no instance took; "other" stays void, and so does stuff below the area limit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic import Panoptic, PanopticOptions, PanopticSegment
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.raw_checks import check_finite
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.upscale import axis_table
from solov2_edge.spec import ModelSpec

__all__ = ["decode_panoptic", "merge_panoptic", "require_stuff", "semantic_map"]

_BAND = 16  # frame rows enlarged at once: what is compared stays in a processor's cache


def decode_panoptic(
    raw: RawOutputs, geometry: Geometry, spec: ModelSpec, options: DecodeOptions, merging: PanopticOptions
) -> Panoptic:
    """Return the panoptic map of one frame.

    Args:
        raw: the network's outputs for this frame, semantic logits included.
        geometry: how the frame became the network's input.
        spec: the network.
        options: how raw outputs become instances.
        merging: how instances and stuff are merged.

    Raises:
        InputError: the network has no stuff, or the outputs are not those of the spec and geometry.
        SolovEdgeError: an output is not finite.
    """
    logits = require_stuff(raw, spec)
    instances = decode(raw, geometry, spec, options)
    check_finite("semantic logits", logits)
    return merge_panoptic(instances, semantic_map(logits, geometry), spec.stuff_names, merging)


def require_stuff(raw: RawOutputs, spec: ModelSpec) -> NDArray[np.float32]:
    """Return the semantic logits.

    Raises:
        InputError: there are none, or not one channel per stuff and one for the rest.
    """
    if not spec.stuff_names or raw.semantic_logits is None:
        raise InputError(
            f"{spec.name} segments instances only: it was trained without stuff, which a panoptic map needs; train it "
            "on COCO panoptic annotations"
        )
    if len(raw.semantic_logits) != len(spec.stuff_names) + 1:
        raise InputError(
            f"semantic logits must have {len(spec.stuff_names) + 1} channels for {spec.name}, got "
            f"{len(raw.semantic_logits)}; the manifest describes another network"
        )
    return raw.semantic_logits


def semantic_map(logits: NDArray[np.float32], geometry: Geometry) -> NDArray[np.int32]:
    """Return the channel of the largest logit of every frame pixel, (H, W) int32; the first of equal ones.

    Logits are enlarged as masks are: bilinear by 4 to the padded input, cropped to the picture, bilinear to the frame.

    Args:
        logits: (channels, h, w) float32 at a quarter of the input.
        geometry: how the frame became the network's input.
    """
    rows = axis_table(logits.shape[1], geometry.resized_height, geometry.frame_height)
    columns = axis_table(logits.shape[2], geometry.resized_width, geometry.frame_width)
    wide = logits @ columns.transposed  # (channels, h, W)
    best = np.zeros((geometry.frame_height, geometry.frame_width), np.int32)
    for start in range(0, geometry.frame_height, _BAND):
        stop = min(start + _BAND, geometry.frame_height)
        low, high = rows.first[start], rows.end[stop - 1]
        weights, band = rows.weights[start:stop, low:high], best[start:stop]
        largest = weights @ wide[0, low:high]
        # A fifth of what argmax over all channels takes.
        for channel in range(1, len(logits)):
            values = weights @ wide[channel, low:high]
            np.copyto(band, channel, where=values > largest)
            np.maximum(values, largest, out=largest)
    return best


def merge_panoptic(
    instances: Instances, semantic: NDArray[np.int32], stuff_names: tuple[str, ...], options: PanopticOptions
) -> Panoptic:
    """Merge instances and a semantic map of one frame.

    Args:
        instances: scores falling.
        semantic: (H, W) int32, index into ``stuff_names``, or their number for "other".
        stuff_names: names of stuff.
        options: thresholds.
    """
    ids = np.zeros(instances.frame_shape, np.int32)
    segments: list[PanopticSegment] = []
    for crop, (y0, x0), score, label in zip(
        instances.cropped.crops, instances.cropped.corners, instances.scores, instances.labels, strict=True
    ):
        if score < options.score_threshold:
            break  # scores fall
        under = ids[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
        free = crop & (under == 0)
        area, left = int(np.count_nonzero(crop)), int(np.count_nonzero(free))
        if left == 0 or area - left > options.overlap_threshold * area:
            continue
        segments.append(PanopticSegment(len(segments) + 1, int(label), True, float(score), left))
        under[free] = len(segments)
    unclaimed = ids == 0
    areas = np.bincount(semantic[unclaimed], minlength=len(stuff_names) + 1)
    id_of = np.zeros(len(areas), np.int32)
    for channel in range(len(stuff_names)):
        area = int(areas[channel])
        if area > 0 and area >= options.stuff_area:
            label = len(instances.class_names) + channel
            segments.append(PanopticSegment(len(segments) + 1, label, False, None, area))
            id_of[channel] = len(segments)
    np.copyto(ids, id_of[semantic], where=unclaimed)
    return Panoptic(ids, tuple(segments), instances.class_names + stuff_names, instances)
