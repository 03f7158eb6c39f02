"""What a measurement becomes: percentiles, ratios to the first contender, and the JSON document that keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from solov2_edge.errors import InputError
from solov2_edge.runtime.bench import STAGES, Contender, Measured
from solov2_edge.runtime.bench_scenes import Scene

__all__ = ["SCHEMA", "percentiles", "read_report", "report", "result_entry"]

SCHEMA = "solov2-edge bench 1"


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, p99, mean, min and max of at least one sample, interpolated linearly between samples."""
    values = np.asarray(samples, np.float64)
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return {
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "mean": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def result_entry(
    facts: Mapping[str, Any],
    contender: Contender,
    measured: Measured,
    scenes: Sequence[Scene],
    first: Measured | None,
) -> dict[str, Any]:
    """Return one contender's JSON-ready entry.

    Args:
        facts: what is known of the artefact; copied in front.
        contender: what was measured.
        measured: its times.
        scenes: what was decoded beside the frames.
        first: times of the contender to compare with, of the same rounds; None leaves the ratio out.
    """
    inputs = contender.geometry(*contender.frames[0].shape[:2])
    counts = [
        {
            "instances": scene.instances,
            "origin": scene.origin,
            "candidates": scene.candidates,
            "stages_ms": {stage: percentiles(samples) for stage, samples in times.items()},
        }
        for scene, times in zip(scenes, measured.scenes, strict=True)
    ]
    return {
        **facts,
        "input_size": [inputs.input_height, inputs.input_width],
        "frame_sizes": [list(size) for size in sorted({frame.shape[:2] for frame in contender.frames})],
        "frames": len(contender.frames),
        "rounds": len(measured.instances),
        "decode_options": {field.name: getattr(contender.options, field.name) for field in fields(contender.options)},
        "instances": percentiles(measured.instances),
        "stages_ms": {stage: percentiles(samples) for stage, samples in measured.stages.items()},
        "counts": counts,
        "ratio_to_first": None if first is None else _ratios(measured, first),
    }


def _ratios(measured: Measured, first: Measured) -> dict[str, dict[str, float]]:
    """Return the median and the middle 90 % of time over time, round by round: drift of the machine cancels."""
    ratios = {}
    for stage in (*STAGES, "frame"):
        ratio = np.asarray(measured.stages[stage]) / np.maximum(first.stages[stage], 1e-6)
        p05, p50, p95 = np.percentile(ratio, (5, 50, 95)).tolist()
        ratios[stage] = {"p05": p05, "p50": p50, "p95": p95}
    return ratios


def report(
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
    settings: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the whole document."""
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "versions": dict(versions),
        "settings": dict(settings),
        "results": [dict(entry) for entry in results],
    }


def read_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a document that ``bench --save`` wrote.

    Raises:
        InputError: the file cannot be read or is no such document.
    """
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as stream:
            data: Any = json.load(stream)
    except OSError as error:
        raise InputError(
            f"cannot read {name}: {error.strerror or error}; give a file that bench --save wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON ({error}); give a file that bench --save wrote") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{name} must be a {SCHEMA!r} document, got {schema!r}; measure again with bench --save")
    document: dict[str, Any] = data
    return document
