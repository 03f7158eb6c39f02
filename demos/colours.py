"""Instance colours: spread evenly to the eye, the same for the same number on every picture.

Hues step by the golden angle, so that any run of consecutive numbers is spread over the circle, in OKLCH (Ottosson
2020, "A perceptual color space for image processing"), where equal steps look equal: no muddy yellows, no blue that
vanishes on black.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["colour", "shade"]

GOLDEN_ANGLE = 137.50776  # degrees: 360 (1 - 1 / golden ratio)
FIRST_HUE = 200.0  # degrees; a clear blue-green for instance 0
LIGHTNESS = (0.74, 0.64, 0.82)  # cycled, so that neighbouring hues differ in lightness too
CHROMA = 0.17  # about the most that sRGB holds at every hue

# OKLab -> linear sRGB, from the paper: cube roots of cone responses, then the cone-to-RGB matrix.
_TO_CONES = np.array(
    ((1.0, 0.3963377774, 0.2158037573), (1.0, -0.1055613458, -0.0638541728), (1.0, -0.0894841775, -1.2914855480))
)
_TO_RGB = np.array(
    (
        (4.0767416621, -3.3077115913, 0.2309699292),
        (-1.2684380046, 2.6097574011, -0.3413193965),
        (-0.0041960863, -0.7034186147, 1.7076147010),
    )
)


@lru_cache(maxsize=1024)
def colour(number: int) -> tuple[int, int, int]:
    """Return the BGR colour, 0..255, of instance (or class) ``number``, any non-negative integer."""
    hue = np.deg2rad((FIRST_HUE + number * GOLDEN_ANGLE) % 360.0)
    lightness = LIGHTNESS[number % len(LIGHTNESS)]
    lab = np.array((lightness, CHROMA * np.cos(hue), CHROMA * np.sin(hue)))
    return _to_bgr(_TO_RGB @ (_TO_CONES @ lab) ** 3)


def _to_bgr(linear: NDArray[np.float64]) -> tuple[int, int, int]:
    linear = linear.clip(0.0, 1.0)
    # The sRGB transfer function, IEC 61966-2-1.
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(encoded * 255.0))
    return blue, green, red


def shade(bgr: tuple[int, int, int], towards: int, amount: float) -> tuple[int, int, int]:
    """Mix ``amount`` (0..1) of grey level ``towards`` (0 black .. 255 white) into a BGR colour."""
    blue, green, red = (round(value + (towards - value) * amount) for value in bgr)
    return blue, green, red
