"""Segmentation around the network as one would write it down, without a thought for time: what peers.py compares with.

Every step is done on whole maps, masks are resized on whole canvases. ``python benchmarks/plain_decode.py`` checks it
against the runtime's decoding.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from solov2_edge.runtime import Instances
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import variant

OPTIONS = DecodeOptions()
Frame = NDArray[np.uint8]


def plain_batch(frame: Frame, geometry: Geometry, spec: ModelSpec) -> Frame:
    """Prepare an ``image`` input plainly."""
    canvas = np.empty((geometry.input_height, geometry.input_width, 3), np.uint8)
    canvas[:] = np.round(spec.mean if spec.channel_order == "rgb" else spec.mean[::-1])
    small = cv2.resize(frame, (geometry.resized_width, geometry.resized_height), interpolation=cv2.INTER_LINEAR)
    canvas[: geometry.resized_height, : geometry.resized_width] = small[..., ::-1]
    return canvas[None]


def plain_selection(raw: RawOutputs, spec: ModelSpec) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return mask probabilities at quarter scale, scores and labels of the instances, every step on whole maps."""
    levels, start = [], 0
    for grid in spec.grids:
        level = raw.class_scores[start : start + grid * grid].reshape(grid, grid, -1)
        start += grid * grid
        padded = np.pad(level, ((1, 0), (1, 0), (0, 0)))
        peak = np.maximum.reduce([padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1], padded[:-1, :-1]])
        levels.append((level * (level == peak)).reshape(grid * grid, -1))
    scores = np.concatenate(levels)
    cells, labels = np.nonzero(scores > OPTIONS.score_threshold)
    scores = scores[cells, labels]
    strides = np.repeat(spec.strides, np.square(spec.grids))[cells]
    logits = np.tensordot(raw.kernels[cells], raw.mask_features, 1)
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-logits))
    masks = probability > OPTIONS.mask_threshold
    areas = masks.sum((1, 2))
    keep = areas > strides
    probability, masks, areas, scores, labels = (v[keep] for v in (probability, masks, areas, scores, labels))
    scores = (scores * ((probability * masks).sum((1, 2)) / areas)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")[: OPTIONS.max_candidates]
    probability, masks, areas, scores, labels = (v[order] for v in (probability, masks, areas, scores, labels))
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    common = flat @ flat.T
    iou = np.triu(common / (areas[:, None] + areas - common) * (labels[:, None] == labels), 1)
    largest = iou.max(axis=0, initial=0)[:, None]
    decay = (np.exp(-2 * iou**2) / np.exp(-2 * largest**2)).min(axis=0, initial=1)
    scores = (scores * decay).astype(np.float32)
    kept = np.flatnonzero(scores >= OPTIONS.keep_threshold)
    kept = kept[np.argsort(-scores[kept], kind="stable")][: OPTIONS.max_instances]
    return probability[kept], scores[kept], labels[kept]


def by_opencv(probability: NDArray[np.float32], geometry: Geometry) -> NDArray[np.bool_]:
    """Resize each mask on whole canvases, to the input and to the frame."""
    masks = np.zeros((len(probability), geometry.frame_height, geometry.frame_width), np.bool_)
    for mask, low in zip(masks, probability, strict=True):
        large = cv2.resize(low, (geometry.input_width, geometry.input_height), interpolation=cv2.INTER_LINEAR)
        large = large[: geometry.resized_height, : geometry.resized_width]
        size = (geometry.frame_width, geometry.frame_height)
        mask[:] = cv2.resize(large, size, interpolation=cv2.INTER_LINEAR) > OPTIONS.mask_threshold
    return masks


def by_torch(probability: NDArray[np.float32], geometry: Geometry) -> NDArray[np.bool_]:
    """Resize all masks together, to the input and to the frame."""
    size = (geometry.input_height, geometry.input_width)
    large = functional.interpolate(torch.from_numpy(probability)[None], size=size, mode="bilinear")
    large = large[..., : geometry.resized_height, : geometry.resized_width]
    size = (geometry.frame_height, geometry.frame_width)
    return (functional.interpolate(large, size=size, mode="bilinear")[0] > OPTIONS.mask_threshold).numpy()


def plain_decode(raw: RawOutputs, geometry: Geometry, spec: ModelSpec) -> Instances:
    """Return the instances of raw outputs, plainly."""
    probability, scores, labels = plain_selection(raw, spec)
    return Instances.from_masks(by_opencv(probability, geometry), scores, labels, spec.class_names)


def in_places(instances: Instances) -> NDArray[np.bool_]:
    """Return the masks ordered by the place of their boxes: equal scores leave the order to rounding."""
    x0, y0, _, _ = instances.boxes.T
    return instances.masks[np.lexsort((x0, y0))]


def main() -> None:
    """Decode outputs that hold 20 and 100 discs, plainly and by the runtime."""
    spec, geometry = variant("light-448-r18"), fixed_geometry(1080, 1920, 448, 768)
    for count in (20, 100):
        raw = planted_outputs(spec, geometry, count)
        plain, ours = plain_decode(raw, geometry, spec), decode(raw, geometry, spec, OPTIONS)
        np.testing.assert_allclose(plain.scores, ours.scores, atol=1e-6)
        theirs, mine = in_places(plain), in_places(ours)
        different = np.count_nonzero(theirs != mine)
        assert different <= 1e-6 * mine.size
        print(f"{count} instances: {different} of {mine.size} mask pixels differ from the runtime's")


if __name__ == "__main__":
    main()
