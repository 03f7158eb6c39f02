"""The oracle's steps by hand, and the Reference as a Segmenter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.errors import InputError
from solov2_edge.model import SOLOv2
from solov2_edge.reference import load_reference, matrix_nms, oracle_decode, points_nms, reference_from_model
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec


def test_points_nms_compares_with_left_upper_and_upper_left() -> None:
    scores = torch.tensor([[[0.5, 0.4, 0.6], [0.5, 0.7, 0.1], [0.2, 0.2, 0.8]]])
    # (0, 1) loses to its left, (1, 2) and (2, 1) to neighbours; (1, 0) ties with (0, 0) and survives.
    expected = [[[0.5, 0.0, 0.6], [0.5, 0.7, 0.0], [0.0, 0.0, 0.8]]]
    torch.testing.assert_close(points_nms(scores), torch.tensor(expected))


def _bars(*spans: tuple[int, int]) -> torch.Tensor:
    masks = torch.zeros(len(spans), 4, 20, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[:, start:stop] = True
    return masks


def test_matrix_nms_by_hand() -> None:
    masks = _bars((0, 10), (5, 15), (5, 15))  # overlaps: 1/3 with the first, 1 between the others
    scores = torch.tensor([0.9, 0.8, 0.7])
    a, b = 1 / 3, 1.0
    expected = [0.9, 0.8 * math.exp(-2 * a**2), 0.7 * math.exp(-2 * b**2) / math.exp(-2 * a**2)]
    np.testing.assert_allclose(matrix_nms(masks, torch.zeros(3, dtype=torch.long), scores), expected, rtol=1e-6)
    linear = matrix_nms(masks, torch.zeros(3, dtype=torch.long), scores, "linear")
    np.testing.assert_allclose(linear, [0.9, 0.8 * (1 - a), 0.0], atol=1e-6)


def test_other_classes_do_not_decay_each_other() -> None:
    scores = torch.tensor([0.9, 0.8])
    np.testing.assert_array_equal(matrix_nms(_bars((0, 9), (0, 9)), torch.tensor([0, 1]), scores), scores)


def test_linear_decay_of_three_exact_copies_keeps_the_first() -> None:
    got = matrix_nms(_bars((0, 9), (0, 9), (0, 9)), torch.zeros(3, dtype=torch.long), torch.ones(3), "linear")
    np.testing.assert_array_equal(got, [1.0, 0.0, 0.0])


def _raw(spec: ModelSpec, scores: dict[tuple[int, int], float], value: float) -> RawOutputs:
    class_scores = np.zeros((spec.num_cells, spec.num_classes), np.float32)
    for key, score in scores.items():
        class_scores[key] = score
    kernels = np.zeros((spec.num_cells, spec.mask_channels), np.float32)
    kernels[:, 0] = 1
    features = np.full((spec.mask_channels, 16, 16), value, np.float32)
    return RawOutputs(class_scores, kernels, features)


def test_a_mask_that_covers_everything(tiny_spec: ModelSpec) -> None:
    raw = _raw(tiny_spec, {(5, 1): 0.5}, 3.0)
    found = oracle_decode(raw, Geometry(100, 90, 64, 58, 64, 64), tiny_spec, DecodeOptions())
    assert len(found) == 1
    assert found.masks.all()
    assert found.masks.shape == (1, 100, 90)
    assert found.scores[0] == pytest.approx(0.5 / (1 + math.exp(-3)), rel=1e-5)
    assert found.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("scores", "value"),
    [
        ({}, 3.0),  # nothing passes the threshold
        ({(5, 1): 0.1}, 3.0),  # exactly the threshold does not pass
        ({(5, 1): 0.9}, -3.0),  # no pixel of the mask does
        ({(5, 1): 0.09}, 3.0),
    ],
)
def test_nothing_found_is_an_ordinary_result(
    tiny_spec: ModelSpec, scores: dict[tuple[int, int], float], value: float
) -> None:
    raw = _raw(tiny_spec, scores, value)
    found = oracle_decode(raw, Geometry(50, 50, 64, 64, 64, 64), tiny_spec, DecodeOptions())
    assert len(found) == 0
    assert found.masks.shape == (0, 50, 50)


def test_the_reference_is_a_segmenter(
    tiny_spec: ModelSpec, fresh_state: Callable[[ModelSpec], dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, tiny_spec, fresh_state(tiny_spec))
    reference = load_reference(path, score_threshold=0.2)
    frame = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    raw = reference.raw(frame)
    assert raw.class_scores.shape == (3872, 3)
    assert raw.mask_features.shape == (32, 448 // 4, 608 // 4)  # 597 wide, padded to a multiple of 32
    instances = reference(frame)
    assert instances.frame_shape == (90, 120)
    assert set(reference.timings) == {"preprocess", "network", "decode"}
    assert reference.engine.startswith("pytorch")


def test_a_fixed_size_has_the_geometry_of_an_artefact(tiny_spec: ModelSpec) -> None:
    reference = reference_from_model(SOLOv2(tiny_spec), input_size=(64, 96))
    geometry = reference.geometry(200, 100)
    assert (geometry.input_height, geometry.input_width) == (64, 96)
    assert (geometry.resized_height, geometry.resized_width) == (64, 32)


def test_an_unknown_option_is_one_sentence(tiny_spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="unknown option"):
        reference_from_model(SOLOv2(replace(tiny_spec)), thresold=0.1)
