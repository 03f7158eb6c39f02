"""Verifying an artefact that decodes inside its graph: there are no raw outputs to compare, instances there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.decode_gate import count_candidates, host_instances
from solov2_edge.converters.instance_parity import InstanceParity, compare_instances, picture_findings
from solov2_edge.converters.parity import NOISE_FACTOR, rounding_noise
from solov2_edge.converters.tolerances import tolerance_of
from solov2_edge.converters.verification import Finding
from solov2_edge.manifest import GraphDecode
from solov2_edge.model import SOLOv2
from solov2_edge.runtime import Instances, Segmenter
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs

__all__ = ["DecodedComparison", "compare_decoded"]

TIED = "only reported: neighbouring cells tie in such a frame, and rounding decides which of them points NMS keeps"


@dataclass(frozen=True, slots=True)
class DecodedComparison:
    """One frame through an artefact that decodes and through PyTorch with the same limits.

    Attributes:
        findings: rows of the decode and instance stages.
        parity: the instances compared.
        reference: PyTorch's instances.
        ours: the artefact's.
        noisy: the network's own rounding noise excuses a difference here.
    """

    findings: tuple[Finding, ...]
    parity: InstanceParity
    reference: Instances
    ours: Instances
    noisy: bool


def compare_decoded(
    name: str,
    frame: NDArray[np.uint8],
    geometry: Geometry,
    batch: NDArray[Any],
    raw: RawOutputs,
    segment: Segmenter,
    model: SOLOv2,
    *,
    generated: bool,
) -> DecodedComparison:
    """Compare an artefact's instances with those the host decodes of PyTorch's raw outputs within the same limits.

    Args:
        name: of the picture.
        frame: BGR uint8 (H, W, 3).
        geometry: how it goes into the network.
        batch: what the artefact is fed.
        raw: PyTorch's outputs for the batch.
        segment: the open artefact.
        model: the PyTorch network, to measure its own rounding noise where instances differ.
        generated: the frame is no picture; what ties in it is only reported.
    """
    baked, precision = segment.manifest.decode, segment.manifest.precision
    assert baked is not None  # the caller's reason to call
    tolerance = tolerance_of(precision)
    reference = host_instances(raw, geometry, segment.spec, baked)
    ours = segment(frame)
    parity = compare_instances(reference, ours, segment.options, tolerance.margin)
    rows = list(picture_findings(name, parity, tolerance.picture, noisy=False))
    noisy = False
    if generated:
        rows = [replace(row, bound=None, note=TIED) for row in rows]
    elif not all(row.passed for row in rows):
        noise = rounding_noise(model, batch, segment.manifest.input.kind, raw, precision)
        noisy = NOISE_FACTOR * noise > tolerance.largest
        rows = list(picture_findings(name, parity, tolerance.picture, noisy=noisy))
    return DecodedComparison((_candidates(name, raw, segment, baked), *rows), parity, reference, ours, noisy)


def _candidates(name: str, raw: RawOutputs, segment: Segmenter, baked: GraphDecode) -> Finding:
    count = count_candidates(raw, segment.spec, baked)
    note = ""
    if count > baked.max_candidates:
        note = (
            f"some pictures have more than the {baked.max_candidates} candidates the graph has room for: it keeps "
            "those of best class score; convert with a larger --max-candidates to keep all"
        )
    return Finding(name, "decode", "candidates", count, note=note)
