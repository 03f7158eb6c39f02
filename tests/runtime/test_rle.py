from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from solov2_edge.errors import InputError
from solov2_edge.runtime.rle import (
    compress_all,
    compress_counts,
    crop_counts,
    decode_rle,
    decompress_counts,
    encode_mask,
    rle_runs,
)

Mask = NDArray[np.bool_]
masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def coco(mask: Mask) -> Any:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside pycocotools
@settings(deadline=None)
@given(mask=masks)
def test_equals_pycocotools_and_comes_back(mask: Mask) -> None:
    rle = encode_mask(mask)
    assert rle["counts"].encode() == coco(mask)["counts"]
    assert rle["size"] == list(mask.shape)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    np.testing.assert_array_equal(decode_rle(json.loads(json.dumps(rle))), mask)
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)


@settings(deadline=None)
@given(mask=masks, above=st.integers(0, 3), below=st.integers(0, 3), left=st.integers(0, 3), right=st.integers(0, 3))
def test_a_crop_equals_its_frame(mask: Mask, above: int, below: int, left: int, right: int) -> None:
    frame = np.pad(mask, ((above, below), (left, right)))
    counts = crop_counts(mask, above, left, *frame.shape)
    assert compress_counts(counts).encode() == coco(frame)["counts"]


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 2**31), max_size=30))
def test_compressed_counts_come_back(counts: list[int]) -> None:
    assert decompress_counts(compress_counts(np.array(counts, np.int64))).tolist() == counts


@settings(deadline=None)
@given(masks=st.lists(st.lists(st.integers(0, 2**31), max_size=12), max_size=5))
def test_compressing_masks_together_is_compressing_each(masks: list[list[int]]) -> None:
    counts = [np.array(mask, np.int64) for mask in masks]
    together = compress_all(counts)
    assert together == [compress_counts(each) for each in counts]
    assert [decompress_counts(text).tolist() for text in together] == masks


def test_large_frame_equals_pycocotools() -> None:
    mask = np.zeros((1080, 1920), bool)
    y, x = np.mgrid[:1080, :1920]
    mask[(y - 500) ** 2 + (x - 900) ** 2 < 300**2] = True
    assert encode_mask(mask)["counts"].encode() == coco(mask)["counts"]


def test_empty_crop_is_one_run_of_background() -> None:
    assert crop_counts(np.zeros((0, 0), bool), 0, 0, 4, 5).tolist() == [20]


def test_full_frame_starts_with_an_empty_run() -> None:
    assert crop_counts(np.ones((4, 5), bool), 0, 0, 4, 5).tolist() == [0, 20]


def test_uncompressed_counts_are_read() -> None:
    np.testing.assert_array_equal(
        decode_rle({"size": [2, 2], "counts": [1, 2, 1]}), np.array([[False, True], [True, False]])
    )


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": [4]}, "must hold"),
        ({"size": [2, 2], "counts": [3]}, "sum to"),
        ({"size": [2, 2], "counts": [5, -1]}, "sum to"),
        ({"size": [2, 2], "counts": 4}, "string or a list"),
        ({"size": [2, 2], "counts": "\x00"}, "damaged"),
        ({"size": [2, 2], "counts": "é"}, "damaged"),
        ({"size": [2, 2], "counts": "T"}, "cut short"),
        ({"size": [2, 2], "counts": "_"}, "cut short"),
        ({"size": [2, 2], "counts": "O"}, "negative"),
        ({"size": [2, 2], "counts": "o" * 20 + "0"}, "60 bits"),
    ],
)
def test_damaged_rle_is_refused(rle: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_rle(rle)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 2], "counts": [2**62, 2**62, 2**62, 2**62 + 4]}, "sum to"),  # wraps to 4 in 64 bits
        ({"size": [2], "counts": [4]}, "must be"),
        ({"size": "22", "counts": [4]}, "must be"),
        ({"size": [2, -2], "counts": [4]}, "must be"),
        ({"size": None, "counts": [4]}, "must be"),
        ({"size": [1 << 20, 1 << 20], "counts": [1 << 40]}, "larger than any picture"),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, "whole numbers"),
        ({"size": [2, 2], "counts": [[4], [1, 2]]}, "whole numbers"),
        ({"size": [2, 2], "counts": ["4"]}, "whole numbers"),
    ],
)
def test_what_adds_up_by_accident_or_not_at_all_is_refused(rle: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rle_runs(rle)
