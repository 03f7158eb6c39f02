"""Augmentation of one training picture and its masks: geometry by index and crop, photometry on uint8.

Every function takes its own random generator, so a sample depends on (seed, epoch, index) alone and not on how
many workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.augment_options import AugmentOptions

__all__ = [
    "AugmentOptions",
    "Moves",
    "PlacedMask",
    "Window",
    "augment_colour",
    "draw_moves",
    "flip_and_turn",
    "place_mask",
    "scale_and_crop",
]

Picture = NDArray[np.uint8]


class Moves(NamedTuple):
    """How a picture is moved: mirrored left-right, then top-bottom, then turned counterclockwise by quarters."""

    mirrored: bool = False
    upside_down: bool = False
    quarter_turns: int = 0

    def of_array(self, array: Picture, rows: int) -> Picture:
        """Move an array whose axes ``rows`` and ``rows + 1`` are height and width."""
        if self.mirrored:
            array = np.flip(array, rows + 1)
        if self.upside_down:
            array = np.flip(array, rows)
        return np.ascontiguousarray(np.rot90(array, self.quarter_turns, axes=(rows, rows + 1)))

    def of_boxes(self, boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """Move boxes (n, 4) xyxy of a picture ``height`` x ``width`` that is moved alike."""
        x1, y1, x2, y2 = boxes.T
        if self.mirrored:
            x1, x2 = width - x2, width - x1
        if self.upside_down:
            y1, y2 = height - y2, height - y1
        for _ in range(self.quarter_turns):
            x1, y1, x2, y2 = y1, width - x2, y2, width - x1
            height, width = width, height
        return np.stack([x1, y1, x2, y2], axis=1)


def draw_moves(options: AugmentOptions, rng: np.random.Generator) -> Moves:
    """Draw how a picture is moved."""
    mirrored = options.flip and rng.random() < 0.5
    if not options.turns:
        return Moves(bool(mirrored))
    return Moves(bool(mirrored), bool(rng.random() < 0.5), int(rng.integers(4)))


def flip_and_turn(
    picture: Picture, masks: Picture, options: AugmentOptions, rng: np.random.Generator
) -> tuple[Picture, Picture]:
    """Mirror and turn a picture (H, W, 3) and its masks (n, H, W) alike."""
    moves = draw_moves(options, rng)
    return moves.of_array(picture, 0), moves.of_array(masks, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """How a picture lies in the network input: scaled, cut to a window, placed top-left.

    Attributes:
        scale: (y, x) input pixels per picture pixel.
        origin: (y, x) of the window in the scaled picture, in pixels.
        content: (height, width) of the part of the input that holds picture; the rest is padding.
        input_size: (H, W) of the network input.
    """

    scale: tuple[float, float]
    origin: tuple[int, int]
    content: tuple[int, int]
    input_size: tuple[int, int]


def scale_and_crop(
    picture: Picture, input_size: tuple[int, int], factor: float, rng: np.random.Generator
) -> tuple[Picture, Window]:
    """Fit a picture (h, w, 3) into the input times ``factor``, cut what sticks out, pad right and bottom with 0.

    Args:
        picture: (h, w, 3) uint8.
        input_size: (H, W) of the network input.
        factor: 1 fits the picture exactly as inference does.
        rng: draws the window when the scaled picture is larger than the input.

    Returns:
        The input picture (H, W, 3) uint8 and where its content came from.
    """
    height, width = picture.shape[:2]
    f = min(input_size[0] / height, input_size[1] / width) * factor
    new_h, new_w = max(int(height * f + 0.5), 1), max(int(width * f + 0.5), 1)
    keep_h, keep_w = min(new_h, input_size[0]), min(new_w, input_size[1])
    top = int(rng.integers(new_h - keep_h + 1))
    left = int(rng.integers(new_w - keep_w + 1))
    out = np.zeros((*input_size, 3), np.uint8)
    scaled = cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    out[:keep_h, :keep_w] = scaled[top : top + keep_h, left : left + keep_w]
    return out, Window((new_h / height, new_w / width), (top, left), (keep_h, keep_w), input_size)


@dataclass(frozen=True, slots=True)
class PlacedMask:
    """One object's mask in the network input, as a crop; everything outside the crop is 0.

    Attributes:
        top, left: position of the crop in input pixels, multiples of 4.
        crop: (h, w) uint8 0..255, bilinear, so that the edge keeps its sub-pixel position; sides multiples of 4.
    """

    top: int
    left: int
    crop: Picture


def place_mask(mask: Picture, window: Window) -> PlacedMask | None:
    """Carry a mask (h, w) uint8, 0 or 1, in picture pixels into the network input; None when nothing is left."""
    x, y, w, h = cv2.boundingRect(mask)
    low = [np.floor((a - 1) * s) - o for a, s, o in zip((y, x), window.scale, window.origin, strict=True)]
    high = [
        np.ceil((a + n + 1) * s) - o for a, n, s, o in zip((y, x), (h, w), window.scale, window.origin, strict=True)
    ]
    top, left = (max(int(v) // 4 * 4, 0) for v in low)
    bottom, right = (min(-int(-v // 4) * 4, n) for v, n in zip(high, window.input_size, strict=True))
    if w == 0 or bottom <= top or right <= left:
        return None
    scale_y, scale_x = window.scale
    # Half-pixel centres, as cv2.resize has them: source = (target + 0.5) / scale - 0.5.
    shift_x = (left + window.origin[1] + 0.5) / scale_x - 0.5
    shift_y = (top + window.origin[0] + 0.5) / scale_y - 0.5
    inverse = np.array([[1 / scale_x, 0, shift_x], [0, 1 / scale_y, shift_y]])
    crop = cv2.warpAffine(
        mask * np.uint8(255), inverse, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    crop[max(window.content[0] - top, 0) :] = 0
    crop[:, max(window.content[1] - left, 0) :] = 0
    return PlacedMask(top, left, crop.astype(np.uint8, copy=False))


def augment_colour(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Change gamma, contrast, brightness and saturation of a picture (H, W, 3) uint8; 0 leaves it as it is."""
    if strength == 0:
        return picture
    gamma = np.exp(rng.uniform(-0.7, 0.7) * strength)
    contrast = np.exp(rng.uniform(-0.5, 0.5) * strength)
    brightness = rng.uniform(-48, 48) * strength  # of 255
    table = (np.arange(256) / 255.0) ** gamma * 255.0
    table = np.clip((table - 127.5) * contrast + 127.5 + brightness, 0, 255).astype(np.uint8)
    out = cv2.LUT(picture, table)
    saturation = float(np.exp(rng.uniform(-1.0, 1.0) * strength))
    if rng.random() < 0.2 * strength:
        saturation = 0.0  # now and then a grey picture
    grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(out, saturation, grey, 1 - saturation, 0).astype(np.uint8, copy=False)
