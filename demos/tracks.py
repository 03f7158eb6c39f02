"""Tracks: the same number for the same object from frame to frame, by the IoU of masks.

Of every pair of a track and an instance of one class, the track's mask moved on by the track's own speed, the pair of
the highest IoU is taken first, then the highest of those left, while it is high enough. Masks of one class hardly
overlap each other after Matrix NMS, so the assignment of the highest sum would be the same but for rare ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.instances import Instances

__all__ = ["Tracker"]

LEAST_IOU = 0.25  # an object that moves by half its width keeps a third
PATIENCE = 15  # frames a track outlives its object
MOST = 300  # tracks kept; a model gives 100 instances, so that three times as many are remembered
NEWEST = 0.5  # weight of the last step in a track's speed

Mask = tuple[NDArray[np.bool_], int, int]  # a crop and the (y0, x0) of its top-left pixel in the frame


@dataclass(slots=True, eq=False)
class _Track:
    """One object; positions in frame pixels, speed in pixels per frame of the source."""

    number: int
    label: int
    mask: NDArray[np.bool_]
    corner: tuple[int, int]
    box: tuple[float, float, float, float]
    area: int
    index: int
    speed: tuple[float, float] = (0.0, 0.0)
    seen: int = 1
    missed: int = 0

    def step(self, index: int) -> tuple[int, int]:
        """Return how far the object will have moved, (rows, columns), at frame ``index``."""
        frames = index - self.index
        return round(self.speed[0] * frames), round(self.speed[1] * frames)


class Tracker:
    """Gives instances the numbers of their tracks; memory does not grow with the number of frames."""

    def __init__(self, *, least_iou: float = LEAST_IOU, patience: int = PATIENCE) -> None:
        """Start without tracks.

        Args:
            least_iou: IoU from which a track and an instance are the same object, in (0, 1].
            patience: frames that a track is kept without its object.

        Raises:
            InputError: an argument out of range.
        """
        require(0 < least_iou <= 1, f"least_iou must be above 0 and at most 1, got {least_iou!r}")
        require(
            isinstance(patience, int) and not isinstance(patience, bool) and patience >= 0,
            f"patience must be a whole number of frames of at least 0, got {patience!r}",
        )
        self._least_iou = least_iou
        self._patience = patience
        self._tracks: list[_Track] = []
        self._next = 1
        self._shape = (0, 0)
        self._index = -1

    def __len__(self) -> int:
        """Return the number of tracks that are remembered, lost ones included."""
        return len(self._tracks)

    def forget(self) -> None:
        """End all tracks; their numbers are not given again."""
        self._tracks = []

    def update(self, instances: Instances, index: int) -> NDArray[np.int64]:
        """Return the track of each instance, (n,) int64 from 1; one that was not seen before starts a track.

        Args:
            instances: of the next frame. Frames of another size than the one before start over.
            index: the frame's place in its source, frames left out counted; speeds are per such frame. The same one
                again (a frame decoded with another threshold) does not age the tracks.
        """
        if instances.frame_shape != self._shape:
            self._shape = instances.frame_shape
            self.forget()
        boxes, areas = instances.boxes, instances.areas
        numbers = np.zeros(len(instances), np.int64)
        if index != self._index:
            self._index = index
            for track in self._tracks:
                track.missed += 1
        for track, instance in self._matches(instances, boxes, areas, index):
            numbers[instance] = track.number
            _follow(track, instances, instance, boxes[instance], int(areas[instance]), index)
        for instance in np.flatnonzero(numbers == 0).tolist():
            numbers[instance] = self._next
            self._tracks.append(_start(self._next, instances, instance, boxes[instance], areas[instance], index))
            self._next += 1
        kept = [track for track in self._tracks if track.missed <= self._patience]
        # Beyond the limit those go that were not seen for longest.
        self._tracks = sorted(kept, key=lambda track: track.missed)[:MOST]
        return numbers

    def _matches(
        self, instances: Instances, boxes: NDArray[np.float32], areas: NDArray[np.int64], index: int
    ) -> list[tuple[_Track, int]]:
        tracks = self._tracks
        if not tracks or not len(instances):
            return []
        steps = [track.step(index) for track in tracks]
        first, second = _near(tracks, steps, instances.labels, boxes)
        masks = instances.cropped
        overlaps = []
        for row, instance in zip(first.tolist(), second.tolist(), strict=True):
            track, (down, right) = tracks[row], steps[row]
            moved = (track.mask, track.corner[0] + down, track.corner[1] + right)
            common = _common(moved, (masks.crops[instance], *masks.corners[instance]))
            overlaps.append(common / max(1, track.area + int(areas[instance]) - common))
        taken_tracks: set[int] = set()
        taken: set[int] = set()
        found = []
        for pair in np.argsort(-np.array(overlaps), kind="stable").tolist():
            row, instance = int(first[pair]), int(second[pair])
            if overlaps[pair] < self._least_iou:
                break
            if row not in taken_tracks and instance not in taken:
                taken_tracks.add(row)
                taken.add(instance)
                found.append((tracks[row], instance))
        return found


def _near(
    tracks: Sequence[_Track],
    steps: Sequence[tuple[int, int]],
    labels: NDArray[np.int64],
    boxes: NDArray[np.float32],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs (track, instance) of one class whose boxes overlap once the tracks are moved on."""
    moved = np.array([track.box for track in tracks]) + np.array([(right, down) * 2 for down, right in steps])
    x0, y0, x1, y1 = moved.T[:, :, None]
    near = np.array([track.label for track in tracks])[:, None] == labels
    near &= (x0 < boxes[:, 2]) & (boxes[:, 0] < x1) & (y0 < boxes[:, 3]) & (boxes[:, 1] < y1)
    first, second = np.nonzero(near)
    return first, second


def _common(a: Mask, b: Mask) -> int:
    """Return the pixels common to two cropped masks."""
    top, left = max(a[1], b[1]), max(a[2], b[2])
    bottom = min(a[1] + a[0].shape[0], b[1] + b[0].shape[0])
    right = min(a[2] + a[0].shape[1], b[2] + b[0].shape[1])
    if bottom <= top or right <= left:
        return 0
    parts = [crop[top - y0 : bottom - y0, left - x0 : right - x0] for crop, y0, x0 in (a, b)]
    return int(np.count_nonzero(parts[0] & parts[1]))


def _start(
    number: int, instances: Instances, instance: int, box: NDArray[np.float32], area: np.int64, index: int
) -> _Track:
    masks = instances.cropped
    corner, crop = masks.corners[instance], masks.crops[instance]
    return _Track(number, int(instances.labels[instance]), crop, corner, _plain(box), int(area), index)


def _follow(
    track: _Track, instances: Instances, instance: int, box: NDArray[np.float32], area: int, index: int
) -> None:
    """Bring a track to where its object is now."""
    new = _plain(box)
    frames = index - track.index
    track.mask, track.corner = instances.cropped.crops[instance], instances.cropped.corners[instance]
    track.area, track.missed = area, 0
    if not frames:
        return
    # Opposite edges: an object that comes out from behind something grows on one side and does not move by as much.
    x = _slower(new[0] - track.box[0], new[2] - track.box[2]) / frames
    y = _slower(new[1] - track.box[1], new[3] - track.box[3]) / frames
    weight = 1.0 if track.seen == 1 else NEWEST
    track.speed = (track.speed[0] + weight * (y - track.speed[0]), track.speed[1] + weight * (x - track.speed[1]))
    track.box, track.index = new, index
    track.seen += 1


def _slower(one: float, other: float) -> float:
    """Return the smaller of two movements of opposite edges; none where they disagree in direction."""
    if one * other <= 0:
        return 0.0
    return one if abs(one) < abs(other) else other


def _plain(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1
