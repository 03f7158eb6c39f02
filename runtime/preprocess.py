"""From a frame to the network's input, and Geometry, which undoes it.

The arithmetic is the reference's, bit for bit (mmdetection 3.3.0): bilinear resize of the uint8 BGR frame, float32
normalisation, zero padding on the right and below.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.spec import ModelSpec

__all__ = ["Geometry", "fixed_geometry", "preprocess", "reference_geometry"]

DIVISOR = 32  # the coarsest pyramid level the network computes from the input


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a frame lies inside the network's input: scaled, at the top left, padded on the right and below.

    Attributes:
        frame_height, frame_width: the frame, in pixels.
        resized_height, resized_width: the frame after scaling, in input pixels.
        input_height, input_width: the whole input.
    """

    frame_height: int
    frame_width: int
    resized_height: int
    resized_width: int
    input_height: int
    input_width: int

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        require(
            all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values.values()),
            f"a geometry holds positive integers, got {values}",
        )
        require(
            self.resized_height <= self.input_height and self.resized_width <= self.input_width,
            f"the resized frame {self.resized_height} x {self.resized_width} must fit into the input "
            f"{self.input_height} x {self.input_width}",
        )

    @property
    def scale_x(self) -> float:
        """Input pixels per frame pixel, horizontally."""
        return self.resized_width / self.frame_width

    @property
    def scale_y(self) -> float:
        """Input pixels per frame pixel, vertically; rounding makes it differ slightly from ``scale_x``."""
        return self.resized_height / self.frame_height

    def to_input(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Map (n, 2) xy points from the frame to the input; 0 is the outer edge of the first pixel in both."""
        return np.asarray(points, np.float64) * (self.scale_x, self.scale_y)

    def to_frame(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Map (n, 2) xy points from the input to the frame; points in the padding land beyond the frame."""
        return np.asarray(points, np.float64) / (self.scale_x, self.scale_y)


def reference_geometry(height: int, width: int, resize_box: tuple[int, int]) -> Geometry:
    """Return the reference's geometry: scaled to touch the box from inside, padded to multiples of 32.

    Args:
        height: the frame's height in pixels.
        width: the frame's width in pixels.
        resize_box: (short, long) sides in pixels; the factor may enlarge.
    """
    _check_size(height, width)
    short, long = resize_box
    factor = min(long / max(height, width), short / min(height, width))
    resized = _scaled(height, factor), _scaled(width, factor)
    padded = (-(-side // DIVISOR) * DIVISOR for side in resized)
    return Geometry(height, width, *resized, *padded)


def fixed_geometry(height: int, width: int, input_height: int, input_width: int) -> Geometry:
    """Return the geometry of an artefact of fixed size: the largest scaling that fits, aspect kept.

    Args:
        height: the frame's height in pixels.
        width: the frame's width in pixels.
        input_height: the artefact's input height in pixels.
        input_width: the artefact's input width in pixels.
    """
    _check_size(height, width)
    factor = min(input_height / height, input_width / width)
    resized = min(_scaled(height, factor), input_height), min(_scaled(width, factor), input_width)
    return Geometry(height, width, *resized, input_height, input_width)


def preprocess(frame: NDArray[np.uint8], geometry: Geometry, kind: str, spec: ModelSpec) -> NDArray[Any]:
    """Build the network's input from a frame.

    Args:
        frame: BGR uint8 (H, W, 3), of the geometry's frame size.
        geometry: where the frame goes.
        kind: ``"tensor"`` or ``"image"``, as in the artefact's input contract.
        spec: mean, std and channel order.

    Returns:
        ``"tensor"``: (1, 3, H, W) float32, normalised, in the spec's channel order, padded with 0.
        ``"image"``: (1, H, W, 3) uint8 RGB, padded with the rounded mean, so that the padding is close to 0 once the
        graph has normalised it.

    Raises:
        InputError: the frame is not of the geometry's size, or the kind is unknown.
    """
    size = (geometry.frame_height, geometry.frame_width, 3)
    require(frame.shape == size and frame.dtype == np.uint8, f"expected a uint8 frame {size}, got {frame.shape}")
    require(kind in ("image", "tensor"), f"input kind must be image or tensor, got {kind!r}")
    height, width = geometry.resized_height, geometry.resized_width
    if (height, width) != frame.shape[:2]:
        frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return _image(frame, geometry, spec) if kind == "image" else _tensor(frame, geometry, spec)


def _image(resized: NDArray[np.uint8], geometry: Geometry, spec: ModelSpec) -> NDArray[np.uint8]:
    height, width = resized.shape[:2]
    batch = np.empty((1, geometry.input_height, geometry.input_width, 3), np.uint8)
    mean = spec.mean if spec.channel_order == "rgb" else spec.mean[::-1]
    # Whole rows are copied: repeating three bytes pixel by pixel took longer than the resize of a 448 x 448 input.
    fill = np.tile(np.array([round(value) for value in mean], np.uint8), (geometry.input_width, 1))
    batch[:, height:] = fill
    batch[:, :height, width:] = fill[width:]
    cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=batch[0, :height, :width])
    return batch


def _tensor(resized: NDArray[np.uint8], geometry: Geometry, spec: ModelSpec) -> NDArray[np.float32]:
    height, width = resized.shape[:2]
    batch = np.empty((1, 3, geometry.input_height, geometry.input_width), np.float32)
    batch[:, :, height:] = 0
    batch[:, :, :height, width:] = 0
    channels = cv2.split(resized)
    if spec.channel_order == "rgb":
        channels = channels[::-1]
    for plane, channel, table in zip(batch[0], channels, _tables(spec.mean, spec.std), strict=True):
        # A pixel has 256 values: looking them up gives the float32 arithmetic exactly, in one pass.
        cv2.LUT(channel, table, dst=plane[:height, :width])
    return batch


@lru_cache(maxsize=8)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[NDArray[np.float32], ...]:
    """Return per channel the normalised value of every pixel value 0..255, computed in float32."""
    values = np.arange(256, dtype=np.float32)
    return tuple((values - np.float32(m)) / np.float32(s) for m, s in zip(mean, std, strict=True))


def _scaled(side: int, factor: float) -> int:
    """Round half up as the reference does; it has no answer for a side that rounds to nothing, 1 pixel is ours."""
    return max(int(side * factor + 0.5), 1)


def _check_size(height: int, width: int) -> None:
    require(height > 0 and width > 0, f"a frame must hold pixels, got {height} x {width}; check its source")
