"""Annotated pictures as training samples: augmented per epoch, with targets assigned in the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from solov2_edge.annotated_pictures import CocoPictures, decode_mask, read_pictures, read_scene
from solov2_edge.augment import (
    AugmentOptions,
    PlacedMask,
    Window,
    augment_colour,
    flip_and_turn,
    place_mask,
    scale_and_crop,
)
from solov2_edge.copy_paste import Scene, paste_objects
from solov2_edge.loss import BatchTargets
from solov2_edge.spec import ModelSpec
from solov2_edge.targets import assign_targets

__all__ = ["CocoPictures", "Sample", "TrainingSet", "collate", "decode_mask", "read_pictures", "read_scene"]

MIN_SIDE = 2  # annotated boxes with a smaller side, in resized pixels, teach nothing


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture ready for the network.

    Attributes:
        image: (3, H, W) float32, normalised, in the spec's channel order, zero-padded.
        class_map: (cells,) int64.
        cells, objects: (pairs,) int64.
        masks: (objects, H / 4, W / 4) float32 in [0, 1].
        semantic: (H, W) uint8 labels for the semantic branch, None where there is none; see ``semantic_loss``.
    """

    image: Tensor
    class_map: Tensor
    cells: Tensor
    objects: Tensor
    masks: Tensor
    semantic: Tensor | None = None


class TrainingSet(Dataset[Sample]):
    """Samples at a fixed input size, by (epoch, index): an epoch's draws follow from its number, whoever asks.

    Args:
        pictures: what to train on.
        spec: the network; its classes must be those of ``pictures``.
        input_size: (H, W), the size the artefacts will have: SOLO's kernels depend on absolute position.
        options: augmentation.
        seed: with the epoch and index, decides everything random about a sample.
        mask_target: ``"coverage"``: share of each quarter-scale pixel that is object; ``"reference"``: binary, the
            authors' bilinear reduction of the uint8 mask.
    """

    def __init__(
        self,
        pictures: CocoPictures,
        spec: ModelSpec,
        input_size: tuple[int, int],
        options: AugmentOptions,
        seed: int,
        mask_target: str = "coverage",
    ) -> None:
        self.pictures = pictures
        self.spec = spec
        self.input_size = input_size
        self.options = options
        self.seed = seed
        self.mask_target = mask_target

    def __len__(self) -> int:
        return len(self.pictures.files)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        scene = self._scene(index, rng)
        if rng.random() < self.options.copy_paste:
            scene = paste_objects(scene, self._scene(int(rng.integers(len(self))), rng), rng)
        factor = float(np.exp(rng.uniform(*np.log(self.options.scale))))
        picture, window = scale_and_crop(scene.picture, self.input_size, factor, rng)
        picture = augment_colour(picture, self.options.colour, rng)
        placed = [(label, place_mask(mask, window)) for label, mask in zip(scene.labels, scene.masks, strict=True)]
        return self._sample(picture, window, [(label, p) for label, p in placed if p is not None])

    def _scene(self, index: int, rng: np.random.Generator) -> Scene:
        """Read one picture with its objects, mirrored and turned."""
        scene = read_scene(self.pictures, index)
        return Scene(*flip_and_turn(scene.picture, scene.masks, self.options, rng), scene.labels)

    def _sample(self, picture: NDArray[np.uint8], window: Window, objects: list[tuple[int, PlacedMask]]) -> Sample:
        """Normalise the picture and assign its objects; those cut away by the window are left out."""
        boxes: list[tuple[int, int, int, int]] = []
        centres: list[tuple[float, float]] = []
        labels: list[int] = []
        quarter = np.zeros((len(objects), self.input_size[0] // 4, self.input_size[1] // 4), np.float32)
        for label, placed in objects:
            binary = (placed.crop >= 128).view(np.uint8)
            x, y, w, h = cv2.boundingRect(binary)
            if w < MIN_SIDE or h < MIN_SIDE:
                continue
            moments = cv2.moments(binary, binaryImage=True)
            centres.append(
                (moments["m10"] / moments["m00"] + placed.left, moments["m01"] / moments["m00"] + placed.top)
            )
            boxes.append((x + placed.left, y + placed.top, x + placed.left + w, y + placed.top + h))
            rows = slice(placed.top // 4, (placed.top + binary.shape[0]) // 4)
            cols = slice(placed.left // 4, (placed.left + binary.shape[1]) // 4)
            quarter[len(labels), rows, cols] = quarter_mask(placed.crop, self.mask_target)
            labels.append(label)
        targets = assign_targets(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(centres, np.float32).reshape(-1, 2),
            self.input_size,
            self.spec,
        )
        return Sample(
            torch.from_numpy(normalise(picture, window.content, self.spec)),
            torch.from_numpy(targets.class_map),
            torch.from_numpy(targets.cells),
            torch.from_numpy(targets.objects),
            torch.from_numpy(quarter[: len(labels)]),
        )


def quarter_mask(crop: NDArray[np.uint8], mask_target: str) -> NDArray[np.float32]:
    """Reduce a mask crop (h, w) uint8 0..255, sides multiples of 4, to its target (h / 4, w / 4) float32 in [0, 1].

    ``"coverage"`` is the object's share of each 4 x 4 block. ``"reference"`` is OpenCV's bilinear reduction of the
    uint8 0/1 mask, which at a factor of 4 is the mean of the middle 2 x 2 pixels, exactly half rounding up to 1.
    """
    size = (crop.shape[1] // 4, crop.shape[0] // 4)  # (W, H), as OpenCV has it
    if mask_target == "coverage":
        return cv2.resize(crop, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    binary = (crop >= 128).view(np.uint8)
    return cv2.resize(binary, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)


def normalise(picture: NDArray[np.uint8], content: tuple[int, int], spec: ModelSpec) -> NDArray[np.float32]:
    """Normalise a padded BGR picture (H, W, 3) to (3, H, W) float32 whose padding is 0."""
    height, width = content
    out = np.zeros((3, *picture.shape[:2]), np.float32)
    values = np.arange(256, dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        plane = 2 - channel if spec.channel_order == "rgb" else channel
        table = (values - np.float32(mean)) / np.float32(std)
        out[channel, :height, :width] = table[picture[:height, :width, plane]]
    return out


def collate(samples: Sequence[Sample]) -> tuple[Tensor, BatchTargets]:
    """Stack samples to images (n, 3, H, W) and BatchTargets."""
    return torch.stack([s.image for s in samples]), BatchTargets(
        torch.stack([s.class_map for s in samples]),
        [s.cells for s in samples],
        [s.objects for s in samples],
        [s.masks for s in samples],
        [s.semantic for s in samples if s.semantic is not None],
    )
