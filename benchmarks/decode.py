"""Time every step from a 1080p frame to its instances: one thread, process CPU time, best of several.

One line per step of frame -> preprocess -> session -> RawOutputs -> decode -> Instances, for Light-448-R18's shapes
(the session: the bundled nano file), with the design's bound where it has one. Each result is checked after it was
timed. Run with ``python benchmarks/decode.py``.
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

from solov2_edge.bundled import bundle
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.contract import engine_outputs
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.matrix_nms import matrix_nms
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.packed_masks import pack
from solov2_edge.runtime.pair_iou import common_by_product, common_by_words, pair_iou, touching_pairs
from solov2_edge.runtime.pictures import list_pictures, read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.runtime.quarter_masks import measure_masks, probabilities
from solov2_edge.runtime.raw_checks import check_finite
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


def two_step(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The reference's full-size resize of one mask to (H, W), by OpenCV."""
    geometry = fixed_geometry(*size, 448, 768)
    large = cv2.resize(probabilities(logits), (4 * WIDTH, 4 * HEIGHT), interpolation=cv2.INTER_LINEAR)
    large = large[: geometry.resized_height, : geometry.resized_width]
    return np.asarray(cv2.resize(large, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5)


def dense_iou(binary: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """IoU by its definition, all pairs, upper triangle."""
    flat = binary.reshape(len(binary), -1).astype(np.float32)
    common, areas = flat @ flat.T, flat.sum(axis=1)
    return np.asarray(np.triu(common / (areas[:, None] + areas - common) * (labels[:, None] == labels), 1))


def time_preprocess() -> None:
    """A 1080p frame to 448 x 768, as both kinds of input."""
    frame = RNG.integers(0, 256, (1080, 1920, 3), np.uint8)
    resized = cv2.resize(frame, (768, 432), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    image = timed("frame -> uint8 image", lambda: preprocess(frame, GEOMETRY, "image", SPEC))
    np.testing.assert_array_equal(image[0, :432], resized)
    assert (image[0, 432:] == np.round(SPEC.mean)).all()
    tensor = timed("frame -> float32 tensor", lambda: preprocess(frame, GEOMETRY, "tensor", SPEC))
    plain = (resized.astype(np.float32) - np.float32(SPEC.mean)) / np.float32(SPEC.std)
    np.testing.assert_array_equal(tensor[0, :, :432], plain.transpose(2, 0, 1))


def time_session() -> None:
    """The bundled network, and what is done with the arrays an engine gives."""
    picture = read_picture(list_pictures(bundle().pictures)[0])
    with OrtSession(bundle().artefact, threads=1) as session:
        spec, contract = session.manifest.spec, session.manifest.input
        geometry = fixed_geometry(*picture.shape[:2], contract.height, contract.width)
        batch = preprocess(picture, geometry, contract.kind, spec)
        raw = timed("session: nano-nuclei.fp32.onnx at 448 x 448", lambda: session.run(batch))
        arrays = [array[None] for array in (raw.class_scores, raw.kernels, raw.mask_features)]
        again = timed("engine's arrays -> RawOutputs", lambda: engine_outputs(arrays, session.manifest))
    assert isinstance(again, RawOutputs)
    assert np.shares_memory(again.mask_features, raw.mask_features)
    instances = timed("decode, its own instances", lambda: decode(raw, geometry, spec))
    assert len(instances) > 20
    assert (instances.scores > 0).all()


def time_nms() -> None:
    """500 masks: packing, then IoU and decay, at 80, 8 and 1 classes."""
    binary = blobs(500) > 0
    packed = timed("pack 500 masks (areas, boxes)", lambda: pack(binary))
    np.testing.assert_array_equal(packed.areas, binary.sum((1, 2)))
    scores = np.sort(RNG.random(500).astype(np.float32))[::-1]
    for classes in (80, 8, 1):
        labels = RNG.integers(0, classes, 500)
        first, second = timed(f"pairs that touch, 500 masks, {classes} classes", partial(touching, packed, labels))
        iou = timed(f"IoU of {len(first)} pairs", partial(pair_iou, packed, labels, first, second))
        dense = dense_iou(binary, labels)
        np.testing.assert_array_equal(iou, dense[first, second])
        bound = "bound 6 ms with packing" if classes == 80 else ""
        decayed = timed("Matrix NMS: pairs, IoU and decay", partial(matrix_nms, packed, scores, labels), bound)
        decay = np.exp(-2 * (dense**2 - dense.max(axis=0)[:, None] ** 2)).min(axis=0)
        np.testing.assert_allclose(decayed, scores * decay, atol=1e-5)
    shifts = RNG.integers(-4, 5, (200, 2)).tolist()
    crowd = pack(np.array([np.roll(binary[0], shift, (0, 1)) for shift in shifts]))
    first, second = touching(crowd, np.zeros(200, np.int64))
    words = timed("200 masks in one place: by words", lambda: common_by_words(crowd, first, second))
    product = timed("200 masks in one place: by a product", lambda: common_by_product(crowd))
    np.testing.assert_array_equal(product[first, second], words)


def touching(packed: Any, labels: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs that touch."""
    return touching_pairs(packed.boxes, labels, 0, len(labels))


def time_upscale() -> None:
    """100 masks from quarter scale to the frame, at even and odd ratios, and what is made of them."""
    logits = blobs(100)
    boxes = pack(logits > 0).boxes
    for size in ((2160, 3840), (720, 1280), (1079, 1913), (1080, 1920)):
        geometry = fixed_geometry(*size, 448, 768)
        tables = (
            axis_table(HEIGHT, geometry.resized_height, size[0]),
            axis_table(WIDTH, geometry.resized_width, size[1]),
        )

        def crops(tables: Any = tables) -> list[Any]:
            return [upscale_mask(mask, box, *tables, 0.5) for mask, box in zip(logits, boxes, strict=True)]

        bound = "bound 20 ms" if size == (1080, 1920) else ""
        corners, parts = zip(*timed(f"100 masks to {size[0]} x {size[1]}, as crops", crops, bound), strict=True)
        for mask, (y0, x0), crop in zip(logits[::10], corners[::10], parts[::10], strict=True):
            whole = two_step(mask, size)
            inside = whole[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
            different = np.count_nonzero(inside != crop) + np.count_nonzero(whole) - np.count_nonzero(inside)
            assert different <= 1 + 1e-6 * whole.size, f"{different} pixels differ from the two-step resize"
    masks = CroppedMasks(1080, 1920, corners, parts)
    instances = Instances(np.linspace(1, 0.5, 100, dtype=np.float32), np.zeros(100, np.int64), ("blob",), masks)
    boxes_of = timed("100 boxes", lambda: instances.boxes)
    areas = timed("100 areas", lambda: instances.areas)
    rles = timed("100 RLE strings from crops", instances.rle)
    outlines = timed("100 exact outlines", instances.polygons)
    dense = timed("100 masks pasted into canvases", lambda: instances.masks, repeats=2)
    for mask, rle, area, (x0, y0, x1, y1), polygons in zip(dense, rles, areas, boxes_of, outlines, strict=True):
        assert (decode_rle(rle) == mask).all()
        assert area == np.count_nonzero(mask) == np.count_nonzero(mask[int(y0) : int(y1), int(x0) : int(x1)])
        assert area == sum(shoelace(polygon) for polygon in polygons)  # ellipses have no holes


def shoelace(polygon: NDArray[np.float32]) -> float:
    """Area of one polygon."""
    x, y = polygon.T.astype(np.float64)
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def time_decode(cells: int, kept: int) -> None:
    """A whole frame: ``cells`` candidates, the best ``kept`` of them returned."""
    chosen = RNG.choice(SPEC.num_cells, cells, replace=False)
    scores = np.full((SPEC.num_cells, SPEC.num_classes), 0.01, np.float32)
    scores[chosen, RNG.integers(0, SPEC.num_classes, cells)] = RNG.uniform(0.2, 0.9, cells)
    # E blobs in all, of which a kernel picks one; turned by a rotation, so that kernels look like a network's.
    channels = SPEC.mask_channels
    turned = np.linalg.qr(RNG.normal(size=(channels, channels)))[0].astype(np.float32)
    features = np.tensordot(turned.T, blobs(channels), 1)
    kernels = turned[RNG.integers(0, channels, SPEC.num_cells)]
    raw = RawOutputs(scores, kernels, features)
    timed("class scores and kernels are finite", lambda: (check_finite("", scores), check_finite("", kernels)))
    found = timed(f"candidates of 3872 cells ({cells})", lambda: find_candidates(scores, SPEC.grids, 0.1, True))
    assert 0.9 * cells < len(found) <= cells
    own = kernels[np.unique(found.cells)]
    quarter = timed(f"{len(own)} masks at quarter scale", lambda: measure_masks(own, features, 0.5), repeats=3)
    binary = np.tensordot(own, features, 1) > 0
    assert np.abs(quarter.packed.areas - binary.sum((1, 2))).max() <= 1
    options = DecodeOptions(max_instances=kept)
    instances = timed(
        f"decode, {len(found)} candidates, {kept} instances", lambda: decode(raw, GEOMETRY, SPEC, options)
    )
    assert len(instances) == kept


if __name__ == "__main__":
    cv2.setNumThreads(1)
    time_preprocess()
    time_session()
    time_decode(60, 20)
    time_decode(500, 100)
    time_nms()
    time_upscale()
