"""Time the stages of decoding at 112 x 192 masks and a 1080p frame: one thread, process CPU time, best of several.

Each stage's result is checked after it was timed. Run with ``python benchmarks/decode.py``; prints one line per stage
with the design's bound where it has one.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.matrix_nms import matrix_nms, pack
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.quarter_masks import measure_masks, probabilities
from solov2_edge.runtime.rle import decode_rle
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.upscale import axis_table, upscale_mask
from solov2_edge.variants import variant

T = TypeVar("T")
SPEC = variant("light-448-r18")
GEOMETRY = fixed_geometry(1080, 1920, 448, 768)
HEIGHT, WIDTH = 112, 192
RNG = np.random.default_rng(0)


def timed(label: str, work: Callable[[], T], bound: str = "", repeats: int = 9) -> T:
    """Run ``work`` several times, print its best CPU time in milliseconds, return its result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    print(f"{label:<52} {1000 * best:8.2f} ms  {bound}")
    return result


def blobs(count: int) -> NDArray[np.float32]:
    """Logits (count, 112, 192) of ellipses with semi-axes of 3 to 30 quarter-scale pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre, axes = RNG.uniform(0, (HEIGHT, WIDTH), (count, 2)), RNG.uniform(3, 30, (count, 2))
    distance = [np.hypot((y - cy) / ry, (x - cx) / rx) for (cy, cx), (ry, rx) in zip(centre, axes, strict=True)]
    return (6 - 6 * np.array(distance)).astype(np.float32)


def two_step(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The reference's full-size resize of one mask, by OpenCV."""
    large = cv2.resize(probabilities(logits), (4 * WIDTH, 4 * HEIGHT), interpolation=cv2.INTER_LINEAR)
    large = large[: GEOMETRY.resized_height, : GEOMETRY.resized_width]
    return np.asarray(cv2.resize(large, (1920, 1080), interpolation=cv2.INTER_LINEAR) > 0.5)


def dense_decay(binary: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Matrix NMS by its definition, all pairs."""
    flat = binary.reshape(len(binary), -1).astype(np.float32)
    common, areas = flat @ flat.T, flat.sum(axis=1)
    iou = np.triu(common / (areas[:, None] + areas - common) * (labels[:, None] == labels), 1)
    return np.asarray(np.exp(-2 * (iou**2 - iou.max(axis=0)[:, None] ** 2)).min(axis=0))


def time_nms() -> None:
    """500 masks: packing, then IoU and decay, at 80, 8 and 1 classes."""
    binary = blobs(500) > 0
    packed = timed("pack 500 masks (areas, boxes)", lambda: pack(binary))
    np.testing.assert_array_equal(packed.areas, binary.sum((1, 2)))
    scores = np.sort(RNG.random(500).astype(np.float32))[::-1]
    for classes in (80, 8, 1):
        labels = RNG.integers(0, classes, 500)
        bound = "bound 6 ms with packing" if classes == 80 else ""
        decay = partial(matrix_nms, packed, scores, labels)
        decayed = timed(f"Matrix NMS, 500 masks, {classes} classes", decay, bound)
        np.testing.assert_allclose(decayed, scores * dense_decay(binary, labels), atol=1e-5)


def time_upscale() -> None:
    """100 masks from quarter scale to 1080p, and what is made of them."""
    logits = blobs(100)
    boxes = pack(logits > 0).boxes
    rows = axis_table(HEIGHT, GEOMETRY.resized_height, 1080)
    columns = axis_table(WIDTH, GEOMETRY.resized_width, 1920)

    def crops() -> list[Any]:
        return [upscale_mask(mask, box, rows, columns, 0.5) for mask, box in zip(logits, boxes, strict=True)]

    corners, parts = zip(*timed("100 masks to 1080p, as crops", crops, "bound 20 ms"), strict=True)
    masks = CroppedMasks(1080, 1920, corners, parts)
    instances = Instances(np.linspace(1, 0.5, 100, dtype=np.float32), np.zeros(100, np.int64), ("blob",), masks)
    dense = timed("100 masks pasted into canvases", lambda: instances.masks, repeats=2)
    different = sum(int(np.count_nonzero(two_step(a) != b)) for a, b in zip(logits, dense, strict=True))
    assert different <= 1e-6 * dense.size, f"{different} pixels differ from the two-step resize"
    rles = timed("100 RLE strings from crops", instances.rle, repeats=3)
    assert all((decode_rle(rle) == mask).all() for rle, mask in zip(rles, dense, strict=True))
    outlines = timed("100 exact outlines", instances.polygons, repeats=3)
    assert all(len(parts) >= 1 for parts in outlines)


def time_decode(cells: int, kept: int) -> None:
    """A whole frame: ``cells`` candidates, the best ``kept`` of them returned."""
    chosen = RNG.choice(SPEC.num_cells, cells, replace=False)
    scores = np.full((SPEC.num_cells, SPEC.num_classes), 0.01, np.float32)
    scores[chosen, RNG.integers(0, SPEC.num_classes, cells)] = RNG.uniform(0.2, 0.9, cells)
    # One channel per blob and E blobs in all: a kernel picks one.
    features = np.ascontiguousarray(blobs(SPEC.mask_channels))
    kernels = np.zeros((SPEC.num_cells, SPEC.mask_channels), np.float32)
    kernels[np.arange(SPEC.num_cells), RNG.integers(0, SPEC.mask_channels, SPEC.num_cells)] = 1
    raw = RawOutputs(scores, kernels, features)
    found = timed(f"candidates of 3872 cells ({cells})", lambda: find_candidates(scores, SPEC.grids, 0.1, True))
    count = len(found)
    timed(f"{count} masks at quarter scale", lambda: measure_masks(kernels[found.cells], features, 0.5), repeats=3)
    options = DecodeOptions(max_instances=kept)
    instances = timed(
        f"decode, {len(found)} candidates, {kept} instances", lambda: decode(raw, GEOMETRY, SPEC, options)
    )
    assert len(instances) == kept


if __name__ == "__main__":
    cv2.setNumThreads(1)
    time_nms()
    time_upscale()
    time_decode(60, 20)
    time_decode(500, 100)
