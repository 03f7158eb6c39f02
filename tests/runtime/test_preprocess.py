from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solov2_edge.errors import InputError
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess, reference_geometry
from solov2_edge.variants import variant

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = [
    ("mmdet_light448_r18_seed0.npz", "light-448-r18"),
    ("mmdet_light512_r50_dcnv1_seed0.npz", "light-512-r50-dcnv1"),
]
SPEC = variant("light-448-r18")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 10007 + width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("case", "name"), CASES)
def test_equals_the_reference_bit_for_bit(case: str, name: str) -> None:
    spec = variant(name)
    with np.load(GOLDEN / case) as golden:
        frame = read_picture(GOLDEN / "images" / str(golden["meta/image"]))
        geometry = reference_geometry(frame.shape[0], frame.shape[1], spec.resize_box)
        batch = preprocess(frame, geometry, "tensor", spec)
        assert (geometry.resized_height, geometry.resized_width) == tuple(golden["in/resized_hw"])
        assert batch.shape == tuple(golden["in/tensor_shape"])
        np.testing.assert_array_equal(batch[..., ::8, ::8].reshape(-1), golden["in/tensor_every8"].reshape(-1))


@pytest.mark.parametrize(
    ("height", "width", "box", "resized", "padded"),
    [
        (427, 640, (448, 768), (448, 671), (448, 672)),  # mmdetection's demo.jpg
        (640, 427, (448, 768), (671, 448), (672, 448)),
        (1080, 1920, (448, 768), (432, 768), (448, 768)),  # the long side rules
        (1, 8000, (448, 768), (1, 768), (32, 768)),  # rounds to 0 high in the reference, which then fails
        (8000, 1, (448, 768), (768, 1), (768, 32)),
        (1, 1, (448, 768), (448, 448), (448, 448)),
        (448, 768, (448, 768), (448, 768), (448, 768)),
    ],
)
def test_reference_geometry(
    height: int, width: int, box: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]
) -> None:
    assert reference_geometry(height, width, box) == Geometry(height, width, *resized, *padded)


@pytest.mark.parametrize(
    ("frame", "size", "resized"),
    [
        ((1080, 1920), (448, 768), (432, 768)),
        ((1920, 1080), (448, 768), (448, 252)),
        ((448, 768), (448, 768), (448, 768)),
        ((1, 8000), (448, 768), (1, 768)),
        ((8000, 1), (448, 768), (448, 1)),
        ((3, 2), (448, 448), (448, 299)),
    ],
)
def test_fixed_geometry(frame: tuple[int, int], size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert fixed_geometry(*frame, *size) == Geometry(*frame, *resized, *size)


sides = st.integers(1, 9000)


@settings(deadline=None)
@given(sides, sides, st.integers(1, 30), st.integers(1, 30))
def test_a_resized_frame_always_fits_and_touches_a_side(height: int, width: int, rows: int, columns: int) -> None:
    geometry = fixed_geometry(height, width, rows * 32, columns * 32)
    assert geometry.resized_height == geometry.input_height or geometry.resized_width == geometry.input_width


@settings(deadline=None)
@given(sides, sides)
def test_reference_padding_is_the_least_multiple_of_32(height: int, width: int) -> None:
    g = reference_geometry(height, width, (448, 768))
    for resized, padded in ((g.resized_height, g.input_height), (g.resized_width, g.input_width)):
        assert padded % 32 == 0
        assert 0 <= padded - resized < 32


@settings(deadline=None, max_examples=30)
@given(st.integers(200, 900), st.integers(200, 900), st.floats(0, 1), st.floats(0, 1))
def test_a_spot_comes_back_to_its_place_within_half_a_pixel(height: int, width: int, right: float, down: float) -> None:
    side = 40
    left, top = int(right * (width - side)), int(down * (height - side))
    frame = np.zeros((height, width, 3), np.uint8)
    frame[top : top + side, left : left + side] = 255
    geometry = fixed_geometry(height, width, 448, 448)
    weight = preprocess(frame, geometry, "image", SPEC)[0, : geometry.resized_height, : geometry.resized_width, 0]
    rows, columns = np.indices(weight.shape) + 0.5
    seen = np.array([[np.average(columns, weights=weight), np.average(rows, weights=weight)]])
    true = np.array([[left + side / 2, top + side / 2]])
    assert np.abs(geometry.to_frame(seen) - true).max() < 0.5
    np.testing.assert_allclose(geometry.to_frame(geometry.to_input(true)), true)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("size", [(37, 91), (448, 448), (1, 700), (700, 1)])
def test_tensor_is_the_plain_arithmetic(size: tuple[int, int], order: str) -> None:
    spec = replace(SPEC, channel_order=order, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    frame = noise(*size)
    geometry = fixed_geometry(*size, 448, 448)
    height, width = geometry.resized_height, geometry.resized_width
    resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    channels = resized[..., ::-1] if order == "rgb" else resized
    expected = (channels.astype(np.float32) - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    batch = preprocess(frame, geometry, "tensor", spec)
    assert batch.shape == (1, 3, 448, 448)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch[0, :, :height, :width], expected.transpose(2, 0, 1))
    assert not batch[:, :, height:].any()
    assert not batch[:, :, :, width:].any()


@pytest.mark.parametrize(("order", "padding"), [("rgb", [124, 116, 104]), ("bgr", [104, 116, 124])])
def test_image_is_rgb_padded_with_the_mean(order: str, padding: list[int]) -> None:
    spec = replace(SPEC, channel_order=order)
    frame = noise(1080, 1920)
    geometry = fixed_geometry(1080, 1920, 448, 800)
    batch = preprocess(frame, geometry, "image", spec)
    assert batch.shape == (1, 448, 800, 3)
    assert batch.dtype == np.uint8
    resized = cv2.resize(frame, (geometry.resized_width, geometry.resized_height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(batch[0, :, : geometry.resized_width], resized[..., ::-1])
    assert (batch[0, :, geometry.resized_width :] == padding).all()


def test_views_give_what_their_copies_give() -> None:
    frame = noise(120, 260)
    for view in (frame[::-1, ::-1], frame[:, ::2], frame[..., ::-1]):
        for size in (view.shape[:2], (64, 96)):
            geometry = Geometry(view.shape[0], view.shape[1], size[0], size[1], 128, 288)
            for kind in ("image", "tensor"):
                np.testing.assert_array_equal(
                    preprocess(view, geometry, kind, SPEC), preprocess(view.copy(), geometry, kind, SPEC)
                )


def test_the_frame_is_left_as_it_was() -> None:
    frame = noise(448, 448)
    before = frame.copy()
    for kind in ("image", "tensor"):
        preprocess(frame, fixed_geometry(448, 448, 448, 448), kind, SPEC)
    np.testing.assert_array_equal(frame, before)


def test_wrong_frames_kinds_and_geometries_are_refused() -> None:
    geometry = fixed_geometry(10, 20, 32, 64)
    with pytest.raises(InputError, match=r"expected a uint8 frame \(10, 20, 3\)"):
        preprocess(noise(20, 10), geometry, "image", SPEC)
    with pytest.raises(InputError, match="image or tensor"):
        preprocess(noise(10, 20), geometry, "picture", SPEC)
    with pytest.raises(InputError, match="must hold pixels"):
        fixed_geometry(0, 20, 32, 64)
    with pytest.raises(InputError, match="must hold pixels"):
        reference_geometry(20, 0, (448, 768))
    with pytest.raises(InputError, match="positive integers"):
        Geometry(10, 20, 10, 0, 32, 32)
    with pytest.raises(InputError, match="must fit"):
        Geometry(10, 20, 40, 20, 32, 32)
