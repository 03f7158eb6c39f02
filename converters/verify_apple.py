"""Apple's runtime against the program interpreter, once per choice of compute units; needs a Mac."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters import mil_interpreter
from solov2_edge.converters.parity import bound_of, differences
from solov2_edge.converters.verification import Finding
from solov2_edge.errors import require
from solov2_edge.manifest import OUTPUT_NAMES
from solov2_edge.runtime import load
from solov2_edge.runtime.coreml_units import UNITS

__all__ = ["compare_units"]

# The GPU and the Neural Engine compute in float16 whatever the program's types say; only the CPU keeps float32.
FLOAT32_UNITS = ("cpu_only",)


def compare_units(
    path: str | os.PathLike[str],
    frames: Mapping[str, NDArray[Any]],
    units: Sequence[str] = UNITS,
) -> tuple[Finding, ...]:
    """Compare the raw outputs of Apple's runtime with the interpreter's, on the same frames.

    Args:
        path: an .mlpackage.
        frames: name -> BGR uint8 (H, W, 3).
        units: compute units to open the package with.

    Returns:
        One row per frame, compute units and output, of stage ``network``; the quantity is, for example,
        ``"kernels on cpu_and_ne"`` and the note says what Core ML planned to run on. The bound is that of the
        package's precision, and float16's for a float32 package on units that may not compute in float32. None for a
        package that decodes: it has no raw outputs, and runs on the CPU only.

    Raises:
        InputError: this is no Mac, no frame is given, or the package cannot be opened.
    """
    require(len(frames) > 0, "comparing compute units needs at least one frame, got none")
    with mil_interpreter.load(path) as segment:
        precision = segment.manifest.precision
        if segment.manifest.decode is not None:
            return ()
        expected = {name: segment.raw(frame) for name, frame in frames.items()}
    findings = []
    for unit in units:
        rounds = precision == "fp32" and unit not in FLOAT32_UNITS
        bound = bound_of("fp16" if rounds else precision)
        with load(path, providers=unit) as segment:
            note = f"runs on {', '.join(segment.providers)}"
            for name, frame in frames.items():
                measured = differences(segment.raw(np.asarray(frame)), expected[name])
                findings += [
                    Finding(name, "network", f"{output} on {unit}", measured[output], bound, note=note)
                    for output in OUTPUT_NAMES
                ]
    return tuple(findings)
