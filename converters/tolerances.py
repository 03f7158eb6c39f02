"""Every tolerance of parity with PyTorch, in one table by precision.

Float precisions compute the same numbers, so each picture is held to tight bounds by itself. Integer and palette
precisions round everywhere: the largest error of a picture says little, one instance of three comes or goes, and only
all pictures together tell a sound file from a broken one. Their bounds were chosen by measurement on the bundled
model and pictures it was trained on; what was measured stands beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DECODE",
    "PREPROCESS",
    "TOLERANCES",
    "DecodeTolerance",
    "Overall",
    "PerPicture",
    "PreprocessTolerance",
    "Tolerance",
    "tolerance_of",
]


@dataclass(frozen=True, slots=True)
class PreprocessTolerance:
    """The runtime's preprocessing against the reference's steps; no precision changes it.

    Attributes:
        normalised: largest difference of a normalised value: another order of operations moves the last bits.
        padding: largest padded value of an image input, in pixel values: the mean is rounded to a whole one.
    """

    normalised: float
    padding: float


@dataclass(frozen=True, slots=True)
class DecodeTolerance:
    """The runtime's decoding against the oracle's on the same raw outputs; no precision changes it.

    Attributes:
        iou: mask IoU at which every instance must be matched.
        score: largest score difference of a matched pair.
    """

    iou: float
    score: float


@dataclass(frozen=True, slots=True)
class PerPicture:
    """What the instances of each single picture are held to; None: only reported.

    Attributes:
        at_50: least recall and least precision at mask IoU 0.5.
        at_90: the same at 0.9.
        score: score difference that ``share`` of the matched pairs keep to.
        share: below 1 where rounding is coarse enough to swap near-equal masks, whose decay then swaps as well.
    """

    at_50: float | None = None
    at_90: float | None = None
    score: float | None = None
    share: float = 0.9


@dataclass(frozen=True, slots=True)
class Overall:
    """What all pictures together are held to; None: only reported.

    Attributes:
        noise: root mean square error of each network output over its standard deviation: 0.1 is 20 dB.
        at_50: least recall and least precision at mask IoU 0.5.
        at_90: the same at 0.9.
        iou: least mean mask IoU of the pairs matched at 0.5.
        score: score difference that nine of ten matched pairs keep to.
    """

    noise: float | None = None
    at_50: float | None = None
    at_90: float | None = None
    iou: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Tolerances at one precision.

    Attributes:
        largest: largest difference of any output, as a part of its range (of 1 for class scores). Exports are held to
            it on their probes, but for those judged by noise on calibration pictures or by their weights alone;
            verification where ``overall.noise`` is None.
        margin: how near a threshold a score must be for its instance to come and go without blame.
        picture: bounds on each picture.
        overall: bounds on all pictures together.
    """

    largest: float
    margin: float
    picture: PerPicture
    overall: Overall


PREPROCESS = PreprocessTolerance(normalised=1e-5, padding=0.5)
DECODE = DecodeTolerance(iou=0.999, score=1e-4)

_BROKEN = 0.25  # of range: an export this far off on any number is broken, not coarse
# Sound files of the bundled model, by what is rounded. Weights of 6 bits and more, with activations of 16 bits or of
# ranges taken anew each time: noise 0.01..0.05, recall and precision at IoU 0.9 0.97..1.00, mean IoU 0.966..0.992,
# score 0.006..0.017, 0.1 points of AP lost.
_FINE = Overall(noise=0.1, at_50=0.97, at_90=0.93, iou=0.94, score=0.05)
# Activations of 8 bits and a fixed range: noise 0.03..0.13, recall and precision 0.98..1.00 at 0.5 and 0.90..0.99 at
# 0.9, mean IoU 0.935..0.976, score 0.02..0.04, up to 0.8 points lost. With one of the 70 scales of weights and biases
# of an int8 ONNX file multiplied by 4, the 43 files that lost more than 1 point all missed a bound, most of them by
# far: noise above 0.25, less than 0.7 at IoU 0.9.
_COARSE = Overall(noise=0.25, at_50=0.95, at_90=0.87, iou=0.92, score=0.1)
# Weights of 4 bits: noise 0.04..0.25, 0.96..0.99 at 0.5 and 0.86..0.96 at 0.9, mean IoU 0.929..0.956, score 0.04..0.05,
# up to 1 point lost.
_FOUR_BITS = Overall(noise=0.35, at_50=0.93, at_90=0.8, iou=0.9, score=0.1)


def _rounded(overall: Overall) -> Tolerance:
    return Tolerance(_BROKEN, margin=0.05, picture=PerPicture(), overall=overall)


TOLERANCES = {
    "fp32": Tolerance(1e-4, 0.001, PerPicture(at_50=1.0, at_90=1.0, score=1e-4, share=1.0), Overall(iou=0.999)),
    "fp16": Tolerance(1e-2, 0.02, PerPicture(at_50=0.95, at_90=0.9, score=0.02), Overall(iou=0.98)),
    "int16x8": _rounded(_FINE),
    "int8-dynamic": _rounded(_FINE),
    "palette6": _rounded(_FINE),
    "int8": _rounded(_COARSE),  # weights only in Core ML, activations as well elsewhere
    "w8a8": _rounded(_COARSE),
    "palette4": _rounded(_FOUR_BITS),
    "int4": _rounded(_FOUR_BITS),
}


def tolerance_of(precision: str) -> Tolerance:
    """Return the tolerances at one of :data:`solov2_edge.manifest.PRECISIONS`."""
    return TOLERANCES[precision]
