"""Resizing and resampling of MIL (iOS15 to iOS18), in float32.

Reference: coremltools ``converters/mil/mil/ops/defs/*/image_resizing.py``. Positions count pixels from the centre of
the first one. Where the reference does not say which pixel is nearest, the op is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_types import Value
from solov2_edge.errors import require

__all__ = ["OPS"]

SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def positions(mode: str, size: int, target: int) -> Tensor:
    """Return where ``target`` samples lie among ``size`` pixels, as float64, kept inside.

    The formulas are those of ``resize_bilinear``'s ``sampling_mode``, except that spacings the reference writes with
    (target - 1) in numerator and denominator are shortened, so that a target of 1 needs no case of its own.
    """
    i = torch.arange(target, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        where = i * ((size - 1) / max(target - 1, 1))
        if mode == "ALIGN_CORNERS" and target == 1:
            where = where + (size - 1) / 2
    elif mode == "DEFAULT":
        where = i * (size / target)
    elif mode == "OFFSET_CORNERS":
        where = (i + 0.5) * (max(1, size - 1) / target)
    else:  # UNALIGN_CORNERS
        where = (i + 0.5) * (size / target) - 0.5
    return where.clamp(0, size - 1)


def interpolated(x: Tensor, axis: int, where: Tensor) -> Tensor:
    """Return x sampled linearly at positions along one axis."""
    low = where.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    shape = [-1 if i == axis % x.dim() else 1 for i in range(x.dim())]
    weight = (where - low).float().reshape(shape)
    return x.index_select(axis, low) * (1 - weight) + x.index_select(axis, high) * weight


def bilinear(a: Arguments, x: Tensor, height: int, width: int, mode: str) -> Tensor:
    """Return x resized in its last two dimensions."""
    a.fits([*x.shape[:-2], height, max(width, x.shape[-1])])
    rows = interpolated(x, -2, positions(mode, x.shape[-2], height))
    return interpolated(rows, -1, positions(mode, x.shape[-1], width))


def nearest(a: Arguments, x: Tensor, height: int, width: int) -> Tensor:
    """Return x with every pixel repeated; whole factors only, for which every convention of nearest agrees."""
    rows, columns = height // x.shape[-2], width // x.shape[-1]
    require(
        (rows * x.shape[-2], columns * x.shape[-1]) == (height, width),
        f"{a.what} takes the nearest pixel from {tuple(x.shape[-2:])} to {height} x {width}; the interpreter supports "
        "whole factors, the reference does not define others",
    )
    a.fits([*x.shape[:-2], height, width])
    return x.repeat_interleave(rows, -2).repeat_interleave(columns, -1)


def scaled(a: Arguments, x: Tensor) -> tuple[int, int]:
    """Return floor(size * factor), multiplied in float32 as the reference does, for the last two dimensions."""
    height, width = (np.float32(a.number(f"scale_factor_{side}", 1.0)) for side in ("height", "width"))
    return int(np.floor(height * np.float32(x.shape[-2]))), int(np.floor(width * np.float32(x.shape[-1])))


def upsample_nearest_neighbor(a: Arguments) -> Tensor:
    """X with its last two dimensions repeated by factors."""
    x = a.tensor("x")
    return nearest(a, x, *scaled(a, x))


def resize_nearest_neighbor(a: Arguments) -> Tensor:
    """X with its last two dimensions repeated up to a size."""
    return nearest(a, a.tensor("x"), a.integer("target_size_height"), a.integer("target_size_width"))


def upsample_bilinear(a: Arguments) -> Tensor:
    """X resized by factors, which are computed again from the output's size; corners aligned by default."""
    x, aligned = a.tensor("x"), a.flag("align_corners", True)
    centred = a.flag("half_pixel_centers", not aligned)
    require(not (aligned and centred), f"{a.what} aligns corners and pixel centres; the reference does not define both")
    mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS" if centred else "DEFAULT"
    return bilinear(a, x, *scaled(a, x), mode)


def resize_bilinear(a: Arguments) -> Tensor:
    """X resized to a size."""
    mode = a.text("sampling_mode", "DEFAULT", SAMPLING_MODES)
    height, width = a.integer("target_size_height", 1), a.integer("target_size_width", 1)
    return bilinear(a, a.tensor("x"), height, width, mode)


def resize(a: Arguments) -> Tensor:
    """X with its last ``resized_dims`` dimensions resized to the end of ``shape``; 0 keeps a size (iOS17)."""
    x, shape, count = a.tensor("x"), a.ints("shape"), a.integer("resized_dims")
    a.text("interpolation_mode", "LINEAR", ("LINEAR",))
    mode = a.text("sampling_mode", "DEFAULT", SAMPLING_MODES)
    require(0 < count <= min(len(shape), x.dim()), f"{a.what} resizes {count} of {x.dim()} dimensions; convert again")
    for axis, target in zip(range(-count, 0), shape[-count:], strict=True):
        if target:
            a.fits([target if i == axis + x.dim() else size for i, size in enumerate(x.shape)])
            x = interpolated(x, axis, positions(mode, x.shape[axis], target))
    return x


def resample(a: Arguments) -> Tensor:
    """X (n, C, H, W) at ``coordinates`` (n, h, w, 2), x before y, as (n, C, h, w)."""
    x, coordinates = a.tensor("x"), a.tensor("coordinates").float()
    padding = a.text("padding_mode", choices=("constant", "border", "reflection", "symmetric"))
    measure = a.text(
        "coordinates_mode", choices=("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")
    )
    aligned, fill = a.flag("align_corners"), a.number("padding_value")
    columns, rows = (
        _inside(_pixels(coordinates[..., i], x.shape[3 - i], measure, aligned), x.shape[3 - i], padding) for i in (0, 1)
    )
    if a.text("sampling_mode", choices=("bilinear", "nearest")) == "nearest":
        return _taken(x, rows.round(), columns.round(), fill)  # half to even, as PyTorch
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top).unsqueeze(1), (columns - left).unsqueeze(1)
    upper = _taken(x, top, left, fill) * (1 - right) + _taken(x, top, left + 1, fill) * right
    lower = _taken(x, top + 1, left, fill) * (1 - right) + _taken(x, top + 1, left + 1, fill) * right
    return upper * (1 - down) + lower * down


def _pixels(coordinate: Tensor, size: int, measure: str, aligned: bool) -> Tensor:
    """Return pixel positions: the ends of the range are pixel centres if corners are aligned, else outer edges."""
    if measure == "unnormalized":
        return coordinate
    part = (coordinate + 1) / 2 if measure == "normalized_minus_one_to_one" else coordinate
    return part * (size - 1) if aligned else part * size - 0.5


def _inside(where: Tensor, size: int, padding: str) -> Tensor:
    """Return positions moved into the picture as ``padding`` says; ``constant`` leaves them outside."""
    if padding == "border":
        return where.clamp(0, size - 1)
    if padding == "reflection":  # about the centres of the outer pixels
        period = 2 * (size - 1)
        return (where.abs().remainder(period) - (size - 1)).abs().sub(size - 1).abs() if period else where * 0
    if padding == "symmetric":  # about the outer edges, half a pixel further out
        folded = size - ((where + 0.5).remainder(2 * size) - size).abs() - 0.5
        return folded.clamp(0, size - 1)
    return where


def _taken(x: Tensor, rows: Tensor, columns: Tensor, fill: float) -> Tensor:
    """Return x (n, C, H, W) at whole rows and columns (n, h, w) as (n, C, h, w), ``fill`` outside."""
    n, channels, height, width = x.shape
    outside = (rows < 0) | (rows > height - 1) | (columns < 0) | (columns > width - 1)
    flat = rows.clamp(0, height - 1).long() * width + columns.clamp(0, width - 1).long()
    pixels = [x[i].reshape(channels, -1).index_select(1, flat[i].reshape(-1)) for i in range(n)]
    taken = torch.stack(pixels).reshape(n, channels, *flat.shape[1:])
    return taken.masked_fill(outside.unsqueeze(1), fill)


OPS: dict[str, Callable[[Arguments], Tensor | Value]] = {
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
    "resize_nearest_neighbor": resize_nearest_neighbor,
    "upsample_bilinear": upsample_bilinear,
    "resize_bilinear": resize_bilinear,
    "resize": resize,
    "resample": resample,
}
