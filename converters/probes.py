"""Probe pictures, and the gate an export passes after every stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.damping import damped_model
from solov2_edge.converters.parity import NOISE_FACTOR, bound_of, differences, model_outputs, normalised, rounding_noise
from solov2_edge.errors import GateError
from solov2_edge.manifest import InputContract
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.session import RawOutputs

__all__ = ["Probes", "UnsteadyNetworkError", "drawn_frame", "noise_frame"]

RNG_SEED = 20
LOW_CONTRAST = 0.1  # at which even a network of wild deformable convolutions is steady
GREY = 124  # the middle of ImageNet's pixel values


class UnsteadyNetworkError(GateError):
    """Rounding alone moves the network's outputs beyond the bound, on every probe."""


class Probes:
    """Inputs with PyTorch's answers: two frames of noise, of full and of low contrast, and one drawn picture.

    Attributes:
        batches: the inputs, as the contract takes them.
    """

    def __init__(self, model: SOLOv2, contract: InputContract) -> None:
        self._model, self._kind, self._contract = model, contract.kind, contract
        height, width = contract.height, contract.width
        noise = noise_frame(height, width, RNG_SEED)
        low = (GREY + (noise_frame(height, width, RNG_SEED + 1) - np.float32(GREY)) * LOW_CONTRAST).astype(np.uint8)
        frames = [frame[None] for frame in (noise, low, drawn_frame(height, width))]
        self.batches: list[NDArray[Any]] = [
            normalised(frame, model.spec) if contract.kind == "tensor" else frame for frame in frames
        ]
        self._references = [model_outputs(model, batch, contract.kind) for batch in self.batches]
        self._noise: dict[tuple[int, str], float] = {}
        self._damped: Probes | None = None

    @property
    def pairs(self) -> list[tuple[NDArray[Any], RawOutputs]]:
        """The inputs, each with PyTorch's answer."""
        return list(zip(self.batches, self._references, strict=True))

    def damped(self) -> Probes:
        """Return the same inputs with the answers of the model whose offsets are held still."""
        if self._damped is None:
            self._damped = Probes(damped_model(self._model), self._contract)
        return self._damped

    def judge(self, stage: str, run: Callable[[NDArray[Any]], RawOutputs], precision: str) -> dict[str, float]:
        """Compare ``run`` with PyTorch on every probe.

        A difference of up to ten times the network's own rounding noise is let pass. A probe on which that noise is
        above the bound must keep to it as well, but proves nothing at this precision and does not count.

        Args:
            stage: what was just done, for the message.
            run: from a batch to raw outputs.
            precision: of what ``run`` computes.

        Returns:
            The largest difference per output, as a part of the range, over the probes that count.

        Raises:
            UnsteadyNetworkError: no probe counts.
            GateError: a difference is too large; the message names ``stage``.
        """
        bound = bound_of(precision)
        worst: dict[str, float] = {}
        for number, (batch, reference) in enumerate(zip(self.batches, self._references, strict=True)):
            measured = differences(run(batch), reference)
            allowed, counts = bound, True
            if max(measured.values()) > bound:
                noise = self._noise_of(number, precision)
                allowed, counts = max(bound, NOISE_FACTOR * noise), noise <= bound
            bad = [f"{name} by {value:.2g}" for name, value in measured.items() if value > allowed]
            if bad:
                raise GateError(
                    f"parity with PyTorch is lost after {stage}: {', '.join(bad)} of range, where {allowed:.2g} is "
                    "allowed; nothing was written"
                )
            if counts:
                worst = {name: max(value, worst.get(name, 0.0)) for name, value in measured.items()}
        if not worst:
            raise UnsteadyNetworkError(
                f"parity cannot be judged after {stage}: rounding to {precision} alone moves this network's outputs by "
                f"more than {bound:g} of range on every probe; convert to fp32 or use other weights"
            )
        return worst

    def measure(self, run: Callable[[NDArray[Any]], RawOutputs]) -> dict[str, float]:
        """Return the largest difference per output over all probes, as a part of the range, unjudged."""
        rows = [
            differences(run(batch), expected) for batch, expected in zip(self.batches, self._references, strict=True)
        ]
        return {name: max(row[name] for row in rows) for name in rows[0]}

    def _noise_of(self, number: int, precision: str) -> float:
        key = (number, precision)
        if key not in self._noise:
            batch, reference = self.batches[number], self._references[number]
            self._noise[key] = rounding_noise(self._model, batch, self._kind, reference, precision)
        return self._noise[key]


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
