"""Which files a conversion writes, with which exporter and which of the options a user gave."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solov2_edge.choices import CALIBRATED
from solov2_edge.errors import require
from solov2_edge.manifest import Manifest

__all__ = ["SUFFIXES", "Conversion", "exporter", "options_for", "plan"]

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "coreml": ".mlpackage"}
EXPORTERS = {
    "onnx": ("solov2_edge.converters.to_onnx", "export_onnx"),
    "tflite": ("solov2_edge.converters.to_tflite", "export_tflite"),
    "coreml": ("solov2_edge.converters.to_coreml", "export_coreml"),
}
# An exporter's own options: keyword -> (what the user types, the format that takes it).
OWN_OPTIONS = {
    "opset": ("--opset", "onnx"),
    "dcn": ("--dcn", "onnx"),
    "deployment_target": ("--deployment-target", "coreml"),
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """One artefact to write.

    Attributes:
        format: ``"onnx"``, ``"tflite"`` or ``"coreml"``.
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


def plan(formats: Sequence[str], precisions: Sequence[str], folder: Path, name: str) -> tuple[Conversion, ...]:
    """Return every precision in every format, named ``NAME.<precision>.<suffix>``."""
    return tuple(
        Conversion(format_, precision, folder / f"{name}.{precision}{SUFFIXES[format_]}")
        for format_ in formats
        for precision in precisions
    )


def options_for(formats: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return format -> its exporter's own options, of what the user gave (None: not given).

    Raises:
        InputError: an option was given that none of the formats takes.
    """
    chosen: dict[str, dict[str, Any]] = {format_: {} for format_ in formats}
    for keyword, (option, format_) in OWN_OPTIONS.items():
        if given[keyword] is None:
            continue
        require(format_ in formats, f"{option} is for --to {format_}, which was not asked; leave it out")
        chosen[format_][keyword] = given[keyword]
    return chosen


def exporter(format_: str) -> Callable[..., Manifest]:
    """Return the function that writes a format; its toolchain is imported now.

    Raises:
        ModuleNotFoundError: the toolchain is not installed.
    """
    module, function = EXPORTERS[format_]
    found: Callable[..., Manifest] = getattr(importlib.import_module(module), function)
    return found
