"""Annotated pictures as training samples: reading, decoding, determinism, agreement with inference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solov2_edge.augment import AugmentOptions
from solov2_edge.data import TrainingSet, collate, decode_mask, normalise, quarter_mask, read_pictures
from solov2_edge.errors import InputError
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.variants import variant

STILL = AugmentOptions(flip=False, scale=(1.0, 1.0), colour=0.0)


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


def test_reading_drops_crowds_and_orders_classes_by_id(discs: Path) -> None:
    pictures = read_pictures(discs, discs.parent)
    assert pictures.class_names == ("even", "odd")
    assert [len(a) for a in pictures.annotations] == [3, 3, 3, 3]
    assert [a[0] for a in pictures.annotations[0]] == [0, 1, 0]


def test_polygon_rle_and_compressed_rle_give_the_same_mask() -> None:
    from pycocotools import mask as coco_mask

    mask = np.zeros((20, 30), np.uint8)
    mask[5:12, 8:20] = 1
    compressed = coco_mask.encode(np.asfortranarray(mask))
    counts = [8 * 20 + 5, *[7, 13] * 11, 7, 20 * 30 - 8 * 20 - 5 - 11 * 20 - 7]
    for segmentation in (
        [[8, 5, 20, 5, 20, 12, 8, 12]],
        {"size": [20, 30], "counts": counts},
        {"size": [20, 30], "counts": compressed["counts"].decode()},
    ):
        np.testing.assert_array_equal(decode_mask(segmentation, 20, 30), mask)


@pytest.mark.parametrize("segmentation", [{}, {"size": [3, 3]}, {"size": [5, 5], "counts": [20, 5]}, 7])
def test_a_broken_segmentation_is_one_sentence(segmentation: Any) -> None:
    with pytest.raises(InputError):
        decode_mask(segmentation, 20, 30)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.pop("categories"), "not a COCO json"),
        (lambda d: d["annotations"].clear(), "no picture with an annotated object"),
        (lambda d: d["annotations"][0].update(image_id=99), "annotation 1 is of picture 99"),
        (lambda d: d["annotations"][1].update(category_id=99), "annotation 2 is of category 99"),
        (lambda d: d["annotations"][2].update(segmentation=[[1, 2, 3, 4]]), "annotation 3 has a segmentation"),
        (lambda d: d["images"][0].update(file_name="gone.png"), "1 pictures are not in"),
    ],
)
def test_unusable_annotations_are_one_sentence(
    discs: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    data = json.loads(discs.read_text())
    edit(data)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        read_pictures(path, discs.parent)


@pytest.mark.parametrize("content", ["", "[1, 2", "[]", "7"])
def test_files_that_are_no_annotations(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match="not a COCO json"):
        read_pictures(path, tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_pictures(tmp_path / "none.json", tmp_path)


def test_an_unaugmented_sample_is_the_input_of_inference(discs: Path) -> None:
    pictures = read_pictures(discs, discs.parent)
    spec = variant("nano", pictures.class_names)
    sample = TrainingSet(pictures, spec, (128, 160), STILL, seed=0)[0, 1]
    frame = read_picture(pictures.files[1])
    expected = preprocess(frame, fixed_geometry(*frame.shape[:2], 128, 160), "tensor", spec)
    np.testing.assert_array_equal(sample.image.numpy(), expected[0])
    assert sample.masks.shape == (3, 32, 40)
    assert sample.class_map.shape == (3872,)
    assert set(sample.class_map.tolist()) == {0, 1, 2}
    assert int(sample.objects.max()) == 2


def test_bgr_networks_get_bgr() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    spec = variant("adelaidet-r50")
    got = normalise(picture, (4, 5), spec)
    np.testing.assert_allclose(got, (picture - np.float32(spec.mean)).transpose(2, 0, 1), rtol=1e-6)


def test_samples_depend_on_seed_epoch_and_index_alone(discs: Path) -> None:
    pictures = read_pictures(discs, discs.parent)
    spec = variant("nano", pictures.class_names)
    make = lambda seed: TrainingSet(pictures, spec, (64, 64), AugmentOptions(turns=True), seed)  # noqa: E731 - a table
    a, b = make(3), make(3)
    torch.testing.assert_close(a[0, 2].image, b[0, 2].image)
    a[0, 0], a[5, 1]  # drawing others first changes nothing
    torch.testing.assert_close(a[0, 2].image, b[0, 2].image)
    assert not torch.equal(a[0, 2].image, b[1, 2].image)
    assert not torch.equal(a[0, 2].image, make(4)[0, 2].image)


def test_collate_stacks_pictures_with_different_object_counts(discs: Path) -> None:
    pictures = read_pictures(discs, discs.parent)
    samples = TrainingSet(pictures, variant("nano", pictures.class_names), (64, 96), AugmentOptions(), 0)
    images, targets = collate([samples[0, i] for i in range(4)])
    assert images.shape == (4, 3, 64, 96)
    assert targets.class_maps.shape == (4, 3872)
    assert [len(m) for m in targets.masks] == [len(samples[0, i].masks) for i in range(4)]


def test_quarter_masks_follow_their_definitions() -> None:
    crop = np.zeros((4, 8), np.uint8)
    crop[:, :2] = 255  # half of the first block; of its middle 2x2 pixels, exactly half
    crop[1, 5] = 255  # one pixel of sixteen; one of the second block's middle four
    np.testing.assert_allclose(quarter_mask(crop, "coverage"), [[0.5, 1 / 16]], atol=1 / 255)
    np.testing.assert_array_equal(quarter_mask(crop, "reference"), [[1, 0]])  # half rounds up
