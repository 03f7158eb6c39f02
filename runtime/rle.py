"""COCO run-length encoding, written from a crop without ever building the frame's canvas.

A mask of H x W is read column by column (column-major); ``counts`` alternates the lengths of background and
foreground runs, background first (a 0 when the first pixel is foreground). COCO's compressed form writes each count
in base 32, least significant digit first, as printable ASCII; from the fourth count on, the difference to the count
two before is written. Both forms are equal to pycocotools', without needing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require

__all__ = [
    "compress_all",
    "compress_counts",
    "crop_counts",
    "decode_rle",
    "decompress_counts",
    "encode_mask",
    "rle_runs",
]

MAX_PIXELS = 100_000_000  # of a mask, as of the picture it lies on
_FIRST_CHARACTER = 48  # "0": the printable character of digit 0
_MORE = 0x20  # a further digit follows
_SIGN = 0x10  # set in the last digit of a negative number
_DIGIT = 0x1F
_BITS = 5
_MAX_DIGITS = 12  # 60 bits: more than any count, and safe in int64


def crop_counts(crop: NDArray[np.bool_], y0: int, x0: int, height: int, width: int) -> NDArray[np.int64]:
    """Return the run lengths of a frame whose foreground lies in one crop.

    Args:
        crop: (h, w) bool, inside the frame.
        y0: row of the crop's top-left pixel in the frame.
        x0: column of the crop's top-left pixel in the frame.
        height: H of the frame in pixels.
        width: W of the frame in pixels.

    Returns:
        (runs,) int64, background first; sums to H * W.
    """
    rows, columns = crop.shape
    if not crop.size:
        return np.array([height * width])
    # Where a pixel differs from the one above it, background above and below: found along the crop's own rows, since
    # turning it to columns would cost more than sorting the few places that are found.
    edges = np.empty((rows + 1, columns), np.bool_)
    edges[0], edges[-1] = crop[0], crop[-1]
    np.not_equal(crop[1:], crop[:-1], out=edges[1:-1])
    row, column = np.divmod(np.flatnonzero(edges), columns)
    positions = np.sort((x0 + column) * height + (y0 + row))
    if rows == height and len(positions):
        # A run that reaches the frame's bottom goes on at the top of the next column: end and start coincide.
        joined = np.flatnonzero(positions[1:-1:2] == positions[2::2]) * 2 + 1
        positions = np.delete(positions, np.concatenate([joined, joined + 1]))
    counts = np.diff(positions, prepend=0, append=height * width)
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def compress_counts(counts: NDArray[np.int64]) -> str:
    """Return COCO's compressed string of run lengths, as pycocotools writes it (ASCII)."""
    return compress_all([counts])[0]


def compress_all(masks: Sequence[NDArray[np.int64]]) -> list[str]:
    """Return :func:`compress_counts` of the run lengths of each mask; together they take a fraction of the time."""
    if not masks:
        return []
    counts = np.concatenate(masks).astype(np.int64)
    lengths = np.array([len(mask) for mask in masks])
    place = np.arange(len(counts)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = counts.copy()
    values[2:] -= np.where(place[2:] > 2, counts[:-2], 0)
    digits = []
    left = np.arange(len(values))
    while len(left):
        digit = values & _DIGIT
        values = values >> _BITS
        more = np.where(digit & _SIGN, values != -1, values != 0)
        digits.append(np.zeros(len(counts), np.uint8))  # 0: not written
        digits[-1][left] = digit + _FIRST_CHARACTER + _MORE * more
        left, values = left[more], values[more]
    characters = np.stack(digits or [np.zeros(0, np.uint8)], axis=1)
    written = characters != 0
    text = characters[written].tobytes().decode("ascii")
    ends = np.cumsum(written.sum(axis=1, dtype=np.int64))
    stops = np.concatenate(([0], ends))[np.concatenate(([0], np.cumsum(lengths)))].tolist()
    return [text[start:stop] for start, stop in pairwise(stops)]


def decompress_counts(text: str | bytes) -> NDArray[np.int64]:
    """Return the run lengths of a compressed string; the inverse of :func:`compress_counts`.

    Raises:
        InputError: the string holds other characters, stops inside a number, or gives a negative run.
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError as error:
        raise InputError("RLE counts must be ASCII characters '0' to 'o'; the string is damaged") from error
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    require(
        bool(((codes >= 0) & (codes < 2 * _MORE)).all()),
        "RLE counts must be characters '0' to 'o'; the string is damaged",
    )
    last = np.flatnonzero(codes < _MORE)
    require(
        len(codes) == (last[-1] + 1 if len(last) else 0),
        "RLE counts must end with a complete number; the string is cut short",
    )
    if not len(codes):
        return np.zeros(0, np.int64)
    first = np.concatenate([[0], last[:-1] + 1])
    require(int((last - first).max()) < _MAX_DIGITS, "RLE counts hold a number beyond 60 bits; the string is damaged")
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((codes & _DIGIT) << (_BITS * place), first)
    values -= np.where(codes[last] & _SIGN, np.int64(1) << (_BITS * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    require(bool((values >= 0).all()), "RLE counts must not be negative; the string is damaged")
    return values


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the compressed COCO RLE of one mask (H, W) bool: ``{"size": [H, W], "counts": str}``."""
    require(mask.ndim == 2 and mask.dtype == np.bool_, f"a mask must be (H, W) bool, got {mask.shape} {mask.dtype}")
    height, width = mask.shape
    return {"size": [height, width], "counts": compress_counts(crop_counts(mask, 0, 0, height, width))}


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask (H, W) bool of a COCO RLE, its ``counts`` compressed or a list of run lengths.

    Raises:
        InputError: a key is missing, or the runs do not sum to H * W.
    """
    height, width, runs = rle_runs(rle)
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def rle_runs(rle: Mapping[str, Any]) -> tuple[int, int, NDArray[np.int64]]:
    """Return height, width and run lengths (runs,) int64 of a COCO RLE, checked as :func:`decode_rle` does."""
    require("size" in rle and "counts" in rle, f"an RLE must hold 'size' and 'counts', got {sorted(rle)}")
    size, counts = rle["size"], rle["counts"]
    good = isinstance(size, Sequence) and len(size) == 2 and all(isinstance(side, int | np.integer) for side in size)
    require(good and min(size) >= 0, f"an RLE's size must be [height, width] in pixels, got {str(size)[:60]}")
    height, width = (int(side) for side in size)
    large = max(height, width, height * width) > MAX_PIXELS  # a side alone, too: the other may be 0
    require(not large, f"an RLE of {str(size)[:60]} pixels is larger than any picture read here")
    if isinstance(counts, str | bytes):
        runs = decompress_counts(counts)
    else:
        require(isinstance(counts, Sequence | np.ndarray), f"RLE counts must be a string or a list, got {counts!r}")
        runs = _run_lengths(counts)
    # In Python's integers: numpy's sum wraps, and would then let runs through that reach far beyond the mask.
    total = sum(runs.tolist())
    require(
        bool((runs >= 0).all()) and total == height * width,
        f"RLE runs must sum to the {height} x {width} = {height * width} pixels of its size, got {total}",
    )
    return height, width, runs


def _run_lengths(counts: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """Return a list of run lengths as (runs,) int64."""
    try:
        runs = np.asarray(counts)
    except ValueError:  # lists of several lengths
        runs = np.empty((0, 0))
    whole = runs.ndim == 1 and (runs.size == 0 or runs.dtype.kind in "iu")
    require(whole, f"RLE counts must be whole numbers, got {str(counts)[:60]}")
    return runs.astype(np.int64)
