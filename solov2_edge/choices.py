"""Reading the words a user types: formats, precisions and sizes, with a hint when one is off by a little."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from solov2_edge.errors import InputError, require
from solov2_edge.spec import ModelSpec

__all__ = ["default_size", "parse_formats", "parse_precisions", "parse_size", "require_positive", "size_text"]

FORMATS = ("onnx",)
LATER_FORMATS = ("tflite", "coreml")
FORMAT_ALIASES = {
    "litert": "tflite",
    "tensorflow-lite": "tflite",
    "mlpackage": "coreml",
    "mlmodel": "coreml",
    "core-ml": "coreml",
    "onnxruntime": "onnx",
}
PRECISIONS = ("fp32", "fp16")
LATER_PRECISIONS = ("int8",)
PRECISION_ALIASES = {
    "float32": "fp32",
    "f32": "fp32",
    "32": "fp32",
    "float16": "fp16",
    "f16": "fp16",
    "half": "fp16",
    "16": "fp16",
    "uint8": "int8",
    "i8": "int8",
    "quantized": "int8",
    "8": "int8",
}
THIS_VERSION = "this version writes ONNX in fp32 and fp16 only"


def parse_formats(words: Sequence[str]) -> tuple[str, ...]:
    """Return the formats asked for, each once, in order.

    Raises:
        InputError: a format this version does not write, or no format at all.
    """
    return _parse(words, "--to", FORMATS, LATER_FORMATS, FORMAT_ALIASES)


def parse_precisions(words: Sequence[str]) -> tuple[str, ...]:
    """Return the precisions asked for, each once, in order.

    Raises:
        InputError: a precision this version does not write, or no precision at all.
    """
    return _parse(words, "--precision", PRECISIONS, LATER_PRECISIONS, PRECISION_ALIASES)


def _parse(
    words: Sequence[str], option: str, known: tuple[str, ...], later: tuple[str, ...], aliases: Mapping[str, str]
) -> tuple[str, ...]:
    for word in words:
        if word in known:
            continue
        if word in later:
            raise InputError(f"{option} {word}: {THIS_VERSION}; {word} comes in a later one")
        close = difflib.get_close_matches(word.lower(), [*known, *later, *aliases], n=1, cutoff=0.7)
        meant = aliases.get(close[0], close[0]) if close else None
        hint = f"did you mean {meant}?" if meant else f"expected {' or '.join(known)}"
        raise InputError(f"{option} {word!r} is not known; {hint}")
    return tuple(dict.fromkeys(words))


def parse_size(text: str) -> tuple[int, int]:
    """Read an input size such as ``448x768``, height first.

    Returns:
        (height, width) in pixels, both multiples of 32.

    Raises:
        InputError: not H x W, or not multiples of 32; the message names the nearest size that is.
    """
    found = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())  # noqa: RUF001 - people paste the real sign
    if not found:
        raise InputError(f"--input-size must be HEIGHTxWIDTH in pixels such as 448x768, got {text!r}")
    height, width = int(found.group(1)), int(found.group(2) or found.group(1))
    if height % 32 or width % 32 or not height or not width:
        near = size_text(_multiple_of_32(height), _multiple_of_32(width))
        raise InputError(f"--input-size {text}: height and width must be positive multiples of 32; the next is {near}")
    return height, width


def default_size(spec: ModelSpec) -> tuple[int, int]:
    """Return (height, width) in pixels of the spec's resize box, rounded up to multiples of 32: 448x768 for 448."""
    short, long = spec.resize_box
    return _multiple_of_32(short), _multiple_of_32(long)


def size_text(height: int, width: int) -> str:
    """Write a size as this project does everywhere: height first."""
    return f"{height}x{width}"


def _multiple_of_32(value: int) -> int:
    return max(32, -(-value // 32) * 32)


def require_positive(option: str, value: int | None) -> None:
    """Refuse counts below one, with the option's name."""
    require(value is None or value >= 1, f"{option} must be at least 1, got {value}")
