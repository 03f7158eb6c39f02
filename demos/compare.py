"""Two results of one frame side by side, and where they disagree: what somebody looks at when a verdict is bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.draw import draw_instances, scaled_mask
from solov2_edge.errors import require
from solov2_edge.runtime.instances import Instances

__all__ = ["FIRST", "SECOND", "Disagreements", "draw_disagreements", "panels_of", "side_by_side"]

# BGR; told apart by people who see no difference between red and green (Okabe and Ito 2008).
FIRST = (0, 94, 213)  # vermilion
SECOND = (233, 180, 86)  # sky blue

FONT = cv2.FONT_HERSHEY_SIMPLEX
PANEL = 640  # pixels: pictures whose longer side is smaller are magnified towards it
GAP = 12  # pixels between panels
GROUND, TEXT = 24, 235  # grey levels
DIMMED = 0.5  # of the brightness stays below the disagreements
TINT = 0.4


@dataclass(frozen=True, slots=True)
class Disagreements:
    """Where two results of one frame differ; indices of instances.

    Attributes:
        missed: of the first result, without a partner in the second.
        extra: of the second result, without a partner in the first.
        loose: pairs (first, second) whose outlines differ.
    """

    missed: Sequence[int] = ()
    extra: Sequence[int] = ()
    loose: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.missed) + len(self.extra) + len(self.loose)


def side_by_side(
    frame: NDArray[np.uint8],
    first: Instances,
    second: Instances,
    disagreements: Disagreements,
    titles: tuple[str, str, str],
    *,
    numbers: tuple[Sequence[int], Sequence[int]] | None = None,
) -> NDArray[np.uint8]:
    """Return three panels with a title each: the first result, the second, and where they disagree.

    Args:
        frame: BGR uint8 (H, W, 3), the frame both results are of.
        first: the result that is taken as right.
        second: the other one.
        disagreements: between the two.
        titles: of the three panels.
        numbers: per result one number per instance that picks its colour, so that partners can share one; default:
            their ranks.

    Returns:
        BGR uint8.
    """
    scale = max(1, PANEL // max(frame.shape[:2]))
    panels = [
        draw_instances(frame, first, labels=False, scale=scale, numbers=numbers[0] if numbers else None),
        draw_instances(frame, second, labels=False, scale=scale, numbers=numbers[1] if numbers else None),
        draw_disagreements(frame, first, second, disagreements, scale=scale),
    ]
    titled = [
        np.concatenate([_bar(title, panels[0].shape[1]), panel]) for panel, title in zip(panels, titles, strict=True)
    ]
    gap = np.full((titled[0].shape[0], GAP, 3), GROUND, np.uint8)
    return np.concatenate([titled[0], gap, titled[1], gap, titled[2]], axis=1)


def panels_of(overlay: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the three panels of what :func:`side_by_side` drew, without their titles.

    Args:
        overlay: BGR uint8, unchanged since.

    Raises:
        InputError: the picture cannot be such an overlay.
    """
    width, rest = divmod(overlay.shape[1] - 2 * GAP, 3)
    require(
        width > 0 and rest == 0,
        f"expected three panels side by side, got a picture {overlay.shape[1]} pixels wide",
    )
    top = _bar("", width).shape[0]
    require(top < overlay.shape[0], f"expected panels below their titles, got a height of {overlay.shape[0]} pixels")
    first, second, third = (overlay[top:, left : left + width] for left in (i * (width + GAP) for i in range(3)))
    return first, second, third


def draw_disagreements(
    frame: NDArray[np.uint8], first: Instances, second: Instances, disagreements: Disagreements, *, scale: int = 1
) -> NDArray[np.uint8]:
    """Return the frame, dimmed and grey, with the disagreements on it, magnified ``scale`` times.

    The first result is vermilion and the second sky blue; an instance without a partner is filled, of a pair with
    different outlines both are drawn.
    """
    for instances in (first, second):
        require(
            instances.frame_shape == frame.shape[:2],
            f"both results must be of this {frame.shape[:2]} frame, got one of {instances.frame_shape} (H, W)",
        )
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    size = (frame.shape[1] * scale, frame.shape[0] * scale)
    canvas = np.asarray(cv2.resize((grey * DIMMED).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR), np.uint8)
    line = max(1, round(min(canvas.shape[:2]) / 400))
    for one, other in disagreements.loose:
        _draw(canvas, first, one, FIRST, line, scale, tint=0.0)
        _draw(canvas, second, other, SECOND, line, scale, tint=0.0)
    for ranks, source, bgr in ((disagreements.missed, first, FIRST), (disagreements.extra, second, SECOND)):
        for rank in ranks:
            _draw(canvas, source, rank, bgr, line, scale, tint=TINT)
    return canvas


def _draw(
    canvas: NDArray[np.uint8],
    instances: Instances,
    rank: int,
    bgr: tuple[int, int, int],
    line: int,
    scale: int,
    *,
    tint: float,
) -> None:
    masks = instances.cropped
    crop, (y0, x0) = scaled_mask(masks.crops[rank], masks.corners[rank], scale)
    top, left = max(0, -y0), max(0, -x0)  # a magnified mask has a margin, which may lie outside
    crop, y0, x0 = crop[top:, left:], y0 + top, x0 + left
    region = canvas[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
    crop = crop[: region.shape[0], : region.shape[1]]
    if not crop.any():
        return
    pixels = region[crop].astype(np.float32)
    region[crop] = np.rint(pixels + tint * (np.array(bgr, np.float32) - pixels)).astype(np.uint8)
    contours, _ = cv2.findContours(crop.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, bgr, line, cv2.LINE_AA, offset=(x0, y0))


def _bar(title: str, width: int) -> NDArray[np.uint8]:
    """Return a bar (H, width, 3) with a title; a long title shrinks, the bar does not."""
    scale = float(np.clip(width / 1000, 0.4, 1.2))
    (text_width, _), _ = cv2.getTextSize(title, FONT, scale, 1)
    (_, text_height), baseline = cv2.getTextSize("Ag", FONT, scale, 1)  # OpenCV's height depends on the letters
    bar = np.full((text_height + baseline + GAP, width, 3), GROUND, np.uint8)
    origin = (GAP // 2, bar.shape[0] - baseline - GAP // 2)
    shrunk = scale * min(1.0, (width - GAP) / text_width) if text_width else scale
    cv2.putText(bar, title, origin, FONT, shrunk, (TEXT,) * 3, 1, cv2.LINE_AA)
    return bar
