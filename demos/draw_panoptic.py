"""A panoptic map drawn over its picture: things in colours of their own, stuff in one colour per label."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.draw import draw_instances
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.panoptic import Panoptic

__all__ = ["draw_panoptic"]

STUFF_COLOURS = 1000  # first colour number of stuff: as good as never reached by counting things


def draw_panoptic(
    frame: NDArray[np.uint8], panoptic: Panoptic, *, labels: bool = True, scale: int = 1, alpha: float = 0.5
) -> NDArray[np.uint8]:
    """Return a copy of ``frame`` with every segment tinted, outlined and, where a tag fits, named.

    Args:
        frame: BGR uint8 (H, W, 3), the frame the map belongs to.
        panoptic: what to draw; void stays as it is.
        labels: draw tags.
        scale: magnify the picture by this whole number first.
        alpha: opacity of the tint, 0..1.

    Raises:
        InputError: the frame is not the one the map belongs to, or an option is out of range.
    """
    crops, corners = [], []
    for segment in panoptic.segments:
        mask = panoptic.mask(segment)
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        crops.append(mask[y : y + height, x : x + width])
        corners.append((y, x))
    height, width = panoptic.ids.shape
    drawn = Instances(
        np.array([segment.score or 0.0 for segment in panoptic.segments], np.float32),
        np.array([segment.label for segment in panoptic.segments], np.int64),
        panoptic.names,
        CroppedMasks(height, width, tuple(corners), tuple(crops)),
    )
    numbers = [s.id - 1 if s.is_thing else STUFF_COLOURS + s.label for s in panoptic.segments]
    return draw_instances(frame, drawn, alpha=alpha, labels=labels, scores=False, numbers=numbers, scale=scale)
