"""Tags with class name and score: placed where they fit, left out where they would hide what they name."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.colours import shade

__all__ = ["Tag", "draw_tag", "place_tag", "text_scale"]

FONT = cv2.FONT_HERSHEY_SIMPLEX
# A tag may hide this share of its instance's box, and of an earlier tag.
MAX_COVER = 0.3
MAX_OVERLAP = 0.1


@dataclass(frozen=True, slots=True)
class Tag:
    """One placed tag; all numbers in pixels of the picture.

    Attributes:
        text: what it says.
        x: left edge.
        y: top edge.
        width: W of the tag.
        height: H of the tag.
        scale: OpenCV font scale.
    """

    text: str
    x: int
    y: int
    width: int
    height: int
    scale: float


def text_scale(height: int, width: int) -> float:
    """Return the OpenCV font scale that reads well on a picture of ``height`` x ``width`` pixels."""
    return float(np.clip(min(height, width) / 1100.0, 0.38, 2.0))


def place_tag(
    text: str,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    placed: list[Tag],
    scale: float,
    anchor: float | None = None,
) -> Tag | None:
    """Find a place for a tag, or None when every place would hide too much.

    Args:
        text: what the tag says.
        box: (x0, y0, x1, y1) of the instance in pixels.
        size: (height, width) of the picture in pixels; a tag never leaves it.
        placed: tags that stand already.
        scale: OpenCV font scale.
        anchor: x in pixels over which the tag is centred as far as the box allows, for example that of the
            instance's highest pixel; default: the tag starts at the box's left edge.
    """
    (text_width, text_height), baseline = cv2.getTextSize(text, FONT, scale, 1)
    pad = max(2, round(text_height * 0.35))
    width, height = text_width + 2 * pad, text_height + baseline + pad
    if width > size[1] or height > size[0]:
        return None
    x0, y0, x1, y1 = box
    if width * height > MAX_COVER * (x1 - x0) * (y1 - y0):
        return None
    x = x0 if anchor is None else max(x0, min(anchor - width / 2, x1 - width))
    left = int(np.clip(x, 0, size[1] - width))
    # Above the instance, inside its top edge, below it.
    for y in (y0 - height, y0, y1):
        top = int(np.clip(y, 0, size[0] - height))
        tag = Tag(text, left, top, width, height, scale)
        if all(_overlap(tag, other) <= MAX_OVERLAP for other in placed):
            return tag
    return None


def _overlap(a: Tag, b: Tag) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    smaller = min(a.width * a.height, b.width * b.height)
    return max(width, 0) * max(height, 0) / smaller


def draw_tag(picture: NDArray[np.uint8], tag: Tag, colour: tuple[int, int, int]) -> None:
    """Draw a tag with rounded corners into a BGR picture, dark text on a light tint of ``colour``."""
    ground = picture[tag.y : tag.y + tag.height, tag.x : tag.x + tag.width]
    radius = max(1, tag.height // 5)
    right, bottom = tag.width - 1, tag.height - 1
    tint = shade(colour, 255, 0.25)
    cv2.rectangle(ground, (radius, 0), (right - radius, bottom), tint, cv2.FILLED)
    cv2.rectangle(ground, (0, radius), (right, bottom - radius), tint, cv2.FILLED)
    for x in (radius, right - radius):
        for y in (radius, bottom - radius):
            cv2.circle(ground, (x, y), radius, tint, cv2.FILLED, cv2.LINE_AA)
    (text_width, text_height), baseline = cv2.getTextSize(tag.text, FONT, tag.scale, 1)
    origin = ((tag.width - text_width) // 2, (tag.height + text_height - baseline // 2) // 2)
    cv2.putText(ground, tag.text, origin, FONT, tag.scale, shade(colour, 0, 0.85), 1, cv2.LINE_AA)
