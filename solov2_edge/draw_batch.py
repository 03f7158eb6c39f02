"""One batch as the network is taught it: augmented pictures, masks, class names, and the cells that learn per level.

Drawn from the tensors themselves, so that what is wrong with a data set or an augmentation shows here first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from solov2_edge.annotated_pictures import CocoPictures
from solov2_edge.batches import EpochBatches, open_batches
from solov2_edge.demos.colours import colour, shade
from solov2_edge.demos.labels import FONT, Tag, draw_tag, place_tag
from solov2_edge.errors import InputError
from solov2_edge.files import write_aside
from solov2_edge.loss import BatchTargets
from solov2_edge.spec import ModelSpec
from solov2_edge.train import open_samples
from solov2_edge.train_options import TrainOptions

__all__ = ["draw_batch", "draw_first_batch"]

TILE = 360  # pixels, the longer side of a tile
MOST = 16  # pictures of a batch that are drawn
GAP, BAR = 6, 40  # pixels between tiles, and of the bar above them
PAPER, INK, PALE = (250, 250, 250), (40, 40, 40), (120, 120, 120)
UNTAUGHT = (170, 170, 170)
TINT, DIM = 0.45, 0.35  # opacity of a mask; what is left of the picture's contrast beneath a grid
TEXT = 0.42  # OpenCV font scale

Picture = NDArray[np.uint8]


def draw_first_batch(path: Path, pictures: CocoPictures, spec: ModelSpec, options: TrainOptions) -> None:
    """Write what :func:`draw_batch` draws of the first batch of a run as a PNG.

    Raises:
        InputError: the file is not named .png, its folder does not exist, or a picture cannot be read.
    """
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise InputError(f"the batch is drawn into a .png file in a folder that exists, got {path}; name another")
    order = EpochBatches(len(pictures.files), replace(options, workers=0), 0)
    images, targets = next(open_batches(open_samples(pictures, spec, options), order))
    write_aside(path, cv2.imencode(".png", draw_batch(images, targets, spec))[1].tobytes())


def draw_batch(images: Tensor, targets: BatchTargets, spec: ModelSpec) -> Picture:
    """Draw a batch with its targets.

    Args:
        images: (n, 3, H, W) float32 normalised; the first 16 are drawn.
        targets: of them.
        spec: whose normalisation is undone, and whose grids the cells are of.

    Returns:
        BGR uint8: a row per picture. First the picture with its masks; an object that no cell learns is grey. Then a
        tile per level: the cells that learn, in the colours of their objects, and the outlines of those objects.
    """
    rows = [
        _row(
            _picture(image, spec),
            targets.class_maps[number].numpy(),
            targets.cells[number].numpy(),
            targets.objects[number].numpy(),
            targets.masks[number].numpy(),
            spec,
        )
        for number, image in enumerate(images[:MOST])
    ]
    titles = ["what the network is shown"]
    for grid, (low, high) in zip(spec.grids, spec.scale_ranges, strict=True):
        titles.append(f"{grid} x {grid} cells: {low:g} to {high:g} pixels")
    return np.concatenate([_titles(titles, rows[0].shape[1]), *rows])


def _picture(image: Tensor, spec: ModelSpec) -> Picture:
    """Undo the normalisation of (3, H, W): BGR uint8 (H, W, 3)."""
    planes = image.float().numpy().transpose(1, 2, 0) * np.array(spec.std) + np.array(spec.mean)
    # Padding is 0 after normalisation, which is the mean colour here.
    pixels = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, :, ::-1] if spec.channel_order == "rgb" else pixels)


def _row(
    picture: Picture,
    class_map: NDArray[np.int64],
    cells: NDArray[np.int64],
    objects: NDArray[np.int64],
    masks: NDArray[np.float32],
    spec: ModelSpec,
) -> Picture:
    height, width = picture.shape[:2]
    scale = TILE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))  # (W, H), as OpenCV has it
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    solid = [cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR) >= 0.5 for mask in masks]
    taught = set(objects.tolist())
    colours = [colour(number) if number in taught else UNTAUGHT for number in range(len(masks))]
    names = [_name(number, class_map, cells, objects, spec) for number in range(len(masks))]
    tiles = [_shown(small, solid, colours, names)]
    first = 0
    for grid in spec.grids:
        own = (cells >= first) & (cells < first + grid * grid)
        pairs = list(zip((cells[own] - first).tolist(), objects[own].tolist(), strict=True))
        tiles.append(_level(small, grid, pairs, solid, colours))
        first += grid * grid
    return _joined(tiles)


def _name(
    number: int, class_map: NDArray[np.int64], cells: NDArray[np.int64], objects: NDArray[np.int64], spec: ModelSpec
) -> str:
    """Return the class that an object's cells are taught: a later object may have taken some of them."""
    labels = class_map[cells[objects == number]]
    return spec.class_names[int(np.bincount(labels).argmax())] if len(labels) else "no level"


def _shown(
    picture: Picture, masks: Sequence[NDArray[np.bool_]], colours: Sequence[tuple[int, int, int]], names: Sequence[str]
) -> Picture:
    tile = picture.copy()
    for number in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
        _tint(tile, masks[number], colours[number], TINT)
        _outline(tile, masks[number], colours[number])
    placed: list[Tag] = []
    for mask, bgr, name in zip(masks, colours, names, strict=True):
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        tag = place_tag(name, (x, y, x + w, y + h), (tile.shape[0], tile.shape[1]), placed, TEXT) if w else None
        if tag is not None:
            placed.append(tag)
            draw_tag(tile, tag, bgr)
    # Small objects have no room for a tag: the line below counts every class.
    counts = [f"{count} {name}" for name, count in Counter(names).most_common()]
    return _captioned(tile, ", ".join(counts) or "no objects")


def _level(
    picture: Picture,
    grid: int,
    pairs: Sequence[tuple[int, int]],
    masks: Sequence[NDArray[np.bool_]],
    colours: Sequence[tuple[int, int, int]],
) -> Picture:
    """Draw a level's grid over a paled picture, with its (cell, object) pairs."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    tile = np.asarray(255 - (255 - grey) * DIM, np.uint8)
    height, width = tile.shape[:2]
    xs, ys = (np.rint(np.arange(grid + 1) * (side / grid)).astype(int) for side in (width, height))
    lines = tile.copy()
    for x in xs[1:-1]:
        lines[:, x] = PALE
    for y in ys[1:-1]:
        lines[y] = PALE
    tile = np.asarray(cv2.addWeighted(lines, 0.35, tile, 0.65, 0), np.uint8)
    for cell, number in pairs:
        row, column = divmod(cell, grid)
        y0, y1, x0, x1 = ys[row], ys[row + 1], xs[column], xs[column + 1]
        tile[y0 + 1 : y1, x0 + 1 : x1] = colours[number]
        cv2.rectangle(tile, (int(x0), int(y0)), (int(x1), int(y1)), shade(colours[number], 0, 0.5), 1)
    for number in dict.fromkeys(number for _, number in pairs):
        _outline(tile, masks[number], colours[number])
    objects, cells = (len({pair[place] for pair in pairs}) for place in (1, 0))
    words = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((objects, "object"), (cells, "cell"))]
    return _captioned(tile, " in ".join(words) if pairs else "none")


def _tint(tile: Picture, mask: NDArray[np.bool_], bgr: tuple[int, int, int], opacity: float) -> None:
    tile[mask] = np.rint(tile[mask] * (1 - opacity) + np.array(bgr) * opacity).astype(np.uint8)


def _outline(tile: Picture, mask: NDArray[np.bool_], bgr: tuple[int, int, int]) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tile, contours, -1, shade(bgr, 0, 0.45), 1, cv2.LINE_AA)


def _captioned(tile: Picture, text: str) -> Picture:
    """Put a line of text below a tile."""
    bar = np.full((22, tile.shape[1], 3), PAPER, np.uint8)
    while cv2.getTextSize(text, FONT, TEXT, 1)[0][0] > bar.shape[1] - 4:
        text = text.removesuffix(" ...")[:-1].rstrip(", ") + " ..."
    cv2.putText(bar, text, (2, 15), FONT, TEXT, PALE, 1, cv2.LINE_AA)
    return np.concatenate([tile, bar])


def _joined(tiles: Sequence[Picture]) -> Picture:
    gap = np.full((tiles[0].shape[0], GAP, 3), PAPER, np.uint8)
    parts = [part for tile in tiles for part in (gap, tile)]
    row = np.concatenate([*parts, gap], axis=1)
    return np.concatenate([row, np.full((GAP, row.shape[1], 3), PAPER, np.uint8)])


def _titles(titles: Sequence[str], width: int) -> Picture:
    bar = np.full((BAR, width, 3), PAPER, np.uint8)
    step = (width - GAP) // len(titles)
    for number, title in enumerate(titles):
        cv2.putText(bar, title, (GAP + 2 + number * step, 26), FONT, 0.5, INK, 1, cv2.LINE_AA)
    return bar
