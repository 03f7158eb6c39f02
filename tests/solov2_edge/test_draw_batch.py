"""The drawing of a batch shows what the tensors hold: each positive cell at its place in its object's colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.annotated_pictures import CocoPictures, read_pictures
from solov2_edge.augment import AugmentOptions
from solov2_edge.cli import main
from solov2_edge.data import TrainingSet, collate
from solov2_edge.demos.colours import colour
from solov2_edge.draw_batch import BAR, GAP, TILE, draw_batch
from solov2_edge.variants import variant


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


def test_every_positive_cell_is_drawn_and_no_other(discs: Path) -> None:
    pictures: CocoPictures = read_pictures(discs)
    spec = variant("nano", pictures.class_names)
    samples = TrainingSet(pictures, spec, (288, 384), AugmentOptions(flip=False, colour=0.0, scale=(1.0, 1.0)), 0)
    sample = samples[0, 1]
    drawn = draw_batch(*collate([sample]), spec)
    height = TILE * 288 // 384
    assert drawn.shape == (BAR + height + 22 + GAP, GAP + 6 * (TILE + GAP), 3)

    # The picture itself, and the tint of a mask: the discs are blue and yellow, as they were painted.
    tile = drawn[BAR : BAR + height, GAP : GAP + TILE].astype(int)
    mask = cv2.resize(sample.masks[1].numpy(), (TILE, height)) > 0.95
    inside = tile[cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0]
    np.testing.assert_allclose(
        np.median(inside, axis=0), 0.55 * np.array((40, 200, 230)) + 0.45 * np.array(colour(1)), atol=2
    )

    first, found = 0, 0
    for level, grid in enumerate(spec.grids):
        left = GAP + (level + 1) * (TILE + GAP)
        tile = drawn[BAR : BAR + height, left : left + TILE]
        cells = {}
        for cell, number in zip(sample.cells.tolist(), sample.objects.tolist(), strict=True):
            if first <= cell < first + grid * grid:
                cells[cell - first] = number
        found += len(cells)
        for cell in range(grid * grid):
            row, column = divmod(cell, grid)
            y, x = (row + 0.5) * height / grid, (column + 0.5) * TILE / grid
            pixel = tuple(int(v) for v in tile[int(y), int(x)])
            if cell in cells:
                near = tile[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].reshape(-1, 3).tolist()
                assert list(colour(cells[cell])) in near
            else:
                assert pixel not in {colour(number) for number in range(3)}
        first += grid * grid
    assert found > 10


def test_it_is_drawn_on_request(discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "--check",
        "--annotations",
        str(discs),
        "--input-size",
        "96x128",
        "--batch-size",
        "2",
        "--draw-batch",
    ]
    assert main([*words, str(tmp_path / "batch.png")]) == 0
    drawn = cv2.imread(str(tmp_path / "batch.png"))
    assert drawn is not None
    assert drawn.shape == (BAR + 2 * (270 + 22 + GAP), GAP + 6 * (TILE + GAP), 3)
    for bad in ("batch.jpg", "none/batch.png"):
        assert main([*words, str(tmp_path / bad)]) == 2
        assert "name another" in capsys.readouterr().err


def test_several_short_sides_are_drawn_too(discs: Path, tmp_path: Path) -> None:
    words = ["train", "--check", "--annotations", str(discs), "--short-sides", "64", "96", "--scale", "1", "1"]
    assert main([*words, "--batch-size", "2", "--draw-batch", str(tmp_path / "batch.png")]) == 0
    assert (tmp_path / "batch.png").is_file()
