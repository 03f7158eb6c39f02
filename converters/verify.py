"""Does an artefact still compute what its checkpoint does: stage by stage, instance by instance, with a verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.checkpoint import load_model
from solov2_edge.converters.instance_parity import decode_findings, instance_findings
from solov2_edge.converters.parity import (
    NOISE_FACTOR,
    bound_of,
    differences,
    model_outputs,
    normalised,
    rounding_noise,
)
from solov2_edge.converters.probes import noise_frame
from solov2_edge.converters.verification import Finding, Verification
from solov2_edge.errors import InputError, require
from solov2_edge.model import SOLOv2
from solov2_edge.opening import open_artefact
from solov2_edge.reference import oracle_decode
from solov2_edge.runtime import DecodeOptions, Segmenter, read_picture
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.pictures import list_pictures
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = ["verify"]

ONE_COLOUR, NOISE = "(one colour)", "(noise)"
GREY = 114  # any colour will do
# Normalising in float32 by another order of operations moves the last bits only.
NORMALISED_BOUND = 1e-5
HALF_STEP = 0.5  # pixel values; an image input is padded with the mean rounded to a whole one


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One frame on its way through the artefact and through PyTorch, at the artefact's fixed geometry."""

    picture: str
    geometry: Geometry
    raw: RawOutputs
    reference: RawOutputs
    findings: tuple[Finding, ...]


def verify(
    artefact: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    variant: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    allow_other_checkpoint: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare an artefact with its checkpoint on pictures, on a frame of one colour and on noise.

    Four stages: the artefact's preprocessing against the reference's at the same geometry; the network's raw outputs
    against PyTorch's on the same batch, before points NMS; the runtime's decoding against the oracle's on the same
    raw outputs; and the final instances of the two.

    Args:
        artefact: a converted file.
        checkpoint: the checkpoint it was made from.
        images: a folder, a picture, or a sequence of pictures.
        variant: variant of the checkpoint where its tensors leave a choice.
        limit: compare the first pictures only; None: all.
        threads: threads of the artefact's engine.
        allow_other_checkpoint: compare even if the manifest names another checkpoint by its SHA-256.
        progress: called with (pictures done, pictures in total).

    Returns:
        Every measurement with its bound, and the verdict.

    Raises:
        InputError: a file is missing or unusable, or the artefact was made from another checkpoint.
    """
    require(limit is None or limit >= 1, f"limit must be at least 1 picture, got {limit!r}")
    paths = _pictures(images)[:limit]
    with open_artefact(artefact, threads=threads) as segment:
        model, source = load_model(checkpoint, variant, segment.spec.class_names)
        made_from = segment.manifest.source_sha256
        if made_from and made_from != source.sha256 and not allow_other_checkpoint:
            raise InputError(
                f"{artefact} was made from another checkpoint (SHA-256 {made_from[:12]}…) than {checkpoint} "
                f"({source.sha256[:12]}…); give that one, or convert again"
            )
        _require_same_network(segment.spec, source.spec)
        findings: list[Finding] = []
        matched = expected = 0
        total = len(paths) + 2
        for done, (name, frame) in enumerate(_frames(paths, segment), start=1):
            comparison = _compare(segment, model, name, frame)
            rows, found, wanted = _decoded(comparison, segment.spec, segment.manifest.precision)
            findings += [*comparison.findings, *rows]
            matched, expected = matched + found, expected + wanted
            if progress is not None:
                progress(done, total)
        return Verification(
            artefact=os.fspath(artefact),
            checkpoint=os.fspath(checkpoint),
            precision=segment.manifest.precision,
            engine=segment.engine,
            pictures=total,
            matched=matched,
            expected=expected,
            findings=tuple(findings),
        )


def _pictures(images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    if isinstance(images, str | os.PathLike):
        return list_pictures(images)
    require(len(images) > 0, "verification needs at least one picture, got none")
    return [Path(path) for path in images]


def _require_same_network(artefact: ModelSpec, checkpoint: ModelSpec) -> None:
    """Refuse specs whose outputs cannot be compared: an allowed other checkpoint may be another network."""
    for name in ("num_classes", "mask_channels", "grids"):
        got, expected = getattr(artefact, name), getattr(checkpoint, name)
        require(
            got == expected,
            f"the artefact and the checkpoint are different networks: {name} {got} and {expected}; "
            "verify an artefact against the checkpoint it was made from",
        )


def _frames(paths: list[Path], segment: Segmenter) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the users' pictures, then a frame without anything in it and one with too much."""
    for path in paths:
        yield path.name, read_picture(path)
    height, width = segment.manifest.input.height, segment.manifest.input.width
    yield ONE_COLOUR, np.full((height, width, 3), GREY, np.uint8)
    yield NOISE, noise_frame(height, width, seed=0)


def _compare(segment: Segmenter, model: SOLOv2, name: str, frame: NDArray[np.uint8]) -> _Comparison:
    contract = segment.manifest.input
    height, width = frame.shape[:2]
    geometry = fixed_geometry(height, width, contract.height, contract.width)
    batch = preprocess(frame, geometry, contract.kind, segment.spec)
    raw = segment.raw(frame)
    reference = model_outputs(model, batch, contract.kind)
    findings = [
        *_preprocess_findings(name, frame, geometry, batch, contract.kind, segment.spec),
        *_network_findings(name, raw, reference, segment.manifest.precision, model, batch, contract.kind),
    ]
    return _Comparison(name, geometry, raw, reference, tuple(findings))


def _preprocess_findings(
    name: str, frame: NDArray[np.uint8], geometry: Geometry, batch: NDArray[Any], kind: str, spec: ModelSpec
) -> Iterator[Finding]:
    """Compare with the reference's steps done one by one: resize, normalise, pad with zeros."""
    height, width = geometry.resized_height, geometry.resized_width
    resized = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR))
    expected = normalised(resized[None, :, :, ::-1], spec)
    got = normalised(batch, spec) if kind == "image" else batch
    difference = float(np.abs(got[:, :, :height, :width] - expected).max())
    yield Finding(name, "preprocess", "picture", difference, NORMALISED_BOUND)
    outside = got.copy()
    outside[:, :, :height, :width] = 0
    allowed = HALF_STEP / min(spec.std) if kind == "image" else 0.0
    yield Finding(name, "preprocess", "padding", float(np.abs(outside).max()), allowed * (1 + NORMALISED_BOUND))


def _network_findings(
    name: str,
    raw: RawOutputs,
    reference: RawOutputs,
    precision: str,
    model: SOLOv2,
    batch: NDArray[Any],
    kind: str,
) -> Iterator[Finding]:
    measured = differences(raw, reference)
    bound, note = bound_of(precision), ""
    if max(measured.values()) > bound:
        noise = rounding_noise(model, batch, kind, reference, precision)
        if NOISE_FACTOR * noise > bound:
            bound = NOISE_FACTOR * noise
            note = f"rounding the input to {precision} alone moves this network by {noise:.1g} of range here"
    for output, value in measured.items():
        yield Finding(name, "network", output, value, bound, note=note)


def _decoded(comparison: _Comparison, spec: ModelSpec, precision: str) -> tuple[list[Finding], int, int]:
    """Return the decode and instance findings, the matched and the expected instances.

    Decoding is compared as it is used. The instances are compared without points NMS: where neighbouring cells tie, as
    they do in a frame of one colour, rounding decides which survives, and that decides what Matrix NMS then decays.
    """
    options = DecodeOptions()
    ours = decode(comparison.raw, comparison.geometry, spec, options)
    oracle = oracle_decode(comparison.raw, comparison.geometry, spec, options)
    rows = list(decode_findings(comparison.picture, oracle, ours, options))

    steady = DecodeOptions(points_nms=False)
    ours = decode(comparison.raw, comparison.geometry, spec, steady)
    reference = decode(comparison.reference, comparison.geometry, spec, steady)
    noisy = any(finding.note for finding in comparison.findings)
    more, matched = instance_findings(comparison.picture, reference, ours, steady, precision, noisy=noisy)
    return [*rows, *more], matched, len(reference)
