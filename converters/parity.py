"""How far an artefact is from PyTorch: probe pictures, differences relative to the range, and the bounds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from solov2_edge.errors import GateError
from solov2_edge.manifest import OUTPUT_NAMES, InputContract
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = ["BOUNDS", "bound_of", "check", "differences", "drawn_frame", "model_outputs", "noise_frame", "probe_batches"]

# Largest difference allowed per output, by precision: of the range of kernels and mask features, and of 1 for class
# scores. The design's numbers for float; integer precisions are judged by accuracy, and only reported here.
BOUNDS = {"fp32": 1e-4, "fp16": 1e-2}
LOOSE_BOUND = 0.25  # an integer artefact beyond this is broken, not merely coarse

RNG_SEED = 20


def bound_of(precision: str) -> float:
    """Return the largest difference allowed at ``precision``, as a part of the range."""
    return BOUNDS.get(precision, LOOSE_BOUND)


def differences(outputs: RawOutputs, reference: RawOutputs) -> dict[str, float]:
    """Return the maximal absolute difference per output as a part of the reference's range.

    The range of class scores is 1, whatever the scores; that of the others is max - min over the reference. A NaN or
    an infinity anywhere gives infinity.
    """
    result = {}
    for name in OUTPUT_NAMES:
        got: NDArray[np.float32] = getattr(outputs, name)
        expected: NDArray[np.float32] = getattr(reference, name)
        if got.shape != expected.shape:
            raise GateError(f"{name}: expected shape {expected.shape} as PyTorch gives, got {got.shape}")
        difference = float(np.abs(got.astype(np.float64) - expected).max(initial=0.0))
        spread = 1.0 if name == "class_scores" else float(np.ptp(expected)) or 1.0
        result[name] = difference / spread if np.isfinite(difference) else float("inf")
    return result


def check(stage: str, measured: dict[str, float], bound: float) -> None:
    """Raise :class:`GateError`, naming ``stage`` and the outputs, if a difference is above ``bound``."""
    bad = [f"{name} by {value:.2g}" for name, value in measured.items() if not value <= bound]
    if bad:
        raise GateError(
            f"parity with PyTorch is lost after {stage}: {', '.join(bad)} of range, where {bound:g} is allowed; "
            "nothing was written"
        )


def model_outputs(model: SOLOv2, batch: NDArray[Any], kind: str) -> RawOutputs:
    """Return what the PyTorch model says of what an artefact's input takes.

    Args:
        model: the network; it runs as it stands, in evaluation mode.
        batch: (1, H, W, 3) uint8 RGB for kind ``"image"``, (1, 3, H, W) float32 normalised for ``"tensor"``.
        kind: the input contract's kind.
    """
    images = normalised(batch, model.spec) if kind == "image" else np.ascontiguousarray(batch)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(torch.from_numpy(images))
    finally:
        model.train(training)
    return RawOutputs(
        outputs.class_logits[0].sigmoid().numpy(), outputs.kernels[0].numpy(), outputs.mask_features[0].numpy()
    )


def normalised(frames: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    """Return (n, H, W, 3) RGB values 0..255 as (n, 3, H, W) float32, normalised, in the spec's channel order."""
    values: NDArray[np.float32] = frames.astype(np.float32)
    if spec.channel_order == "bgr":
        values = values[..., ::-1]
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def probe_batches(contract: InputContract, spec: ModelSpec) -> list[NDArray[Any]]:
    """Return two frames of noise and one drawn picture, as the contract's input takes them; always the same."""
    height, width = contract.height, contract.width
    frames = [
        noise_frame(height, width, RNG_SEED),
        noise_frame(height, width, RNG_SEED + 1),
        drawn_frame(height, width),
    ]
    batches = [frame[None] for frame in frames]
    return [normalised(b, spec) for b in batches] if contract.kind == "tensor" else list(batches)


def noise_frame(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) uint8 frame of independent uniform pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn_frame(height: int, width: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) uint8 RGB frame with what pictures have: shading, objects of many sizes, blur and grain."""
    generator = np.random.default_rng(RNG_SEED)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shading = np.stack([x / width, y / height, 1 - x / width], axis=-1) * 160 + 40
    frame = np.ascontiguousarray(shading, np.float32)
    for _ in range(24):
        centre = (int(generator.integers(width)), int(generator.integers(height)))
        axes = tuple(int(v) for v in np.exp(generator.uniform(1, np.log(max(height // 3, 8)), 2)))
        colour = tuple(float(v) for v in generator.uniform(0, 255, 3))
        cv2.ellipse(frame, centre, axes, float(generator.uniform(0, 180)), 0, 360, colour, thickness=-1)
    grainy = cv2.GaussianBlur(frame, (3, 3), 0) + generator.normal(0, 4, frame.shape)
    drawn: NDArray[np.uint8] = grainy.clip(0, 255).astype(np.uint8)
    return drawn
