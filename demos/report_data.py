"""What the report shows, as plain data: whoever measured it needs no knowledge of HTML, and the page none of torch."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ArtefactFacts", "PictureFacts", "Report", "StageParity"]


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """One picture and what was found in it.

    Attributes:
        name: file name.
        caption: what it shows, one line.
        width: W of the three JPEGs in pixels.
        height: H of the three JPEGs in pixels.
        picture: the picture itself, JPEG bytes.
        found: the picture with the found instances drawn over it, JPEG bytes.
        annotated: the same with the annotated instances, JPEG bytes; empty if nobody annotated it.
        found_count: instances found.
        annotated_count: instances annotated.
        timings: milliseconds of ``preprocess``, ``network`` and ``decode``, medians.
    """

    name: str
    caption: str
    width: int
    height: int
    picture: bytes
    found: bytes
    annotated: bytes
    found_count: int
    annotated_count: int
    timings: dict[str, float]


@dataclass(frozen=True, slots=True)
class StageParity:
    """How far one stage of an artefact is from PyTorch.

    Attributes:
        stage: ``class scores``, ``kernels``, ...
        difference: largest difference, relative to the range of the stage.
        bound: the largest one allowed.
    """

    stage: str
    difference: float
    bound: float


@dataclass(frozen=True, slots=True)
class ArtefactFacts:
    """One file that segments: a checkpoint in PyTorch or an artefact in its engine.

    Attributes:
        name: file name.
        engine: what ran it.
        size_bytes: size of the file.
        ap: mask AP in points of 100 on the report's pictures, or None.
        ap50: AP at IoU 0.5, or None.
        network_ms: median milliseconds of the network on one picture; None where its time says nothing.
        parity: differences from PyTorch, stage by stage; empty if not verified.
        verdict: one sentence about the instances, for example ``"91 of 91 instances matched"``.
        passed: whether every bound held; None if not verified.
    """

    name: str
    engine: str
    size_bytes: int
    ap: float | None
    ap50: float | None
    network_ms: float | None
    parity: tuple[StageParity, ...] = ()
    verdict: str = ""
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page.

    Attributes:
        thing: what one instance is called, singular, for example ``"nucleus"``.
        things: the plural.
        model: the model's name, for example ``"nano-nuclei"``.
        pictures: shown first.
        artefacts: the files; the first one made the pictures.
        notes: sentences a reader must know, for example that a step was left out and why.
        provenance: name -> value, in order: hashes, versions, machine, licences.
        commands: (what for, command line) to go on with.
    """

    thing: str
    things: str
    model: str
    pictures: tuple[PictureFacts, ...]
    artefacts: tuple[ArtefactFacts, ...]
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
