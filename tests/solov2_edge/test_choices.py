from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solov2_edge.choices import (
    CALIBRATED,
    TARGETS,
    default_size,
    parse_formats,
    parse_precisions,
    parse_size,
    require_positive,
    size_text,
)
from solov2_edge.errors import InputError
from solov2_edge.manifest import FORMATS as MANIFEST_FORMATS
from solov2_edge.manifest import PRECISIONS as MANIFEST_PRECISIONS
from solov2_edge.variants import VARIANTS


def test_words_are_kept_once_in_order() -> None:
    assert parse_formats(["coreml", "onnx", "coreml"]) == ("coreml", "onnx")
    assert parse_precisions(["fp16", "fp32", "fp16"], ["onnx"]) == ("fp16", "fp32")
    assert parse_precisions(["int8", "int16x8"], ["tflite"]) == ("int8", "int16x8")
    assert parse_precisions(["fp32", "int8"], ["onnx", "tflite"]) == ("fp32", "int8")
    assert ("onnx", "int8") in CALIBRATED


def test_everything_offered_can_be_written_down_in_a_manifest() -> None:
    assert set(TARGETS) == set(MANIFEST_FORMATS)
    assert {precision for precisions in TARGETS.values() for precision in precisions} == set(MANIFEST_PRECISIONS)
    assert {(name, precision) for name, precisions in TARGETS.items() for precision in precisions} >= CALIBRATED


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mlpackage", "did you mean coreml?"),
        ("litert", "did you mean tflite?"),
        ("ONNX", "did you mean onnx?"),
        ("onx", "did you mean onnx?"),
        ("tensorrt", "expected onnx or tflite or coreml"),
        ("", "expected onnx"),
    ],
)
def test_formats_that_cannot_be_written(word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_formats(["onnx", word])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("float16", "did you mean fp16?"),
        ("half", "did you mean fp16?"),
        ("FP32", "did you mean fp32?"),
        ("quantized", "did you mean int8?"),
        ("palette", "did you mean palette"),
        ("bf7", "expected fp32 or fp16"),
    ],
)
def test_precisions_nobody_knows(word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_precisions([word], ["tflite"])
    assert message in str(caught.value)


def test_a_precision_must_exist_in_every_format_asked() -> None:
    with pytest.raises(InputError, match="--precision palette6 cannot be written as tflite, which takes fp32, fp16"):
        parse_precisions(["fp32", "palette6"], ["coreml", "tflite"])


def test_no_word_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="--to needs at least one of onnx, tflite, coreml"):
        parse_formats([])


@pytest.mark.parametrize(
    ("text", "size"), [("448x768", (448, 768)), ("512X864", (512, 864)), ("448", (448, 448)), (" 32x64 ", (32, 64))]
)
def test_sizes_are_height_first(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_any_multiple_of_32_is_a_size_and_nothing_else(height: int, width: int) -> None:
    text = size_text(height, width)
    if height % 32 == 0 and width % 32 == 0:
        assert parse_size(text) == (height, width)
    else:
        with pytest.raises(InputError, match="the next is") as caught:
            parse_size(text)
        # The size it proposes is one.
        parse_size(str(caught.value).rsplit(" ", 1)[1])


@pytest.mark.parametrize("text", ["", "448x", "x448", "448*768", "448x768x3", "-32x32", "0x32", "big", "4.5x32"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="--input-size"):
        parse_size(text)


def test_the_default_size_is_the_box_rounded_up() -> None:
    assert default_size(VARIANTS["light-448-r18"]) == (448, 768)
    assert default_size(VARIANTS["light-512-r50-dcnv2"]) == (512, 864)
    assert default_size(replace(VARIANTS["nano"], resize_box=(1, 1))) == (32, 32)


@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one_are_refused(value: int) -> None:
    require_positive("--limit", None)
    require_positive("--limit", 1)
    with pytest.raises(InputError, match="--limit must be at least 1"):
        require_positive("--limit", value)
