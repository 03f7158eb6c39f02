"""What each integer artefact rounds, as far as training has to know it: one set of rules per target."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_TARGET", "RULES", "Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Where an exporter rounds.

    Attributes:
        symmetric: activations are int8 with their zero at 0, else 8 bits with any zero.
        results: what convolutions give is rounded too, not only what they and sums take.
        resized: normalised results of integer convolutions are rounded ahead of resizing, which is float.
        first: the first convolution is an integer one, of the uint8 picture itself; else it stays float.
        method: how ranges are cut, see :meth:`~solov2_edge.converters.value_ranges.ValueCounts.range`.
    """

    symmetric: bool
    results: bool
    resized: bool
    first: bool
    method: str


# The plan of converters/onnx_islands.py, the methods of onnx_quantise.py and the islands of onnx_int8.py.
RULES = {
    "cpu": Rules(symmetric=False, results=True, resized=True, first=True, method="mse"),
    "tensorrt": Rules(symmetric=True, results=False, resized=False, first=False, method="mean-minmax"),
}
DEFAULT_TARGET = "cpu"
