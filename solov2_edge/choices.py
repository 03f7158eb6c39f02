"""Reading the words a user types: formats, precisions and sizes, with a hint when one is off by a little."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from solov2_edge.errors import InputError, require
from solov2_edge.spec import ModelSpec

__all__ = [
    "CALIBRATED",
    "INT8_ENGINES",
    "MIXABLE",
    "NEEDED_SYSTEM",
    "OPSETS",
    "SYSTEMS",
    "TARGETS",
    "check_opset",
    "check_system",
    "default_size",
    "parse_formats",
    "parse_precisions",
    "parse_size",
    "require_positive",
    "size_text",
]

# format -> the precisions it can be written in
TARGETS: dict[str, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "int8-dynamic", "int8", "int16x8"),
    "coreml": ("fp32", "fp16", "int8", "palette6", "palette4", "int4", "w8a8"),
    "ncnn": ("fp32", "fp16", "int8"),
}
OPSETS = range(18, 23)  # of ONNX
SYSTEMS = ("iOS16", "iOS17", "iOS18")  # Core ML's deployment targets, and the macOS of the same year: 13, 14, 15
# Core ML precisions whose operators an older system does not know.
NEEDED_SYSTEM = {"w8a8": "iOS17", "int4": "iOS18"}
# What needs calibration pictures: wherever activations are integers of a fixed scale.
CALIBRATED = {("onnx", "int8"), ("tflite", "int8"), ("tflite", "int16x8"), ("coreml", "w8a8"), ("ncnn", "int8")}
# Who runs an 8-bit ONNX file, each in a form of its own, the default first -> how people call it.
INT8_ENGINES = {"cpu": "CPUs", "tensorrt": "TensorRT", "openvino": "OpenVINO"}
# Where single layers can stay float.
MIXABLE = {("onnx", "int8"), ("tflite", "int8")}
FORMAT_ALIASES = {
    "litert": "tflite",
    "tensorflow-lite": "tflite",
    "mlpackage": "coreml",
    "mlmodel": "coreml",
    "core-ml": "coreml",
    "onnxruntime": "onnx",
}
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
    "dynamic": "int8-dynamic",
    "a16w8": "int16x8",
    "a8w8": "w8a8",
}


def parse_formats(words: Sequence[str]) -> tuple[str, ...]:
    """Return the formats asked for, each once, in order.

    Raises:
        InputError: an unknown format, or none at all.
    """
    return _parse(words, "--to", tuple(TARGETS), FORMAT_ALIASES)


def parse_precisions(words: Sequence[str], formats: Sequence[str]) -> tuple[str, ...]:
    """Return the precisions asked for, each once, in order.

    Args:
        words: what the user typed.
        formats: the formats asked for; every precision is written in each of them.

    Raises:
        InputError: an unknown precision, one that a format cannot be written in, or none at all.
    """
    known = tuple(dict.fromkeys(precision for precisions in TARGETS.values() for precision in precisions))
    asked = _parse(words, "--precision", known, PRECISION_ALIASES)
    several = len(formats) > 1 or len(asked) > 1
    cure = "convert in two commands, or leave one of them out" if several else "choose one of these, or another format"
    for name in formats:
        for precision in asked:
            require(
                precision in TARGETS[name],
                f"--precision {precision} cannot be written as {name}, which takes {', '.join(TARGETS[name])}; {cure}",
            )
    return asked


def _parse(words: Sequence[str], option: str, known: Iterable[str], aliases: Mapping[str, str]) -> tuple[str, ...]:
    names = tuple(known)
    for word in words:
        if word in names:
            continue
        close = difflib.get_close_matches(word.lower(), [*names, *aliases], n=1, cutoff=0.7)
        meant = aliases.get(close[0], close[0]) if close else None
        hint = f"did you mean {meant}?" if meant else f"expected {' or '.join(names)}"
        raise InputError(f"{option} {word!r} is not known; {hint}")
    require(len(words) > 0, f"{option} needs at least one of {', '.join(names)}")
    return tuple(dict.fromkeys(words))


def parse_size(text: str) -> tuple[int, int]:
    """Read an input size such as ``448x768``, height first.

    Returns:
        (height, width) in pixels, both multiples of 32.

    Raises:
        InputError: not H x W, or not multiples of 32; the message names the nearest size that is.
    """
    found = re.fullmatch(r"([0-9]{1,5})(?:[xX×]([0-9]{1,5}))?", text.strip())  # noqa: RUF001 - people paste the real sign
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


def check_opset(asked: int | None) -> None:
    """Refuse an ONNX opset that is not written."""
    require(asked is None or asked in OPSETS, f"opset must be {OPSETS[0]}..{OPSETS[-1]}, got {asked!r}")


def check_system(asked: str | None, precision: str) -> str:
    """Return the oldest system a Core ML package of this precision is for; one that is asked for is never raised.

    Raises:
        InputError: an unknown system, or one that does not know the precision's operators.
    """
    needed = NEEDED_SYSTEM.get(precision, SYSTEMS[0])
    if asked is None:
        return needed
    require(asked in SYSTEMS, f"the deployment target must be one of {', '.join(SYSTEMS)}, got {asked!r}")
    require(
        SYSTEMS.index(asked) >= SYSTEMS.index(needed),
        f"{precision} needs {needed} or later, got deployment target {asked}; raise it, or choose another precision",
    )
    return asked
