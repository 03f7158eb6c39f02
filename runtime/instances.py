"""Instances: what every engine and the PyTorch reference return for one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solov2_edge.errors import InputError, require
from solov2_edge.runtime import exports
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.polygons import outline

__all__ = ["Instances"]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The n instances of one frame, scores falling; n = 0 is a normal value everywhere.

    Attributes:
        scores: (n,) float32 in [0, 1], never rising.
        labels: (n,) int64, index into ``class_names``.
        class_names: one name per class the model knows.
        cropped: the masks in frame pixels, each stored as a crop.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    cropped: CroppedMasks

    def __post_init__(self) -> None:
        count = len(self.cropped)
        require(
            self.scores.shape == (count,) and self.scores.dtype == np.float32,
            f"scores must be ({count},) float32, one per mask, got {self.scores.shape} {self.scores.dtype}",
        )
        require(
            self.labels.shape == (count,) and self.labels.dtype == np.int64,
            f"labels must be ({count},) int64, one per mask, got {self.labels.shape} {self.labels.dtype}",
        )
        require(
            bool(((self.labels >= 0) & (self.labels < len(self.class_names))).all()),
            f"labels must be indices into the {len(self.class_names)} class names, got {self.labels.tolist()}",
        )
        require(
            bool((self.scores[1:] <= self.scores[:-1]).all()),
            "scores must fall from first to last; Instances.from_masks sorts them",
        )

    @classmethod
    def empty(cls, height: int, width: int, class_names: Sequence[str]) -> Instances:
        """Return no instances in a frame of ``height`` x ``width`` pixels."""
        masks = CroppedMasks(height, width, (), ())
        return cls(np.zeros(0, np.float32), np.zeros(0, np.int64), tuple(class_names), masks)

    @classmethod
    def from_masks(
        cls, masks: ArrayLike, scores: ArrayLike, labels: ArrayLike, class_names: Sequence[str]
    ) -> Instances:
        """Build from full-size masks, sorting by falling score (equal scores keep their order).

        Args:
            masks: (n, H, W) bool, in frame pixels.
            scores: (n,) in [0, 1].
            labels: (n,) whole numbers, indices into ``class_names``.
            class_names: one name per class.

        Raises:
            InputError: shapes or types differ, or a label has no name.
        """
        cropped = CroppedMasks.from_dense(np.asarray(masks))
        scores = np.asarray(scores, np.float32)
        labels = np.asarray(labels)
        require(
            scores.shape == (len(cropped),) and labels.shape == scores.shape,
            f"every mask needs one score and one label, got {len(cropped)} masks, "
            f"scores {scores.shape} and labels {labels.shape}",
        )
        require(
            not labels.size or np.issubdtype(labels.dtype, np.integer),
            f"labels must be whole numbers, got {labels.dtype}",
        )
        require(not np.isnan(scores).any(), "scores must be numbers, got NaN")
        order = np.argsort(-scores, kind="stable")
        return cls(scores[order], labels[order].astype(np.int64), tuple(class_names), cropped.select(order))

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(H, W) of the frame in pixels."""
        return self.cropped.height, self.cropped.width

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(n, H, W) bool in frame pixels, pasted anew at every access: keep it in a variable."""
        return self.cropped.dense()

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(n, 4) float32 boxes (x0, y0, x1, y1) of the masks in frame pixels; see :meth:`CroppedMasks.boxes`."""
        return self.cropped.boxes()

    @property
    def areas(self) -> NDArray[np.int64]:
        """(n,) int64, foreground pixels of each mask."""
        return self.cropped.areas()

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return [self.class_names[label] for label in self.labels]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Instances]:
        """Yield each instance as Instances of length 1."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: int | slice | NDArray[Any] | Sequence[int] | Sequence[bool]) -> Instances:
        """Return the chosen instances: one (int), a slice, a bool per instance, or indices in any order.

        The result is sorted by falling score like every Instances.

        Raises:
            IndexError: an index beyond the instances, or a bool array of another length.
            InputError: another kind of key.
        """
        if isinstance(key, int | np.integer):
            key = [int(key)]
        elif not isinstance(key, slice):
            key = np.asarray(key)
            if key.ndim != 1 or not (key.size == 0 or key.dtype == np.bool_ or np.issubdtype(key.dtype, np.integer)):
                raise InputError(f"Instances are indexed by int, slice, bools or ints, got {key.dtype} {key.shape}")
            key = key.astype(np.intp) if key.size == 0 and key.dtype != np.bool_ else key
        chosen = np.arange(len(self))[key]
        chosen = chosen[np.argsort(-self.scores[chosen], kind="stable")]
        return Instances(self.scores[chosen], self.labels[chosen], self.class_names, self.cropped.select(chosen))

    def rle(self, *, compressed: bool = True) -> list[dict[str, Any]]:
        """Return one COCO RLE per instance: ``{"size": [H, W], "counts": ...}``.

        ``counts`` is COCO's compressed ASCII string, or with ``compressed=False`` the list of run lengths. Computed
        from the crops: no canvas is made.
        """
        return exports.coco_rle(self.cropped, compressed=compressed)

    def polygons(self, *, tolerance: float = 0.0) -> list[list[NDArray[np.float32]]]:
        """Return the outer contours of each instance: a list of (k, 2) float32 (x, y) per part, in frame pixels.

        Vertices lie on pixel edges: pixel (row r, column c) covers [c, c+1) x [r, r+1). ``tolerance`` simplifies, in
        pixels; see :func:`solov2_edge.runtime.polygons.outline`. An empty mask has no part.
        """
        crops = zip(self.cropped.crops, self.cropped.corners, strict=True)
        return [outline(crop, y0, x0, tolerance) for crop, (y0, x0) in crops]

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return COCO result entries; see :func:`solov2_edge.runtime.exports.to_coco`."""
        return exports.to_coco(self, image_id, category_ids)

    def to_labelme(self, image_path: str, *, tolerance: float = 1.0) -> dict[str, Any]:
        """Return a LabelMe 5 document; see :func:`solov2_edge.runtime.exports.to_labelme`."""
        return exports.to_labelme(self, image_path, tolerance=tolerance)

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``; see :func:`solov2_edge.runtime.exports.to_supervision`."""
        return exports.to_supervision(self)
