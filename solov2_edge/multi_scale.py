"""Training pictures at several sizes, as the paper's recipe has them: short side drawn, aspect kept, batches padded.

What a grid cell is depends on the padded size of the batch, so targets are assigned when a batch is put together.
Pictures are resized bilinearly, masks to the nearest pixel, both before they are mirrored: the authors' order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from solov2_edge.augment import AugmentOptions, augment_colour, draw_moves
from solov2_edge.copy_paste import paste_objects
from solov2_edge.data import CocoPictures, Sample, collate, normalise, quarter_mask, read_scene
from solov2_edge.loss import BatchTargets
from solov2_edge.spec import ModelSpec
from solov2_edge.targets import assign_targets

__all__ = ["LooseSample", "MultiScaleSet", "PaddedCollate", "resized_size"]

MULTIPLE = 32  # of a network input's sides


@dataclass(frozen=True, slots=True)
class LooseSample:
    """One picture that does not know its batch's size yet.

    Attributes:
        image: (3, h, w) float32, normalised, not padded.
        boxes: (n, 4) float32 xyxy in resized pixels, x2 = x1 + width.
        centres: (n, 2) float32 (x, y), mean pixel index of each resized mask.
        labels: (n,) int64.
        masks: (n, ceil(h / 4), ceil(w / 4)) float32 in [0, 1].
    """

    image: NDArray[np.float32]
    boxes: NDArray[np.float32]
    centres: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float32]


def resized_size(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """Return (height, width) scaled, up or down, until the box (short, long) is touched from inside."""
    factor = min(long / max(height, width), short / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


class MultiScaleSet(Dataset[LooseSample]):
    """Samples by (epoch, index), each at a short side of its own.

    Args:
        pictures: what to train on.
        spec: the network; its ``resize_box`` caps the long side.
        short_sides: one is drawn per picture and epoch.
        options: augmentation; its ``scale`` is not used.
        seed: with the epoch and index, decides everything random about a sample.
    """

    def __init__(
        self,
        pictures: CocoPictures,
        spec: ModelSpec,
        short_sides: Sequence[int],
        options: AugmentOptions,
        seed: int,
    ) -> None:
        self.pictures, self.spec, self.options, self.seed = pictures, spec, options, seed
        self.short_sides = tuple(short_sides)

    def __len__(self) -> int:
        return len(self.pictures.files)

    def __getitem__(self, key: tuple[int, int]) -> LooseSample:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        scene = read_scene(self.pictures, index)
        if rng.random() < self.options.copy_paste:
            scene = paste_objects(scene, read_scene(self.pictures, int(rng.integers(len(self)))), rng)
        height, width = scene.picture.shape[:2]
        short = self.short_sides[int(rng.integers(len(self.short_sides)))]
        rows, columns = resized_size(height, width, short, max(self.spec.resize_box[1], short))
        picture = cv2.resize(scene.picture, (columns, rows), interpolation=cv2.INTER_LINEAR)
        masks = np.stack([cv2.resize(m, (columns, rows), interpolation=cv2.INTER_NEAREST) for m in scene.masks])
        # Boxes are scaled as the annotation has them; a resized mask's own would be a pixel off.
        frame = np.array([cv2.boundingRect(m) for m in scene.masks], np.float32)
        scale = np.array([columns / width, rows / height], np.float32)
        boxes = np.concatenate([frame[:, :2] * scale, (frame[:, :2] + frame[:, 2:]) * scale], axis=1)
        moves = draw_moves(self.options, rng)
        boxes = moves.of_boxes(boxes, rows, columns)
        masks = moves.of_array(masks, 1)
        picture = moves.of_array(picture.astype(np.uint8, copy=False), 0)
        picture = augment_colour(picture, self.options.colour, rng)
        filled = np.flatnonzero(masks.any(axis=(1, 2)))
        return LooseSample(
            normalise(picture, (picture.shape[0], picture.shape[1]), self.spec),
            boxes[filled].astype(np.float32),
            np.array([centre_of(mask) for mask in masks[filled]], np.float32).reshape(-1, 2),
            np.array(scene.labels, np.int64)[filled],
            quarter_masks(masks[filled]),
        )


def centre_of(mask: NDArray[np.uint8]) -> tuple[float, float]:
    """Return (x, y), the mean pixel index of a mask (h, w) of 0 and 1 that is not empty."""
    moments = cv2.moments(mask, binaryImage=True)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def quarter_masks(masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce masks (n, h, w) of 0 and 1 to (n, ceil(h / 4), ceil(w / 4)) float32 as the authors do; 0 lies beyond."""
    count, height, width = masks.shape
    rows, columns = -(-height // 4), -(-width // 4)
    padded = np.zeros((count, rows * 4, columns * 4), np.uint8)
    padded[:, :height, :width] = masks * np.uint8(255)
    out = np.zeros((count, rows, columns), np.float32)
    for target, mask in zip(out, padded, strict=True):
        target[:] = quarter_mask(mask, "reference")
    return out


class PaddedCollate:
    """Puts a batch together: pads its pictures to the largest, in multiples of 32, and assigns their targets.

    Args:
        spec: grids, scale ranges and class count.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def __call__(self, samples: Sequence[LooseSample]) -> tuple[Tensor, BatchTargets]:
        """Return images (n, 3, H, W) and their targets."""
        height, width = (
            max(-(-sample.image.shape[axis] // MULTIPLE) * MULTIPLE for sample in samples) for axis in (1, 2)
        )
        return collate([self._padded(sample, height, width) for sample in samples])

    def _padded(self, sample: LooseSample, height: int, width: int) -> Sample:
        image = np.zeros((3, height, width), np.float32)
        image[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
        masks = np.zeros((len(sample.masks), height // 4, width // 4), np.float32)
        masks[:, : sample.masks.shape[1], : sample.masks.shape[2]] = sample.masks
        targets = assign_targets(sample.boxes, sample.labels, sample.centres, (height, width), self.spec)
        return Sample(*map(torch.from_numpy, (image, targets.class_map, targets.cells, targets.objects, masks)))
