"""Scenes: raw outputs that decode to an exact number of instances, so that decoding is timed against that number.

Real outputs first: in the richest frame seen, the class scores of all cells but those around the best one are set to 0,
in a circle just large enough for the wanted number. Thresholds stay, so every object keeps its many candidates, as in a
frame that holds no more objects. (Raising the score threshold instead would leave one candidate each, and flatter.)
Where the frames hold fewer objects, planted discs stand in. Of one number, all contenders get the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs

if TYPE_CHECKING:  # bench.py imports this module
    from solov2_edge.runtime.bench import Contender

__all__ = ["PLANTED", "REAL", "Scene", "Seen", "find_scenes"]

REAL = "real outputs"
PLANTED = "planted discs"


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The richest frame of the warm-up.

    Attributes:
        raw: the network's outputs.
        geometry: of the frame.
        instances: how many it decodes to, without a limit on their number.
    """

    raw: RawOutputs
    geometry: Geometry
    instances: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Raw outputs and options that decode to exactly ``instances`` instances.

    Attributes:
        instances: the number.
        origin: :data:`REAL` or :data:`PLANTED`.
        candidates: (cell, class) pairs that decoding starts from.
        raw: what is decoded.
        geometry: of the frame it is decoded to.
        options: what it is decoded with.
    """

    instances: int
    origin: str
    candidates: int
    raw: RawOutputs
    geometry: Geometry
    options: DecodeOptions


def find_scenes(
    contenders: Sequence[Contender], seen: Sequence[Seen | None], counts: Sequence[int]
) -> list[tuple[Scene, ...]]:
    """Return per contender one scene per count; none for those of which nothing was seen, whose graphs decode.

    Raises:
        InputError: a network has no room for that many planted instances at its input size.
    """
    rich_ones = [(contender, rich) for contender, rich in zip(contenders, seen, strict=True) if rich is not None]
    found = iter(_scenes_of([c for c, _ in rich_ones], [rich for _, rich in rich_ones], counts))
    return [() if rich is None else next(found) for rich in seen]


def _scenes_of(contenders: Sequence[Contender], seen: Sequence[Seen], counts: Sequence[int]) -> list[tuple[Scene, ...]]:
    per_count = []
    for count in counts:
        real = [_cleared(contender, rich, count) for contender, rich in zip(contenders, seen, strict=True)]
        found = [scene for scene in real if scene is not None]
        if len(found) < len(real):
            found = [_planted(contender, count) for contender in contenders]
        per_count.append(found)
    return [tuple(scenes[index] for scenes in per_count) for index in range(len(contenders))]


def _cleared(contender: Contender, seen: Seen, count: int) -> Scene | None:
    """Clear the richest frame around its best cell until ``count`` instances are left; None where it has fewer."""
    if seen.instances < count:
        return None
    options = replace(contender.options, max_instances=max(count, 1))
    distance = _distance_to_best(seen.raw, contender.spec.grids)
    radii = np.unique(distance)

    def within(index: int) -> RawOutputs:
        inside = distance <= radii[index] if count else np.zeros(len(distance), np.bool_)
        return replace(seen.raw, class_scores=seen.raw.class_scores * inside[:, None])

    few, enough = -1, len(radii) - 1  # the last clears nothing
    while enough - few > 1:
        middle = (few + enough) // 2
        if len(contender.decode(within(middle), seen.geometry, contender.spec, options)) >= count:
            enough = middle
        else:
            few = middle
    return _scene(contender, within(enough), seen.geometry, options, REAL)


def _distance_to_best(raw: RawOutputs, grids: tuple[int, ...]) -> NDArray[np.float64]:
    """Return (cells,) the distance of each cell's centre to the best scoring cell's, the input being 1 x 1."""
    centres = np.concatenate([(np.indices((side, side)).reshape(2, -1).T + 0.5) / side for side in grids])
    best = int(raw.class_scores.max(axis=1).argmax())
    offset = centres - centres[best]
    return np.asarray(np.hypot(offset[:, 0], offset[:, 1]))


def _planted(contender: Contender, count: int) -> Scene:
    options = replace(contender.options, max_instances=max(count, 1))
    score = (1 + max(options.score_threshold, options.keep_threshold)) / 2
    geometry = contender.geometry(*contender.frames[0].shape[:2])
    scene = _scene(contender, planted_outputs(contender.spec, geometry, count, score=score), geometry, options, PLANTED)
    require(
        scene.instances == count,
        f"{contender.name}: of {count} planted instances {scene.instances} survive decoding with its options at "
        f"{geometry.input_height} x {geometry.input_width}; ask for fewer with --instances or lower the thresholds",
    )
    return scene


def _scene(contender: Contender, raw: RawOutputs, geometry: Geometry, options: DecodeOptions, origin: str) -> Scene:
    spec = contender.spec
    candidates = find_candidates(raw.class_scores, spec.grids, options.score_threshold, options.points_nms)
    instances = contender.decode(raw, geometry, spec, options)
    return Scene(len(instances), origin, len(candidates), raw, geometry, options)
