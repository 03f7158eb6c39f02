"""Comparing the results of a GPU or a delegate library with the CPU's before they are trusted.

LiteRT's GPU accelerators run whole graphs of quantised networks without a word, and wrongly: on a network with dynamic
int8 weights, WebGPU's class scores were off by three quarters of their range while its float32 was right to 2e-6. A
float32 graph is computed in float16, where large sums overflow. Neither is an error to LiteRT.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.litert_package import ENGINE_ERRORS, one_line

__all__ = ["probe", "require_agreement"]

# Float16 arithmetic gives 40 dB and more, an int8 network of another rounding 20; the wrong one above gave 5.
LEAST_DECIBELS = 15.0
BLOCK = 8  # pixels; side of the probe's patches


class Network(Protocol):
    """A graph that runs."""

    providers: tuple[str, ...]

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Return class scores, kernels and mask features."""
        ...


def require_agreement(path: str, network: Network, own: Network, manifest: Manifest) -> None:
    """Run a graph on one picture of coloured patches, where it shall run and with LiteRT's own kernels.

    Raises:
        InputError: it cannot be run, or an output is not finite or too far from that of LiteRT's kernels.
    """
    batch = probe(manifest.input)
    what = ", ".join(network.providers)
    try:
        outputs = network.run(batch)
    except ENGINE_ERRORS as error:
        raise InputError(f"{path} cannot be run by {what}: {one_line(error)}; run it on the CPU") from error
    for name, got, want in zip(manifest.outputs, outputs, own.run(batch), strict=True):
        decibels = _decibels(got, want)
        if not decibels >= LEAST_DECIBELS:
            raise InputError(
                f"{path} gives other {name} with {what} than on the CPU: {decibels:.0f} dB signal to noise, at least "
                f"{LEAST_DECIBELS:.0f} expected; run it on the CPU, or convert to fp32 for a GPU, with "
                "provider_options={'gpu': {'enforce_f32': True}} if need be"
            )


def probe(contract: InputContract) -> NDArray[Any]:
    """Return the artefact's input for a picture of coloured patches of 8 x 8 pixels, always the same."""
    height, width = contract.height, contract.width
    patches = np.random.default_rng(0).integers(0, 256, (height // BLOCK, width // BLOCK, 3), np.uint8)
    picture = patches.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[None]
    if contract.kind == "image":
        return picture
    return ((picture.astype(np.float32) - 127) / 64).transpose(0, 3, 1, 2).copy()


def _decibels(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Return the signal to noise of ``got``; infinite where both are the same, minus infinity where not finite."""
    noise = float(np.square(got.astype(np.float64) - want).sum())
    signal = float(np.square(want, dtype=np.float64).sum())
    if not np.isfinite(noise):
        return -np.inf
    if noise == 0:
        return np.inf
    return 10 * float(np.log10(signal / noise)) if signal else -np.inf
