"""Small frames and instances to draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.runtime.instances import Instances

Boxes = list[tuple[int, int, int, int]]


@pytest.fixture
def make() -> Callable[..., Instances]:
    """Build instances from boxes (x0, y0, x1, y1), scores falling from 0.9."""

    def build(height: int, width: int, boxes: Boxes, names: tuple[str, ...] = ("cell", "dust")) -> Instances:
        if not boxes:
            return Instances.empty(height, width, names)
        masks = np.zeros((len(boxes), height, width), np.bool_)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        scores = 0.9 - 0.01 * np.arange(len(boxes))
        return Instances.from_masks(masks, scores, np.arange(len(boxes)) % len(names), names)

    return build


@pytest.fixture
def grey() -> Callable[[int, int], NDArray[np.uint8]]:
    """Build a mid-grey BGR frame."""
    return lambda height, width: np.full((height, width, 3), 128, np.uint8)
