"""Augmentation: picture and masks move together, and a factor of 1 is what inference does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from solov2_edge.augment import (
    AugmentOptions,
    Window,
    augment_colour,
    flip_and_turn,
    place_mask,
    scale_and_crop,
)
from solov2_edge.errors import InputError
from solov2_edge.runtime.preprocess import fixed_geometry


def _blob(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 3, height // 2), (width // 8, height // 5), 30, 0, 360, 1, -1)
    return mask


@pytest.mark.parametrize("seed", range(12))
def test_masks_turn_with_their_picture(seed: int) -> None:
    mask = _blob(40, 64)
    picture = np.repeat(mask[:, :, None] * np.uint8(200), 3, axis=2)
    turned, masks = flip_and_turn(picture, mask[None], AugmentOptions(turns=True), np.random.default_rng(seed))
    np.testing.assert_array_equal(turned[:, :, 0] > 0, masks[0] > 0)


def test_without_turns_a_picture_only_mirrors_left_right() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    seen = {
        flip_and_turn(picture, np.zeros((0, 6, 9), np.uint8), AugmentOptions(), np.random.default_rng(s))[0].tobytes()
        for s in range(20)
    }
    assert seen == {picture.tobytes(), np.ascontiguousarray(picture[:, ::-1]).tobytes()}


@pytest.mark.parametrize(("height", "width"), [(256, 320), (320, 256), (33, 400), (700, 500)])
def test_a_factor_of_one_places_the_picture_as_inference_does(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (height, width, 3), np.uint8)
    out, window = scale_and_crop(picture, (448, 448), 1.0, rng)
    geometry = fixed_geometry(height, width, 448, 448)
    assert window.content == (geometry.resized_height, geometry.resized_width)
    resized = cv2.resize(picture, window.content[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out[: window.content[0], : window.content[1]], resized)
    assert not out[window.content[0] :].any()
    assert not out[:, window.content[1] :].any()


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.83, 1.0, 1.27, 2.0])  # large-scale jitter draws 0.1 to 2
@pytest.mark.parametrize("seed", [0, 1])
def test_a_placed_mask_lies_where_its_object_does(factor: float, seed: int) -> None:
    mask = _blob(150, 200)
    picture = np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)
    out, window = scale_and_crop(picture, (128, 160), factor, np.random.default_rng(seed))
    placed = place_mask(mask, window)
    canvas = np.zeros((128, 160), np.uint8)
    if placed is not None:
        assert placed.top % 4 == placed.left % 4 == placed.crop.shape[0] % 4 == placed.crop.shape[1] % 4 == 0
        height, width = placed.crop.shape
        canvas[placed.top : placed.top + height, placed.left : placed.left + width] = placed.crop
    # The object was drawn into the picture: its bilinear resize is the mask's, to warpAffine's 1/32 pixel.
    assert np.abs(canvas.astype(int) - out[:, :, 0]).max() <= 24
    assert ((canvas >= 128) != (out[:, :, 0] >= 128)).sum() <= 0.02 * max((canvas >= 128).sum(), 1)


def test_a_mask_outside_the_window_or_without_pixels_is_none() -> None:
    window = Window((4.0, 4.0), (0, 0), (64, 64), (64, 64))
    assert place_mask(np.zeros((50, 50), np.uint8), window) is None
    far = np.zeros((50, 50), np.uint8)
    far[40:45, 40:45] = 1
    assert place_mask(far, window) is None


def test_colour_changes_are_bounded_by_their_strength() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    assert augment_colour(picture, 0.0, np.random.default_rng(0)) is picture
    weak, strong = (
        np.mean([np.abs(augment_colour(picture, s, np.random.default_rng(i)).astype(int) - picture) for i in range(20)])
        for s in (0.1, 1.0)
    )
    assert 0 < weak < strong


@pytest.mark.parametrize("options", [{"scale": (1.2, 0.8)}, {"scale": (0.0, 1.0)}, {"colour": 1.5}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(InputError):
        AugmentOptions(**options)
