"""The inputs and outputs of a .tflite graph: float16, float32 or quantised outside, float32 or pixels for the caller.

A quantised number q stands for (q - zero point) x scale (LiteRT's 8-bit quantisation specification).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["Tensor", "read_tensor"]

FLOATS = ("float16", "float32")
INTEGERS = ("int8", "uint8", "int16")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph.

    Attributes:
        name: by which the file's signature calls it.
        index: in the graph.
        dtype: ``"float32"``, ``"float16"``, ``"uint8"``, ``"int8"``, ``"int16"`` or another of numpy's.
        shape: its sides.
        scale: one step of a quantised tensor; 0 where it is not quantised.
        zero_point: the quantised number that stands for 0.
    """

    name: str
    index: int
    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def takes_pixels(self) -> bool:
        """Say whether pixels 0..255 can be put in."""
        return self.dtype == "uint8" or (self.dtype in INTEGERS and self.scale > 0)

    @property
    def holds_reals(self) -> bool:
        """Say whether real numbers can be put in or taken out."""
        return self.dtype in FLOATS or (self.dtype in INTEGERS and self.scale > 0)

    @property
    def is_whole(self) -> bool:
        """Say whether the numbers are whole ones that stand for themselves."""
        return self.dtype == "int32" and self.scale == 0

    def encode(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return what the graph takes for a batch of pixels (uint8) or of real numbers (float32)."""
        if batch.dtype == self.dtype and (self.scale in (0.0, 1.0)) and self.zero_point == 0:
            return np.ascontiguousarray(batch)
        if self.dtype in FLOATS:
            return np.ascontiguousarray(batch, self.dtype)
        if batch.dtype == np.uint8:
            return np.take(self._steps(np.arange(256, dtype=np.float32)), batch)
        return self._steps(batch)

    def decode(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the real numbers of what the graph gave, float32; whole ones as they are."""
        if self.dtype in FLOATS or self.is_whole:
            return array
        real: NDArray[np.float32] = array.astype(np.float32)
        real -= self.zero_point
        real *= np.float32(self.scale)
        return real

    def _steps(self, reals: NDArray[np.float32]) -> NDArray[Any]:
        limits = np.iinfo(self.dtype)
        steps = np.rint(reals / np.float32(self.scale)) + self.zero_point
        quantised: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return quantised


def read_tensor(name: str, details: Mapping[str, Any]) -> Tensor:
    """Take a tensor from the interpreter's details of it.

    Raises:
        InputError: it is quantised channel by channel, which no caller could make use of.
    """
    parameters = details.get("quantization_parameters") or {}
    scales, zeros = parameters.get("scales", ()), parameters.get("zero_points", ())
    require(len(scales) <= 1, f"{name} is quantised with {len(scales)} scales, at most one can be read; convert again")
    return Tensor(
        name=name,
        index=int(details["index"]),
        dtype=np.dtype(details["dtype"]).name,
        shape=tuple(int(side) for side in details["shape"]),
        scale=float(scales[0]) if len(scales) else 0.0,
        zero_point=int(zeros[0]) if len(zeros) else 0,
    )
