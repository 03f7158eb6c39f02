"""Which files a conversion writes, with which exporter and which of the options a user gave."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solov2_edge.choices import CALIBRATED, INT8_ENGINES
from solov2_edge.errors import require
from solov2_edge.manifest import Manifest

__all__ = ["SUFFIXES", "Conversion", "exporter", "file_stem", "options_for", "plan"]

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "coreml": ".mlpackage", "ncnn": ".ncnn"}
EXPORTERS = {
    "onnx": ("solov2_edge.converters.to_onnx", "export_onnx"),
    "tflite": ("solov2_edge.converters.to_tflite", "export_tflite"),
    "coreml": ("solov2_edge.converters.to_coreml", "export_coreml"),
    "ncnn": ("solov2_edge.converters.to_ncnn", "export_ncnn"),
}
# An exporter's own options: keyword -> (what the user types, the format that takes it).
OWN_OPTIONS = {
    "opset": ("--opset", "onnx"),
    "dcn": ("--dcn", "onnx"),
    "target": ("--for", "onnx"),
    "deployment_target": ("--deployment-target", "coreml"),
}


# Of a name, so that the longest file made of it, its manifest while it is written aside, stays below 255 bytes.
MAX_NAME_BYTES = 180


@dataclass(frozen=True, slots=True)
class Conversion:
    """One artefact to write.

    Attributes:
        format: ``"onnx"``, ``"tflite"``, ``"coreml"`` or ``"ncnn"``.
        precision: as in the manifest.
        path: where the artefact goes.
    """

    format: str
    precision: str
    path: Path

    @property
    def calibrated(self) -> bool:
        """Whether calibration pictures are needed."""
        return (self.format, self.precision) in CALIBRATED


def plan(
    formats: Sequence[str],
    precisions: Sequence[str],
    folder: Path,
    name: str,
    target: str | None = None,
    *,
    decoded: bool = False,
) -> tuple[Conversion, ...]:
    """Return every precision in every format, named ``NAME.<precision>.<suffix>``.

    An integer ONNX file for TensorRT or OpenVINO is another file than that for ONNX Runtime on CPUs:
    ``NAME.int8-tensorrt.onnx``. So is one that decodes inside its graph: ``NAME.fp32-decoded.onnx``.
    """
    made = []
    for format_ in formats:
        for precision in precisions:
            own = target not in (None, next(iter(INT8_ENGINES))) and _targeted(format_, precision)
            word = f"{precision}-{target}" if own else precision
            word += "-decoded" if decoded else ""
            made.append(Conversion(format_, precision, folder / f"{name}.{word}{SUFFIXES[format_]}"))
    return tuple(made)


def file_stem(name: str | None, checkpoint: Path) -> str:
    """Return what the files' names begin with: ``name`` where it was given, else the checkpoint's own.

    Raises:
        InputError: it is empty, a path, or too long for a file's name.
    """
    stem = checkpoint.stem if name is None else name
    require(
        Path(stem).name == stem != "",
        f"--name must be a bare file name, got {stem[:80]!r}; the folder goes to --output",
    )
    size = len(os.fsencode(stem))
    whose = "the checkpoint's name" if name is None else "--name"
    cure = "; give --name" if name is None else ""
    require(size <= MAX_NAME_BYTES, f"{whose} must be at most {MAX_NAME_BYTES} bytes long, got {size}{cure}")
    return stem


def options_for(conversions: Sequence[Conversion], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the exporter's own options of each conversion, of what the user gave (None: not given).

    Raises:
        InputError: an option was given that none of the conversions takes.
    """
    chosen: list[dict[str, Any]] = [{} for _ in conversions]
    for keyword, (option, format_) in OWN_OPTIONS.items():
        if given[keyword] is None:
            continue
        taking = [
            own
            for own, conversion in zip(chosen, conversions, strict=True)
            if conversion.format == format_ and (keyword != "target" or _targeted(format_, conversion.precision))
        ]
        what = f"--to {format_}" + (" --precision int8" if keyword == "target" else "")
        require(bool(taking), f"{option} is for {what}, which was not asked; leave it out")
        for own in taking:
            own[keyword] = given[keyword]
    return chosen


def _targeted(format_: str, precision: str) -> bool:
    """Tell whether a file depends on the engine it is for."""
    return (format_, precision) == ("onnx", "int8")


def exporter(format_: str) -> Callable[..., Manifest]:
    """Return the function that writes a format; its toolchain is imported now.

    Raises:
        ModuleNotFoundError: the toolchain is not installed.
    """
    module, function = EXPORTERS[format_]
    found: Callable[..., Manifest] = getattr(importlib.import_module(module), function)
    return found
