"""Panoptic: one label and one segment for every pixel of a frame, things counted one by one, stuff by its extent."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.instances import Instances

__all__ = ["Panoptic", "PanopticOptions", "PanopticSegment"]


@dataclass(frozen=True, slots=True)
class PanopticOptions:
    """How instances and stuff are merged; see :func:`solov2_edge.runtime.panoptic_merge.merge_panoptic`.

    Attributes:
        score_threshold: score an instance must reach, in [0, 1].
        overlap_threshold: share of an instance's mask that better instances may cover, in [0, 1]; 0.5 as in
            Panoptic-FPN.
        stuff_area: pixels of the frame a stuff segment must have; 4096 as in Panoptic-FPN, whose pictures have about
            640 x 480.
    """

    score_threshold: float = 0.3
    overlap_threshold: float = 0.5
    stuff_area: int = 4096

    def __post_init__(self) -> None:
        for name in ("score_threshold", "overlap_threshold"):
            value = getattr(self, name)
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
            require(good, f"{name} must lie between 0 and 1, got {value!r}")
        area = self.stuff_area
        whole = isinstance(area, int) and not isinstance(area, bool) and area >= 0
        require(whole, f"stuff_area must be a whole number of pixels of at least 0, got {area!r}")


@dataclass(frozen=True, slots=True)
class PanopticSegment:
    """One segment of a frame.

    Attributes:
        id: its value in the map, from 1.
        label: index into ``Panoptic.names``.
        is_thing: whether it is one instance; stuff has one segment per label.
        score: of the instance, in [0, 1]; None for stuff, which has no score.
        area: its pixels.
    """

    id: int
    label: int
    is_thing: bool
    score: float | None
    area: int


@dataclass(frozen=True, slots=True, eq=False)
class Panoptic:
    """The segments of one frame; none at all is a normal value.

    Attributes:
        ids: (H, W) int32, in frame pixels: a segment's id, 0 where there is none (void).
        segments: by rising id, 1, 2, ...: things by falling score, then stuff by label.
        names: name of each label: the spec's things, then its stuff.
        instances: what the things were taken from, those that were left out too.
    """

    ids: NDArray[np.int32]
    segments: tuple[PanopticSegment, ...]
    names: tuple[str, ...]
    instances: Instances = field(repr=False)

    def __post_init__(self) -> None:
        require(
            self.ids.ndim == 2 and self.ids.dtype == np.int32,
            f"ids must be an (H, W) int32 map, got {self.ids.dtype} {self.ids.shape}",
        )
        require(
            self.ids.shape == self.instances.frame_shape,
            f"the map {self.ids.shape} and the instances {self.instances.frame_shape} must be of one frame (H, W)",
        )
        things = len(self.instances.class_names)
        require(
            all(0 <= s.label < len(self.names) and s.is_thing == (s.label < things) for s in self.segments),
            f"labels must be indices into the {len(self.names)} names, things below {things} and stuff from there on, "
            f"got {[(s.label, s.is_thing) for s in self.segments]}",
        )
        count = len(self.segments)
        inside = not self.ids.size or (int(self.ids.min()) >= 0 and int(self.ids.max()) <= count)
        areas = np.bincount(self.ids.ravel(), minlength=count + 1)[1:] if inside else None
        require(
            areas is not None
            and [s.id for s in self.segments] == list(range(1, count + 1))
            and [s.area for s in self.segments] == areas.tolist(),
            f"the map must hold 0 and the ids 1..{count} of its segments, each with the area the segment says",
        )

    def __len__(self) -> int:
        return len(self.segments)

    def mask(self, segment: PanopticSegment) -> NDArray[np.bool_]:
        """Return the (H, W) bool mask of one of the segments."""
        return np.asarray(self.ids == segment.id)

    @property
    def labels(self) -> NDArray[np.int32]:
        """(H, W) int32 label of each pixel, an index into ``names``; -1 where there is no segment."""
        return np.array([-1, *(s.label for s in self.segments)], np.int32)[self.ids]
