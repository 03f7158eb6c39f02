"""COCO panoptic annotations as training samples: things as objects, and a label of every pixel for the semantic branch.

Both come from one map of segment ids, so that they are mirrored, scaled and cut alike.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from solov2_edge.augment import AugmentOptions, Window, augment_colour, flip_and_turn, place_mask, scale_and_crop
from solov2_edge.data import CocoPictures, Sample, TrainingSet
from solov2_edge.errors import require
from solov2_edge.runtime.annotations import read_picture_of
from solov2_edge.runtime.panoptic_annotations import PanopticAnnotations, read_panoptic, read_segment_ids
from solov2_edge.semantic_loss import UNLABELLED
from solov2_edge.spec import ModelSpec

if TYPE_CHECKING:
    from solov2_edge.train_options import TrainOptions

__all__ = ["PanopticPictures", "PanopticSet", "place_labels", "read_panoptic_pictures", "training_set", "with_stuff"]


@dataclass(frozen=True, slots=True)
class PanopticPictures(CocoPictures):
    """The annotated pictures of one COCO panoptic JSON; ``annotations`` is empty, the PNGs say it all.

    Attributes:
        truth: the JSON.
        images: folder of the pictures.
        pngs: folder of the PNGs of segment ids.
    """

    truth: PanopticAnnotations
    images: Path
    pngs: Path

    @property
    def stuff_names(self) -> tuple[str, ...]:
        """Stuff category names in ascending id order."""
        return self.truth.names(things=False)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
        """Read one picture.

        Returns:
            BGR uint8 (H, W, 3); its layers (n + 1, H, W) uint8, the masks 0 or 1 of n things, then the label of every
            pixel: index of stuff, their number for any thing, a crowd's too, ``UNLABELLED`` for void; and the things'
            class channels.

        Raises:
            InputError: the picture or its PNG is missing, unreadable or of another size than annotated.
        """
        image, annotation = self.truth.pictures[index]
        picture = read_picture_of(self.images, image)
        ids = read_segment_ids(self.pngs, image, annotation)
        names = {category["id"]: str(category["name"]) for category in self.truth.categories}
        stuff, masks, labels = self.stuff_names, [], []
        semantic = np.full(ids.shape, UNLABELLED, np.uint8)
        for segment in annotation["segments_info"]:
            name, mask = names[segment["category_id"]], ids == segment["id"]
            semantic[mask] = stuff.index(name) if name in stuff else len(stuff)
            if name in self.class_names and not segment.get("iscrowd") and mask.any():
                masks.append(mask.view(np.uint8))
                labels.append(self.class_names.index(name))
        return picture, np.stack([*masks, semantic]), tuple(labels)


def read_panoptic_pictures(
    annotations: str | os.PathLike[str], images: str | os.PathLike[str], pngs: str | os.PathLike[str]
) -> PanopticPictures:
    """Read a COCO panoptic JSON for training; pictures without things stay, for their stuff.

    Raises:
        InputError: not COCO panoptic, no thing or no stuff category, no annotated picture, or a file is missing.
    """
    truth, folder, maps = read_panoptic(annotations), Path(images), Path(pngs)
    things, stuff = truth.names(things=True), truth.names(things=False)
    require(
        len(things) > 0 and 0 < len(stuff) < UNLABELLED,
        f"{truth.path} must have categories of things and 1 to {UNLABELLED - 1} of stuff, got {len(things)} and "
        f"{len(stuff)}; without stuff, train on a COCO instances json",
    )
    require(bool(truth.pictures), f"{truth.path} annotates no picture; nothing to train on")
    files = tuple(folder / image["file_name"] for image, _ in truth.pictures)
    maps_of = tuple(maps / annotation["file_name"] for _, annotation in truth.pictures)
    for what, paths, option in (("pictures", files, folder), ("PNGs of segment ids", maps_of, maps)):
        missing = [path for path in paths if not path.is_file()]
        require(not missing, f"{len(missing)} {what} are not in {option}, for example {missing[:1]}; check the folder")
    return PanopticPictures(things, files, ((),) * len(files), truth, folder, maps)


class PanopticSet(TrainingSet):
    """Samples with the labels of the semantic branch; otherwise as :class:`TrainingSet`.

    Raises:
        InputError: objects are to be pasted, which would tear them from the stuff around them.
    """

    def __init__(
        self,
        pictures: PanopticPictures,
        spec: ModelSpec,
        input_size: tuple[int, int],
        options: AugmentOptions,
        seed: int,
        mask_target: str = "coverage",
    ) -> None:
        require(options.copy_paste == 0, "copy-paste moves objects without the stuff around them; leave it out here")
        super().__init__(pictures, spec, input_size, options, seed, mask_target)
        self.panoptic = pictures

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        picture, layers, labels = self.panoptic.read(index)
        picture, layers = flip_and_turn(picture, layers, self.options, rng)
        factor = float(np.exp(rng.uniform(*np.log(self.options.scale))))
        picture, window = scale_and_crop(picture, self.input_size, factor, rng)
        picture = augment_colour(picture, self.options.colour, rng)
        placed = [(label, place_mask(mask, window)) for label, mask in zip(labels, layers[:-1], strict=True)]
        sample = self._sample(picture, window, [(label, p) for label, p in placed if p is not None])
        return replace(sample, semantic=torch.from_numpy(place_labels(layers[-1], window)))


def place_labels(labels: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Carry a label map (h, w) in picture pixels into the network input (H, W), each pixel from the nearest one."""
    height, width = (round(n * s) for n, s in zip(labels.shape, window.scale, strict=True))
    scaled = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    (top, left), (rows, columns) = window.origin, window.content
    out = np.full(window.input_size, UNLABELLED, np.uint8)
    out[:rows, :columns] = scaled[top : top + rows, left : left + columns]
    return out


def with_stuff(spec: ModelSpec, pictures: CocoPictures) -> ModelSpec:
    """Return the spec with the pictures' stuff, if they have any."""
    return replace(spec, stuff_names=pictures.stuff_names) if isinstance(pictures, PanopticPictures) else spec


def training_set(pictures: CocoPictures, spec: ModelSpec, options: TrainOptions) -> TrainingSet:
    """Return the samples of a run: with labels for the semantic branch exactly where the network has one.

    Raises:
        InputError: the network has stuff that the pictures lack, or the other way about.
    """
    kind = PanopticSet if isinstance(pictures, PanopticPictures) else TrainingSet
    stuff = pictures.stuff_names if isinstance(pictures, PanopticPictures) else ()
    require(
        stuff == spec.stuff_names,
        f"the pictures' stuff is {', '.join(stuff) or 'none'}, the network's {', '.join(spec.stuff_names) or 'none'}; "
        "train a network on what its spec names",
    )
    return kind(pictures, spec, options.input_size, options.augment, options.seed, options.mask_target)  # type: ignore[arg-type]
