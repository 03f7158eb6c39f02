"""The paper's pictures at several sizes, and targets and losses against the reference's, restated as it has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.augment import AugmentOptions, Moves
from solov2_edge.data import CocoPictures, read_pictures, read_scene
from solov2_edge.loss import BatchTargets, solov2_losses
from solov2_edge.model import HeadOutputs, SOLOv2
from solov2_edge.multi_scale import MultiScaleSet, PaddedCollate, quarter_masks, resized_size
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import variant

STILL = AugmentOptions(flip=False, scale=(1.0, 1.0), colour=0.0)
SIDES = (64, 96, 160)


@pytest.fixture(scope="module")
def pictures(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> CocoPictures:
    discs = write_discs(tmp_path_factory.mktemp("discs"), count=6, seed=3)
    return read_pictures(discs, discs.parent)


@pytest.fixture(scope="module")
def spec(pictures: CocoPictures) -> ModelSpec:
    return variant("light-448-r18", pictures.class_names)


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((427, 640), 448, (448, 671)),  # the reference's demo picture
        ((427, 640), 512, (512, 767)),
        ((300, 900), 448, (256, 768)),  # the long side is capped
        ((900, 300), 352, (768, 256)),
        ((2000, 2000), 352, (352, 352)),
    ],
)
def test_sizes_are_the_references(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert resized_size(*size, short, 768) == expected


def test_short_sides_are_drawn_by_epoch_and_index(pictures: CocoPictures, spec: ModelSpec) -> None:
    make = lambda: MultiScaleSet(pictures, spec, SIDES, AugmentOptions(scale=(1.0, 1.0)), seed=1)  # noqa: E731 - short
    samples, again = make(), make()
    drawn = [samples[epoch, index].image.shape for epoch in range(6) for index in range(6)]
    assert {min(shape[1:]) for shape in drawn} == set(SIDES)
    np.testing.assert_array_equal(samples[3, 2].image, again[3, 2].image)
    np.testing.assert_array_equal(samples[3, 2].boxes, again[3, 2].boxes)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_and_centres_move_with_their_masks(pictures: CocoPictures, spec: ModelSpec, seed: int) -> None:
    sample = MultiScaleSet(pictures, spec, (192,), AugmentOptions(turns=True, scale=(1.0, 1.0)), seed)[0, seed]
    assert len(sample.masks) == 3
    for box, centre, mask in zip(sample.boxes, sample.centres, sample.masks, strict=True):
        rows, columns = np.nonzero(mask)
        np.testing.assert_allclose(centre / 4, (columns.mean(), rows.mean()), atol=1)
        np.testing.assert_allclose(box / 4, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1)


@pytest.mark.parametrize("moves", [Moves(a, b, c) for a in (False, True) for b in (False, True) for c in range(4)])
def test_a_moved_box_holds_the_moved_object(moves: Moves) -> None:
    mask = np.zeros((30, 50), np.uint8)
    mask[4:11, 8:35] = 1
    x1, y1, x2, y2 = moves.of_boxes(np.array([[8, 4, 35, 11]], np.float32), 30, 50)[0].astype(int)
    moved = moves.of_array(mask, 0)
    assert moved[y1:y2, x1:x2].all()
    assert moved.sum() == (y2 - y1) * (x2 - x1)


def test_a_batch_is_padded_to_its_largest_in_multiples_of_32(pictures: CocoPictures, spec: ModelSpec) -> None:
    small, large = (MultiScaleSet(pictures, spec, (side,), STILL, 0)[0, 0] for side in (64, 150))
    assert (small.image.shape, large.image.shape) == ((3, 64, 85), (3, 150, 200))
    images, targets = PaddedCollate(spec)([small, large])
    assert images.shape == (2, 3, 160, 224)
    assert [mask.shape for mask in targets.masks] == [(3, 40, 56)] * 2
    np.testing.assert_array_equal(images[0, :, :64, :85], small.image)
    assert not images[0, :, 64:].any()
    assert not images[0, :, :, 85:].any()


def _reference_targets(
    masks: np.ndarray, boxes: np.ndarray, labels: list[int], padded: tuple[int, int], spec: ModelSpec
) -> tuple[list[Tensor], list[tuple[int, Tensor]]]:
    """The authors' assignment, per level and object, in their words: class maps and (cell, quarter-scale mask)."""
    height, width = padded
    maps, pairs, first = [], [], 0
    for grid, (low, high) in zip(spec.grids, spec.scale_ranges, strict=True):
        labels_of = torch.full((grid, grid), spec.num_classes)
        for mask, box, label in zip(masks, boxes, labels, strict=True):
            w, h = torch.tensor(box[2] - box[0]), torch.tensor(box[3] - box[1])
            size = torch.sqrt(w * h)
            if not low <= size <= high or mask.sum() == 0:
                continue
            whole = torch.zeros(height, width)
            whole[: mask.shape[0], : mask.shape[1]] = torch.from_numpy(mask)
            x = (whole.sum(0) * torch.arange(width)).sum() / whole.sum()
            y = (whole.sum(1) * torch.arange(height)).sum() / whole.sum()

            def cell(value: Tensor, side: int, grid: int = grid) -> int:
                return int(torch.trunc(value / side / torch.tensor(1 / grid)))

            column, row = cell(x, width), cell(y, height)
            half_w, half_h = 0.5 * w * 0.2, 0.5 * h * 0.2
            top = max(max(0, cell(y - half_h, height)), row - 1)
            down = min(min(grid - 1, cell(y + half_h, height)), row + 1)
            left = max(max(0, cell(x - half_w, width)), column - 1)
            right = min(min(grid - 1, cell(x + half_w, width)), column + 1)
            labels_of[top : down + 1, left : right + 1] = label
            quarter = torch.zeros(height // 4, width // 4)
            rows, columns = ((n + 31) // 32 * 32 for n in mask.shape)
            own = np.zeros((rows, columns), np.uint8)
            own[: mask.shape[0], : mask.shape[1]] = mask
            small = cv2.resize(own, (columns // 4, rows // 4), interpolation=cv2.INTER_LINEAR)
            quarter[: rows // 4, : columns // 4] = torch.from_numpy(small)
            for i in range(top, down + 1):
                pairs += [(first + i * grid + j, quarter) for j in range(left, right + 1)]
        maps.append(labels_of.flatten())
        first += grid * grid
    return maps, pairs


@pytest.mark.parametrize("side", [352, 448, 512])
def test_targets_are_the_references(pictures: CocoPictures, spec: ModelSpec, side: int) -> None:
    samples = MultiScaleSet(pictures, spec, (side,), STILL, 0)
    loose = [samples[0, index] for index in range(len(samples))]
    images, targets = PaddedCollate(spec)(loose)
    found = 0
    for index, sample in enumerate(loose):
        scene = read_scene(pictures, index)
        rows, columns = sample.image.shape[1:]
        masks = np.stack([cv2.resize(m, (columns, rows), interpolation=cv2.INTER_NEAREST) for m in scene.masks])
        frame = np.array([cv2.boundingRect(m) for m in scene.masks], np.float32)
        factor = np.float32([columns / scene.picture.shape[1], rows / scene.picture.shape[0]])
        boxes = np.concatenate([frame[:, :2] * factor, (frame[:, :2] + frame[:, 2:]) * factor], axis=1)
        maps, pairs = _reference_targets(masks, boxes, list(scene.labels), tuple(images.shape[2:]), spec)
        assert torch.equal(targets.class_maps[index], torch.cat(maps))
        assert targets.cells[index].tolist() == [cell for cell, _ in pairs]
        for (_, expected), row in zip(pairs, targets.objects[index].tolist(), strict=True):
            assert torch.equal(targets.masks[index][row], expected)
        found += len(pairs)
    assert found > 40


def _reference_losses(outputs: HeadOutputs, targets: BatchTargets) -> dict[str, float]:
    """Both codes' losses, object by object: the authors' and mmdetection's mask term, and the class term."""
    dice = []
    for n, (cells, objects) in enumerate(zip(targets.cells, targets.objects, strict=True)):
        for cell, row in zip(cells.tolist(), objects.tolist(), strict=True):
            kernel = outputs.kernels[n, cell].view(1, -1, 1, 1)
            p = functional.conv2d(outputs.mask_features[n : n + 1], kernel)[0, 0].sigmoid().flatten()
            g = targets.masks[n][row].flatten()
            dice.append(1 - 2 * (p * g).sum() / ((p * p).sum() + 0.001 + (g * g).sum() + 0.001))
    background = outputs.class_logits.shape[2]
    positives = int((targets.class_maps != background).sum())
    focal = 0.0
    for logits, label in zip(outputs.class_logits.flatten(0, 1), targets.class_maps.flatten().tolist(), strict=True):
        wanted = torch.zeros(background)
        if label != background:
            wanted[label] = 1
        p = logits.sigmoid()
        pt = torch.where(wanted == 1, p, 1 - p)
        alpha = torch.where(wanted == 1, 0.25, 0.75)
        focal += float((-alpha * (1 - pt) ** 2 * pt.log()).sum())
    return {
        "official": 3 * float(torch.stack(dice).mean()),
        "mmdet": 3 * float(torch.stack(dice).sum()) / positives,
        "class": focal / (positives + 1),
    }


def test_losses_are_the_references(pictures: CocoPictures, spec: ModelSpec) -> None:
    samples = MultiScaleSet(pictures, spec, (64,), STILL, 0)
    images, targets = PaddedCollate(spec)([samples[0, 0], samples[0, 1]])
    torch.manual_seed(0)
    outputs = HeadOutputs(
        torch.randn(2, spec.num_cells, 2) - 3,
        torch.randn(2, spec.num_cells, 8),
        torch.rand(2, 8, images.shape[2] // 4, images.shape[3] // 4),
    )
    expected = _reference_losses(outputs, targets)
    official, theirs = (solov2_losses(outputs, targets, norm) for norm in ("pairs", "cells"))
    assert official.mask.item() == pytest.approx(expected["official"], rel=1e-5)
    assert theirs.mask.item() == pytest.approx(expected["mmdet"], rel=1e-5)
    assert official.classes.item() == theirs.classes.item() == pytest.approx(expected["class"], rel=1e-5)


def test_the_two_dice_norms_differ_as_they_did_in_the_codes_themselves() -> None:
    """42 pairs on 32 cells gave 2.28555 in the authors' code and 2.99978 in mmdetection's."""
    torch.manual_seed(1)
    cells = torch.cat([torch.arange(32), torch.arange(10)])
    class_map = torch.full((1, 64), 1)
    class_map[0, :32] = 0
    masks = (torch.rand(42, 6, 6) > 0.5).float()
    outputs = HeadOutputs(torch.randn(1, 64, 1), torch.randn(1, 64, 4), torch.rand(1, 4, 6, 6))
    targets = BatchTargets(class_map, [cells], [torch.arange(42)], [masks])
    official, theirs = (solov2_losses(outputs, targets, norm).mask.item() for norm in ("pairs", "cells"))
    assert theirs / official == pytest.approx(2.99978 / 2.28555, rel=1e-5)


def test_half_a_quarter_scale_pixel_counts_as_object() -> None:
    mask = np.zeros((1, 6, 8), np.uint8)  # 6 rows: the last two of the second block lie beyond the picture
    mask[0, :, :2] = 1  # the middle 2 x 2 pixels of a 4 x 4 block decide; here half of them
    mask[0, 5, 4:] = 1  # half again, one of two middle rows; of the block beside it, a quarter
    np.testing.assert_array_equal(quarter_masks(mask), [[[1, 0], [0, 1]]])


def test_a_fresh_head_expects_one_cell_in_a_hundred(tiny_spec: ModelSpec) -> None:
    torch.manual_seed(0)
    head: Any = SOLOv2(tiny_spec).mask_head
    torch.testing.assert_close(head.conv_cls.bias, torch.full((3,), -4.59512), rtol=0, atol=1e-5)
    assert not head.conv_kernel.bias.any()
    for name, parameter in head.named_parameters():
        if name.endswith("weight") and parameter.ndim == 4:
            assert float(parameter.detach().std()) == pytest.approx(0.01, rel=0.15), name
