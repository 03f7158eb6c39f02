"""How far an artefact is from PyTorch: differences relative to the range, the bounds, and the network's own noise.

A network can be so sensitive that float32 rounding alone moves its outputs by more than the bound: deformable
convolutions with large offsets do that to pictures with much contrast. No other program can then be nearer to
PyTorch than PyTorch is to itself, so a difference is also measured against :func:`rounding_noise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from solov2_edge.converters.tolerances import TOLERANCES, tolerance_of
from solov2_edge.errors import GateError
from solov2_edge.manifest import OUTPUT_NAMES, SEMANTIC_NAME
from solov2_edge.model import PanopticOutputs, SOLOv2
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = [
    "BOUNDS",
    "NOISE_FACTOR",
    "bound_of",
    "differences",
    "model_outputs",
    "noise",
    "normalised",
    "rounding_noise",
]

# Largest difference allowed per output, by float precision: of the range of kernels and mask features, and of 1 for
# class scores.
BOUNDS = {precision: tolerance.largest for precision, tolerance in TOLERANCES.items() if precision.startswith("fp")}

# A perturbation of the input alone stirs less than rounding in every layer does.
NOISE_FACTOR = 10.0
EPSILONS = {"fp16": 2.0**-11}
FLOAT32_EPSILON = 2.0**-23


def bound_of(precision: str) -> float:
    """Return the largest difference allowed at ``precision``, as a part of the range."""
    return tolerance_of(precision).largest


def differences(outputs: RawOutputs, reference: RawOutputs) -> dict[str, float]:
    """Return the maximal absolute difference per output as a part of the reference's range.

    The range of class scores is 1, whatever the scores; that of the others is max - min over the reference. A NaN or
    an infinity anywhere gives infinity.
    """
    result = {}
    for name, got, expected in _pairs(outputs, reference):
        difference = float(np.abs(got.astype(np.float64) - expected).max(initial=0.0))
        spread = 1.0 if name == "class_scores" else float(np.ptp(expected)) or 1.0
        result[name] = difference / spread if np.isfinite(difference) else float("inf")
    return result


def noise(outputs: RawOutputs, reference: RawOutputs) -> dict[str, tuple[float, float]]:
    """Return per output the squared error and the squared deviation of the reference from its mean, summed.

    Sums of several frames add up; the root of their quotient is the noise relative to the signal. A NaN or an
    infinity anywhere gives infinity.
    """
    result = {}
    for name, got, expected in _pairs(outputs, reference):
        error = float(np.square(got.astype(np.float64) - expected).sum())
        signal = float(np.square(expected - expected.mean(dtype=np.float64)).sum())
        result[name] = (error if np.isfinite(error) else float("inf"), signal)
    return result


def _pairs(
    outputs: RawOutputs, reference: RawOutputs
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    names = OUTPUT_NAMES if reference.semantic_logits is None else (*OUTPUT_NAMES, SEMANTIC_NAME)
    for name in names:
        got: NDArray[np.float32] | None = getattr(outputs, name)
        expected: NDArray[np.float32] = getattr(reference, name)
        if got is None:
            raise GateError(f"{name}: PyTorch gives them, the artefact does not; convert the checkpoint again")
        if got.shape != expected.shape:
            raise GateError(f"{name}: expected shape {expected.shape} as PyTorch gives, got {got.shape}")
        yield name, got, expected


def model_outputs(model: SOLOv2, batch: NDArray[Any], kind: str) -> RawOutputs:
    """Return what the PyTorch model says of what an artefact's input takes.

    Args:
        model: the network; it runs as it stands, in evaluation mode.
        batch: (1, H, W, 3) uint8 RGB for kind ``"image"``, (1, 3, H, W) float32 normalised for ``"tensor"``.
        kind: the input contract's kind.
    """
    images = normalised(batch, model.spec) if kind == "image" else np.ascontiguousarray(batch)
    return _run(model, images)


def rounding_noise(model: SOLOv2, batch: NDArray[Any], kind: str, reference: RawOutputs, precision: str) -> float:
    """Return how far the PyTorch model moves, as a part of the range, if its input moves by one rounding.

    Every number of the normalised input is changed by one unit in the last place of ``precision``, up or down.

    Args:
        model: the network.
        batch: as for :func:`model_outputs`.
        kind: the input contract's kind.
        reference: the model's outputs for ``batch``.
        precision: of the artefact that is compared.
    """
    images = normalised(batch, model.spec) if kind == "image" else np.ascontiguousarray(batch)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), images.shape)
    epsilon = np.float32(EPSILONS.get(precision, FLOAT32_EPSILON))
    return max(differences(_run(model, images + images * signs * epsilon), reference).values())


def _run(model: SOLOv2, images: NDArray[np.float32]) -> RawOutputs:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(images))
    finally:
        model.train(training)
    return RawOutputs(
        outputs.class_logits[0].sigmoid().numpy(),
        outputs.kernels[0].numpy(),
        outputs.mask_features[0].numpy(),
        outputs.semantic_logits[0].numpy() if isinstance(outputs, PanopticOutputs) else None,
    )


def normalised(frames: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    """Return (n, H, W, 3) RGB values 0..255 as (n, 3, H, W) float32, normalised, in the spec's channel order."""
    values: NDArray[np.float32] = frames.astype(np.float32)
    if spec.channel_order == "bgr":
        values = values[..., ::-1]
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
