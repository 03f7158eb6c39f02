"""Does an artefact still compute what its checkpoint does: stage by stage, instance by instance, with a verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solov2_edge.checkpoint import load_model
from solov2_edge.converters.instance_parity import (
    Agreement,
    InstanceParity,
    compare_instances,
    decode_findings,
    overall_findings,
    picture_findings,
)
from solov2_edge.converters.parity import model_outputs, noise
from solov2_edge.converters.probes import noise_frame
from solov2_edge.converters.stage_findings import (
    manifest_findings,
    network_findings,
    noise_findings,
    preprocess_findings,
)
from solov2_edge.converters.tolerances import tolerance_of
from solov2_edge.converters.verification import Finding, Generated, Verification
from solov2_edge.converters.verify_decoded import compare_decoded
from solov2_edge.converters.worst_pictures import WorstPictures
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


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One frame on its way through the artefact and through PyTorch, at the artefact's fixed geometry."""

    picture: str
    frame: NDArray[np.uint8]
    geometry: Geometry
    raw: RawOutputs
    reference: RawOutputs
    findings: tuple[Finding, ...]

    @property
    def generated(self) -> bool:
        """Whether the frame is no picture of the user's."""
        return self.picture in (ONE_COLOUR, NOISE)

    @property
    def noisy(self) -> bool:
        """Whether the network's own rounding noise is above the bound here."""
        return any(finding.note for finding in self.findings)


@dataclass(slots=True)
class _Tally:
    """What adds up over the pictures."""

    findings: list[Finding] = field(default_factory=list)
    noise: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    parities: list[InstanceParity] = field(default_factory=list)  # of the pictures whose rows are not only reported
    pictures: list[Agreement] = field(default_factory=list)
    generated: list[Agreement] = field(default_factory=list)


def verify(
    artefact: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    variant: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    engine: str | None = None,
    allow_other_checkpoint: bool = False,
    worst_pictures: str | os.PathLike[str] | None = None,
    worst_count: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare an artefact with its checkpoint on pictures, on a frame of one colour and on noise.

    Four stages: the artefact's preprocessing against the reference's at the same geometry; the network's raw outputs
    against PyTorch's on the same batch, before points NMS; the runtime's decoding against the oracle's on the same
    raw outputs; and the final instances of the two. An artefact that decodes inside its graph has no raw outputs: its
    instances are compared with those of PyTorch within the same limits. Last, what the manifest records of the export
    is measured again, where there are raw outputs.
    :mod:`solov2_edge.converters.tolerances` has the bounds.

    The generated frames are held to every bound that holds for single frames: preprocessing and decoding at every
    precision, outputs and instances where a precision bounds them frame by frame. Bounds over all pictures together
    are for pictures of the kind an integer file is calibrated for; generated frames are not, so they stay out.

    Args:
        artefact: a converted file.
        checkpoint: the checkpoint it was made from.
        images: a folder, a picture, or a sequence of pictures.
        variant: variant of the checkpoint where its tensors leave a choice.
        limit: compare the first pictures only; None: all.
        threads: threads of the artefact's engine.
        engine: None, or the one to run the artefact in, as for :func:`solov2_edge.runtime.load`.
        allow_other_checkpoint: compare even if the manifest names another checkpoint by its SHA-256.
        worst_pictures: folder for side-by-side overlays of the pictures with most disagreement; None: none.
        worst_count: how many of them.
        progress: called with (pictures done, pictures in total).

    Returns:
        Every measurement with its bound, and the verdict.

    Raises:
        InputError: a file is missing or unusable, or the artefact was made from another checkpoint.
    """
    require(limit is None or limit >= 1, f"limit must be at least 1 picture, got {limit!r}")
    paths = _pictures(images)[:limit]
    chosen = {} if engine is None else {"engine": engine}
    with open_artefact(artefact, threads=threads, **chosen) as segment:
        model, source = load_model(checkpoint, variant, segment.spec.class_names)
        made_from = segment.manifest.source_sha256
        if made_from and made_from != source.sha256 and not allow_other_checkpoint:
            raise InputError(
                f"{artefact} was made from another checkpoint (SHA-256 {made_from[:12]}…) than {checkpoint} "
                f"({source.sha256[:12]}…); give that one, or convert again"
            )
        _require_same_network(segment.spec, source.spec)
        worst = WorstPictures(Path(worst_pictures), worst_count, Path(artefact).name) if worst_pictures else None
        tally = _Tally()
        total = len(paths) + 2
        for done, (name, frame) in enumerate(_frames(paths, segment), start=1):
            if segment.manifest.decode is None:
                _judge(_compare(segment, model, name, frame), segment, tally, worst)
            else:
                _judge_decoded(segment, model, name, frame, tally, worst)
            if progress is not None:
                progress(done, total)
        bounds = tolerance_of(segment.manifest.precision).overall
        raw = segment.manifest.decode is None
        return Verification(
            artefact=os.fspath(artefact),
            checkpoint=os.fspath(checkpoint),
            precision=segment.manifest.precision,
            engine=segment.engine,
            pictures=len(paths),
            matched=_matched(tally.pictures),
            expected=_expected(tally.pictures),
            findings=(
                *tally.findings,
                *(noise_findings(tally.noise, bounds) if raw else ()),
                *overall_findings(tally.parities, bounds),
                *(manifest_findings(segment, model) if raw else ()),
            ),
            worst=worst.write() if worst is not None else (),
            generated=Generated(len(tally.generated), _matched(tally.generated), _expected(tally.generated)),
        )


def _pictures(images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    if isinstance(images, str | os.PathLike):
        return list_pictures(images)
    require(len(images) > 0, "verification needs at least one picture, got none")
    return [Path(path) for path in images]


def _require_same_network(artefact: ModelSpec, checkpoint: ModelSpec) -> None:
    """Refuse specs whose outputs cannot be compared: an allowed other checkpoint may be another network."""
    for name in ("num_classes", "stuff_names", "kernel_length", "feature_channels", "grids"):
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
        *preprocess_findings(name, frame, geometry, batch, contract.kind, segment.spec),
        *network_findings(name, raw, reference, segment.manifest.precision, model, batch, contract.kind),
    ]
    return _Comparison(name, frame, geometry, raw, reference, tuple(findings))


def _judge(comparison: _Comparison, segment: Segmenter, tally: _Tally, worst: WorstPictures | None) -> None:
    """Add the decode and instance findings of one frame.

    Decoding is compared as it is used. The instances are compared without points NMS: where neighbouring cells tie, as
    they do in a frame of one colour, rounding decides which survives, and that decides what Matrix NMS then decays.
    """
    name, spec, tolerance = comparison.picture, segment.spec, tolerance_of(segment.manifest.precision)
    options = DecodeOptions()
    as_used = decode(comparison.raw, comparison.geometry, spec, options)
    oracle = oracle_decode(comparison.raw, comparison.geometry, spec, options)
    tally.findings += [*comparison.findings, *decode_findings(name, oracle, as_used, options)]

    steady = DecodeOptions(points_nms=False)
    ours = decode(comparison.raw, comparison.geometry, spec, steady)
    reference = decode(comparison.reference, comparison.geometry, spec, steady)
    parity = compare_instances(reference, ours, steady, tolerance.margin)
    tally.findings += picture_findings(name, parity, tolerance.picture, noisy=comparison.noisy)
    (tally.generated if comparison.generated else tally.pictures).append(parity.at_50)
    if comparison.generated:
        return
    if not comparison.noisy:
        tally.noise.append(noise(comparison.raw, comparison.reference))
        tally.parities.append(parity)
    if worst is not None:
        used = decode(comparison.reference, comparison.geometry, spec, options)
        worst.add(name, comparison.frame, used, as_used)


def _matched(agreements: Sequence[Agreement]) -> int:
    return sum(agreement.matched for agreement in agreements)


def _expected(agreements: Sequence[Agreement]) -> int:
    return _matched(agreements) + sum(len(agreement.missed) for agreement in agreements)


def _judge_decoded(
    segment: Segmenter, model: SOLOv2, name: str, frame: NDArray[np.uint8], tally: _Tally, worst: WorstPictures | None
) -> None:
    """Add the findings of one frame of an artefact that decodes."""
    contract = segment.manifest.input
    geometry = fixed_geometry(frame.shape[0], frame.shape[1], contract.height, contract.width)
    batch = preprocess(frame, geometry, contract.kind, segment.spec)
    reference = model_outputs(model, batch, contract.kind)
    generated = name in (ONE_COLOUR, NOISE)
    found = compare_decoded(name, frame, geometry, batch, reference, segment, model, generated=generated)
    tally.findings += preprocess_findings(name, frame, geometry, batch, contract.kind, segment.spec)
    tally.findings += found.findings
    (tally.generated if generated else tally.pictures).append(found.parity.at_50)
    if generated:
        return
    if not found.noisy:
        tally.parities.append(found.parity)
    if worst is not None:
        worst.add(name, frame, found.reference, found.ours)
