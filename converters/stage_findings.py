"""The first two stages of a verification: preprocessing and the network's raw outputs, against the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.parity import NOISE_FACTOR, differences, normalised, rounding_noise
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.tolerances import PREPROCESS, Overall, tolerance_of
from solov2_edge.converters.verification import ALL_PICTURES, PROBES, Finding
from solov2_edge.manifest import OUTPUT_NAMES, raw_names
from solov2_edge.model import SOLOv2
from solov2_edge.runtime import Segmenter
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = ["manifest_findings", "network_findings", "noise_findings", "preprocess_findings"]

# Another processor rounds otherwise, so what the exporter measured is not measured again to the last digit.
RECORDED_FACTOR = 2.0
COARSE_FLOOR = 0.1  # of the largest difference allowed: below that a rounded network's differences say nothing


def preprocess_findings(
    name: str, frame: NDArray[np.uint8], geometry: Geometry, batch: NDArray[Any], kind: str, spec: ModelSpec
) -> Iterator[Finding]:
    """Compare ``batch`` with the reference's steps done one by one: resize, normalise, pad with zeros.

    Args:
        name: of the picture.
        frame: BGR uint8 (H, W, 3).
        geometry: where the frame went in the batch.
        batch: what the artefact was fed.
        kind: the input contract's kind.
        spec: mean, std and channel order.
    """
    height, width = geometry.resized_height, geometry.resized_width
    resized = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR))
    expected = normalised(resized[None, :, :, ::-1], spec)
    got = normalised(batch, spec) if kind == "image" else batch
    difference = float(np.abs(got[:, :, :height, :width] - expected).max())
    yield Finding(name, "preprocess", "picture", difference, PREPROCESS.normalised)
    outside = got.copy()
    outside[:, :, :height, :width] = 0
    allowed = PREPROCESS.padding / min(spec.std) if kind == "image" else 0.0
    yield Finding(name, "preprocess", "padding", float(np.abs(outside).max()), allowed * (1 + PREPROCESS.normalised))


def network_findings(
    name: str,
    raw: RawOutputs,
    reference: RawOutputs,
    precision: str,
    model: SOLOv2,
    batch: NDArray[Any],
    kind: str,
) -> Iterator[Finding]:
    """Compare raw outputs with PyTorch's on the same batch, before points NMS.

    Precisions that are held to their noise over all pictures have their largest differences only reported.

    Args:
        name: of the picture.
        raw: the artefact's outputs.
        reference: PyTorch's.
        precision: of the artefact.
        model: the PyTorch network, to measure its own rounding noise where a difference is large.
        batch: what both were fed.
        kind: the input contract's kind.
    """
    measured = differences(raw, reference)
    tolerance = tolerance_of(precision)
    bound, note = tolerance.largest, ""
    if tolerance.overall.noise is not None:
        for output, value in measured.items():
            yield Finding(name, "network", output, value)
        return
    if max(measured.values()) > bound:
        noise = rounding_noise(model, batch, kind, reference, precision)
        if NOISE_FACTOR * noise > bound:
            bound = NOISE_FACTOR * noise
            note = f"rounding the input to {precision} alone moves this network by {noise:.1g} of range here"
    for output, value in measured.items():
        yield Finding(name, "network", output, value, bound, note=note)


def noise_findings(sums: Sequence[dict[str, tuple[float, float]]], bounds: Overall) -> Iterator[Finding]:
    """Give each output's noise over all pictures.

    Args:
        sums: per picture what :func:`~solov2_edge.converters.parity.noise` returned.
        bounds: what they are held to.
    """
    for output in sums[0] if sums else OUTPUT_NAMES:
        error = sum(picture[output][0] for picture in sums)
        signal = sum(picture[output][1] for picture in sums)
        value = math.sqrt(error / signal) if signal else math.inf if error else 0.0
        yield Finding(ALL_PICTURES, "network", f"noise of {output}", value, bounds.noise)


def manifest_findings(segment: Segmenter, model: SOLOv2) -> Iterator[Finding]:
    """Measure the parity the manifest records once more, on the same probes; one that records none gives no rows.

    A file that was changed and whose hash was made to fit contradicts what its exporter measured.

    Args:
        segment: the open artefact.
        model: the checkpoint's network. Where rounding stirs deformable convolutions, the exporter may have measured
            with their offsets held still, so that rows of such a network are only reported.
    """
    manifest = segment.manifest
    recorded = {name: value for name, value in manifest.parity.items() if name in raw_names(manifest.spec)}
    if not recorded:
        return
    worst = dict.fromkeys(recorded, 0.0)
    for batch, reference in Probes(model, replace(manifest.input, kind="image")).pairs:
        measured = differences(segment.raw(batch[0][..., ::-1]), reference)
        worst = {name: max(value, measured[name]) for name, value in worst.items()}
    tolerance = tolerance_of(manifest.precision)
    floor = tolerance.largest * (1.0 if tolerance.overall.noise is None else COARSE_FLOOR)
    for name, value in worst.items():
        bound = max(RECORDED_FACTOR * recorded[name], floor) if model.spec.dcn == "none" else None
        yield Finding(PROBES, "manifest", f"{name} as recorded", value, bound)
