"""What the page of a conversion shows, as plain data: built from measurements, turned into HTML elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from solov2_edge.demos.report_data import StageParity

__all__ = ["ConversionReport", "ConvertedFile", "Disagreement", "Figure", "LayerCost", "StageRow", "Timing"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure and the range it lies in.

    Attributes:
        value: the figure.
        low: lower end, or None where too little was measured to give one.
        high: upper end, likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class StageRow:
    """One quantity of a verification; fields as in :class:`solov2_edge.converters.verification.StageSummary`."""

    stage: str
    quantity: str
    worst: float | None
    bound: float | None
    at_least: bool
    picture: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A picture on which a file and PyTorch disagree.

    Attributes:
        picture: file name.
        panels: JPEG bytes: PyTorch's instances, the file's, and where they disagree; empty where nobody drew them.
        width: W of each panel in pixels.
        height: H of each panel in pixels.
        quality: panoptic quality against PyTorch, 0..1.
        missed: instances only PyTorch finds.
        extra: instances only the file finds.
        loose: instances both find, with different outlines.
    """

    picture: str
    panels: tuple[bytes, ...]
    width: int
    height: int
    quality: float
    missed: int
    extra: int
    loose: int


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """One artefact and what was measured of it.

    Attributes:
        name: file name.
        title: short name, for example ``"ONNX fp16"``.
        engine: what ran it.
        size_bytes: size of the file.
        ap: mask AP in points of 100 with its interval.
        drop: points of AP lost against the baseline, with its interval; None for the baseline itself.
        network: time of the network over the reference's, median and middle 90 % over the rounds; None where its
            time says nothing.
        frame: the same for the whole frame.
        network_ms: median milliseconds of the network, or None.
        parity: network outputs with a bound, for the plot.
        stages: every quantity that was compared.
        verdicts: stage -> whether all its bounds hold.
        matched: instances matched at IoU 0.5.
        expected: instances PyTorch finds.
        verdict: of the verification, one sentence.
        passed: whether every bound holds.
        worst: pictures of most disagreement, the worst first.
        provenance: name -> value.
    """

    name: str
    title: str
    engine: str
    size_bytes: int
    ap: Figure
    drop: Figure | None
    network: Figure | None
    frame: Figure | None
    network_ms: float | None
    parity: tuple[StageParity, ...]
    stages: tuple[StageRow, ...]
    verdicts: dict[str, bool]
    matched: int
    expected: int
    verdict: str
    passed: bool
    worst: tuple[Disagreement, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """How the times were measured.

    Attributes:
        reference: name of the file the ratios are to.
        machine: the machine in words.
        rounds: turns each file took.
        warnings: what makes the times less than they seem, for example that the machine was not quiet.
    """

    reference: str
    machine: str
    rounds: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What reducing the precision of one layer, or of one block of layers, costs.

    Attributes:
        layer: its name.
        drop: points of mask AP lost, or None.
        sqnr_db: signal to noise of the network's outputs in dB, or None.
        macs: multiplications, or None.
    """

    layer: str
    drop: float | None = None
    sqnr_db: float | None = None
    macs: int | None = None


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """Everything on the page.

    Attributes:
        model: name of the checkpoint.
        baseline: name of what the drops are counted from.
        baseline_ap: its AP with its interval.
        pictures: pictures AP was measured on.
        objects: annotated objects in them.
        compared: pictures the parity was measured on, the two generated frames left out.
        max_drop: points of AP that are allowed, or None.
        files: at least one.
        timing: None where no file's time says anything.
        sensitivity: per layer; empty if none was given.
        notes: sentences a reader must know.
        provenance: name -> value, of what all files share.
        commands: (what for, command line) to go on with.
    """

    model: str
    baseline: str
    baseline_ap: Figure
    pictures: int
    objects: int
    compared: int
    max_drop: float | None
    files: tuple[ConvertedFile, ...]
    timing: Timing | None = None
    sensitivity: tuple[LayerCost, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
