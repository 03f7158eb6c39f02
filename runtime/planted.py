"""Raw outputs with a known number of instances: discs that do not overlap, in the shapes of a real network.

A disc is a linear function of the four maps 1, x, y and x^2 + y^2, so four mask channels hold any number of them; the
other channels cost the same arithmetic and add nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.upscale import SCALE
from solov2_edge.spec import ModelSpec

__all__ = ["DISC_CHANNELS", "planted_outputs"]

COPIES = 2  # weaker candidates of the same mask beside each instance; a real network gives two to ten
# Score of a copy over that of its disc. A Gaussian decay leaves exp(-2) = 0.135 of it, which is then below the
# reference's keep_threshold of 0.05.
COPY_SCORE = 0.3
CENTRE_LOGIT = 40.0  # of a disc: steep enough that its mean probability is above 0.98
LARGEST = 7  # a radius is at most the frame's shorter side over this: objects, not walls
FILL = 0.48  # radius over the distance of neighbours
DISC_CHANNELS = 4  # 1, x, y and x^2 + y^2


def planted_outputs(spec: ModelSpec, geometry: Geometry, count: int, *, score: float = 0.9) -> RawOutputs:
    """Return raw outputs that decode to ``count`` discs, each with two weaker candidates that Matrix NMS removes.

    Args:
        spec: grids, strides, classes and mask channels (at least 4).
        geometry: the discs lie inside the resized frame.
        count: number of discs, at least 0; classes in turn.
        score: class score of a disc in (0, 1]; its copies have :data:`COPY_SCORE` of that.

    Raises:
        InputError: fewer than 4 mask channels, or more discs than the grids have room for.
    """
    require(
        spec.mask_channels >= DISC_CHANNELS,
        f"planting discs needs at least {DISC_CHANNELS} mask channels, {spec.name} has {spec.mask_channels}",
    )
    cells = _cells_apart(spec.grids)
    require(
        count <= len(cells), f"{spec.name} has room for at most {len(cells)} planted instances, {count} were asked for"
    )
    copies = min(COPIES, len(cells) // max(count, 1) - 1)
    scores = np.zeros((spec.num_cells, spec.num_classes), np.float32)
    kernels = np.zeros((spec.num_cells, spec.kernel_length), np.float32)
    taps = spec.kernel_size**2
    # Of a 3x3 kernel, the middle tap alone; separate mask features are the same at every level.
    places = np.arange(DISC_CHANNELS) * taps + taps // 2
    discs = _disc_kernels(geometry, count)
    labels = np.arange(count) % spec.num_classes
    for turn in range(1 + copies):
        chosen = cells[turn * count : (turn + 1) * count]
        scores[chosen, labels] = score if turn == 0 else COPY_SCORE * score
        kernels[chosen[:, None], places] = discs
    features = _mask_features(spec.mask_channels, geometry)
    return RawOutputs(scores, kernels, np.tile(features, (spec.feature_channels // spec.mask_channels, 1, 1)))


def _cells_apart(grids: tuple[int, ...]) -> NDArray[np.int64]:
    """Return cells no two of which touch, finest level first, so that points NMS leaves all of them."""
    found, start = [], 0
    for side in grids:
        row, column = np.mgrid[0:side:2, 0:side:2]
        found.append((start + row * side + column).ravel())
        start += side * side
    return np.concatenate(found).astype(np.int64)


def _disc_kernels(geometry: Geometry, count: int) -> NDArray[np.float32]:
    """Return (count, 4) kernels of discs on a regular lattice over the resized frame."""
    height, width = geometry.resized_height / SCALE, geometry.resized_width / SCALE
    columns = max(1, math.ceil(math.sqrt(count * width / height)))
    rows = max(1, math.ceil(count / columns))
    step_y, step_x = height / rows, width / columns
    radius = min(FILL * min(step_y, step_x), min(height, width) / LARGEST) / _unit(geometry)
    index = np.arange(count)
    y = (index // columns + 0.5) * step_y / _unit(geometry)
    x = (index % columns + 0.5) * step_x / _unit(geometry)
    # radius^2 - (X - x)^2 - (Y - y)^2, scaled to CENTRE_LOGIT at the centre
    terms = np.stack([radius**2 - x**2 - y**2, 2 * x, 2 * y, -np.ones(count)], axis=1)
    return np.asarray(terms * (CENTRE_LOGIT / radius**2), np.float32)


def _mask_features(channels: int, geometry: Geometry) -> NDArray[np.float32]:
    height, width = geometry.input_height // SCALE, geometry.input_width // SCALE
    y, x = np.mgrid[0:height, 0:width] + 0.5
    y, x = y / _unit(geometry), x / _unit(geometry)
    features = np.ones((channels, height, width), np.float32)
    features[1], features[2], features[3] = x, y, x**2 + y**2
    return features


def _unit(geometry: Geometry) -> float:
    """Return the quarter-scale pixels that make 1: coordinates stay below it, where float32 is precise."""
    return max(geometry.input_height, geometry.input_width) / SCALE
