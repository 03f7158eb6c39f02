"""The pictures an artefact and PyTorch disagree on most, written as overlays to look at."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.matching import match
from solov2_edge.converters.verification import WorstPicture
from solov2_edge.demos.compare import Disagreements, side_by_side
from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.files import output_folder, write_aside
from solov2_edge.runtime import Instances

__all__ = ["WorstPictures"]

SHOWN = 0.3  # least score of what is shown to people; a partner may have less
PAIRED, SAME = 0.5, 0.9  # mask IoU from which two instances are partners, and from which their outlines agree


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One compared picture; only what is shown."""

    name: str
    frame: NDArray[np.uint8]
    reference: Instances
    ours: Instances
    disagreements: Disagreements
    partners: dict[int, int]  # instance of ours -> the reference's
    quality: float


class WorstPictures:
    """Keeps the pictures of lowest quality out of any number, and writes them.

    Attributes:
        folder: where the overlays go.
    """

    def __init__(self, folder: Path, count: int, artefact: str) -> None:
        """Prepare to keep ``count`` pictures.

        Args:
            folder: where the overlays go; made if need be.
            count: how many, at least 1.
            artefact: file name, for the titles.

        Raises:
            InputError: the count is below 1, or a file stands where the folder should be.
        """
        require(count >= 1, f"the number of worst pictures must be at least 1, got {count}")
        self.folder = output_folder(folder)
        self._count, self._artefact = count, artefact
        self._kept: list[tuple[float, int, _Seen]] = []  # a heap, the best of the kept on top
        self._seen = 0

    def add(self, name: str, frame: NDArray[np.uint8], reference: Instances, ours: Instances) -> None:
        """Look at one picture; one without any disagreement is not kept.

        Args:
            name: file name.
            frame: BGR uint8 (H, W, 3).
            reference: PyTorch's instances.
            ours: the artefact's.
        """
        self._seen += 1
        seen = _look(name, frame, reference, ours)
        if len(seen.disagreements):
            push = heapq.heappush if len(self._kept) < self._count else heapq.heappushpop
            push(self._kept, (-seen.quality, -self._seen, seen))

    def write(self) -> tuple[WorstPicture, ...]:
        """Write one overlay per kept picture, ``worst-NN-NAME.png``, and describe them, the worst first.

        Overlays of an earlier run are removed: their ranks are no longer true.

        Raises:
            OSError: the folder cannot be written.
        """
        for old in self.folder.glob("worst-[0-9][0-9]-*.png"):
            old.unlink()
        ranked = [seen for _, _, seen in sorted(self._kept, key=lambda item: (-item[0], -item[1]))]
        return tuple(self._write(rank, seen) for rank, seen in enumerate(ranked, start=1))

    def _write(self, rank: int, seen: _Seen) -> WorstPicture:
        apart = seen.disagreements
        missed, extra, loose = len(apart.missed), len(apart.extra), len(apart.loose)
        titles = (
            f"{seen.name} in PyTorch: {len(seen.reference)} instances",
            f"{self._artefact}: {len(seen.ours)}",
            f"{missed} only in PyTorch (orange), {extra} only here (blue), {loose} outlines apart",
        )
        count = len(seen.reference)
        colours = [seen.partners.get(rank, count + rank) for rank in range(len(seen.ours))]
        overlay = side_by_side(seen.frame, seen.reference, seen.ours, apart, titles, numbers=(range(count), colours))
        good, data = cv2.imencode(".png", overlay)
        if not good:
            raise SolovEdgeError(f"OpenCV cannot encode the overlay of {seen.name} as PNG")
        path = write_aside(self.folder / f"worst-{rank:02d}-{Path(seen.name).stem}.png", data.tobytes())
        return WorstPicture(seen.name, str(path), seen.quality, missed, extra, loose)


def _look(name: str, frame: NDArray[np.uint8], reference: Instances, ours: Instances) -> _Seen:
    """Pair the instances; shown is what scores well in either result, together with its partner."""
    matching = match(reference, ours)
    pairs = [
        (i, j, iou)
        for (i, j), iou in zip(matching.pairs, matching.ious, strict=True)
        if iou >= PAIRED and max(reference.scores[i], ours.scores[j]) >= SHOWN
    ]
    alone = _alone(reference, {i for i, _, _ in pairs}), _alone(ours, {j for _, j, _ in pairs})
    kept = sorted([*(i for i, _, _ in pairs), *alone[0]]), sorted([*(j for _, j, _ in pairs), *alone[1]])
    place = [{rank: new for new, rank in enumerate(ranks)} for ranks in kept]
    disagreements = Disagreements(
        missed=[place[0][i] for i in alone[0]],
        extra=[place[1][j] for j in alone[1]],
        loose=[(place[0][i], place[1][j]) for i, j, iou in pairs if iou < SAME],
    )
    # Panoptic quality, Kirillov et al. 2019, equation 1.
    weight = len(pairs) + (len(alone[0]) + len(alone[1])) / 2
    quality = sum(iou for _, _, iou in pairs) / weight if weight else 1.0
    partners = {place[1][j]: place[0][i] for i, j, _ in pairs}
    return _Seen(name, frame, reference[kept[0]], ours[kept[1]], disagreements, partners, quality)


def _alone(instances: Instances, paired: set[int]) -> list[int]:
    return [rank for rank, score in enumerate(instances.scores) if score >= SHOWN and rank not in paired]
