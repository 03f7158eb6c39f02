"""Small frames and instances to draw, and a conversion to report."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.conversion_data import (
    ConversionReport,
    ConvertedFile,
    Disagreement,
    Figure,
    LayerCost,
    StageRow,
    Timing,
)
from solov2_edge.demos.image import encode_jpeg
from solov2_edge.demos.live_controls import Settings
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.demos.report_data import StageParity
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.source import Frame

Boxes = list[tuple[int, int, int, int]]


@pytest.fixture(scope="session")
def chromium() -> ModuleType:
    """The module chromium.py beside this file, which drives a real browser; without one the test is skipped."""
    spec = importlib.util.spec_from_file_location("solov2_edge_chromium", Path(__file__).with_name("chromium.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if module.BROWSER is None:
        pytest.skip(module.NO_BROWSER)
    return module


JAVASCRIPT_ARRAYS = {"float32": "Float32Array", "uint8": "Uint8Array", "int32": "Int32Array", "uint32": "Uint32Array"}


@pytest.fixture(scope="session")
def javascript() -> Callable[..., list[Any]]:
    """Call functions of the browser page's modules in Node: ``(module, name, *args)`` each, all in one process.

    A call that throws gives its error as an ``AssertionError`` in the list. Without Node the test is skipped.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed here")
    folder = Path(__file__).resolve().parent
    page = folder.parents[1] / "demos" / "browser_page"

    def encode(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            name = JAVASCRIPT_ARRAYS[value.dtype.name]
            return {f"${name}": base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()}
        raise TypeError(f"no JavaScript for {type(value)}")

    def decode(value: dict[str, Any]) -> Any:
        for dtype, name in JAVASCRIPT_ARRAYS.items():
            if f"${name}" in value:
                return np.frombuffer(base64.b64decode(value[f"${name}"]), dtype)
        return value

    def call(*calls: tuple[Any, ...]) -> list[Any]:
        jobs = [{"module": (page / module).as_uri(), "name": name, "args": args} for module, name, *args in calls]
        done = subprocess.run(
            [node, str(folder / "browser_modules.mjs")],
            input=json.dumps(jobs, default=encode),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout, object_hook=decode)
        return [answer["result"] if "result" in answer else AssertionError(answer["error"]) for answer in answers]

    return call


@pytest.fixture
def make() -> Callable[..., Instances]:
    """Build instances from boxes (x0, y0, x1, y1), scores falling from 0.9."""

    def build(height: int, width: int, boxes: Boxes, names: tuple[str, ...] = ("cell", "dust")) -> Instances:
        if not boxes:
            return Instances.empty(height, width, names)
        masks = np.zeros((len(boxes), height, width), np.bool_)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        scores = 0.9 - 0.01 * np.arange(len(boxes))
        return Instances.from_masks(masks, scores, np.arange(len(boxes)) % len(names), names)

    return build


@pytest.fixture
def grey() -> Callable[[int, int], NDArray[np.uint8]]:
    """Build a mid-grey BGR frame."""
    return lambda height, width: np.full((height, width, 3), 128, np.uint8)


@pytest.fixture
def show(make: Callable[..., Instances], grey: Callable[[int, int], NDArray[np.uint8]]) -> Callable[..., Shown]:
    """Build what a live view is shown: a frame of 48 x 64 with one instance per box."""

    def build(index: int = 0, boxes: Boxes | None = None, height: int = 48, width: int = 64, **more: Any) -> Shown:
        settings: Settings = more.pop("settings", Settings())
        instances = make(height, width, [(8, 8, 28, 32)] if boxes is None else boxes)
        frame = Frame(
            more.pop("image", grey(height, width)), index, 100.0 + index, seconds=more.pop("seconds", index / 10)
        )
        tracks = np.arange(1, len(instances) + 1)
        timings = {"capture": 1.0, "preprocess": 2.0, "network": 3.0, "decode": 4.0}
        statistics = more.pop("statistics", Statistics(frames=index + 1, fps=10.0, latency=12.3, dropped=4))
        return Shown(frame, instances, tracks, timings, 12.3, statistics, settings, **more)

    return build


def _panel(level: int) -> bytes:
    picture = np.full((120, 160, 3), level, np.uint8)
    cv2.circle(picture, (80, 60), 30, (0, 94, 213), 2)
    return encode_jpeg(picture, 80)


_FLOAT = ConvertedFile(
    name="a<b>.fp32.onnx",
    title="ONNX fp32",
    engine="onnxruntime 1",
    size_bytes=6_500_000,
    ap=Figure(53.61, 48.2, 58.9),
    drop=Figure(-0.001, -0.02, 0.03),
    network=Figure(1.0, 1.0, 1.0),
    frame=Figure(1.0, 1.0, 1.0),
    network_ms=32.0,
    parity=(StageParity("class scores", 2e-6, 1e-4), StageParity("kernels", 0.0, 1e-4)),
    stages=(
        StageRow("network", "class_scores", 2e-6, 1e-4, False, "one.png", True),
        StageRow("instances", "recall at 0.5", 1.0, 1.0, True, "one.png", True),
        StageRow("instances", "score", 0.25, None, False, "(noise)", True),
    ),
    verdicts={"preprocess": True, "network": True},
    matched=90,
    expected=90,
    verdict="passed: 90 of 90 instances matched on 5 pictures",
    passed=True,
    provenance={"SHA-256": "a" * 64, "Calibration set": "none was needed"},
)
_INTEGER = replace(
    _FLOAT,
    name="a.int8.mlpackage",
    title="Core ML int8",
    engine="program interpreter",
    size_bytes=1_900_000,
    drop=Figure(0.72, 0.1, 1.4),
    network=None,
    frame=None,
    network_ms=None,
    parity=(StageParity("noise of kernels", float("inf"), 0.25),),
    stages=(StageRow("network", "noise_of_kernels", None, 0.25, False, "(all pictures)", False),),
    verdicts={"preprocess": True, "network": False},
    matched=70,
    verdict="failed: network noise of kernels",
    passed=False,
    worst=(Disagreement("p&q.png", (_panel(90), _panel(120), _panel(60)), 160, 120, 0.871, 3, 2, 1),),
    provenance={"SHA-256": "b" * 64, "Calibration set": "64 pictures"},
)
CONVERSION = ConversionReport(
    model="nano",
    baseline="nano.safetensors",
    baseline_ap=Figure(53.6, 48.0, 59.0),
    pictures=54,
    objects=2000,
    compared=20,
    max_drop=0.5,
    files=(_FLOAT, _INTEGER, replace(_FLOAT, name="c.int8.onnx", title="ONNX int8", network=Figure(0.25, 0.2, 0.3))),
    timing=Timing(
        "a<b>.fp32.onnx", "A processor, 2 of 2 cores, 2 threads", 40, ("The machine was not quiet: load 9.",)
    ),
    sensitivity=tuple(LayerCost(f"backbone.layer{i}", 0.4 - 0.1 * i, 20.0 + i, 12_000_000) for i in range(5)),
    notes=("A <note>.",),
    provenance={"Checkpoint": "nano.safetensors", "SHA-256 of the checkpoint": "c" * 64},
    commands=(("With these files", "solov2-edge report a.onnx"),),
)


@pytest.fixture(scope="session")
def conversion() -> ConversionReport:
    """A report with everything a page can show: a sound float file, an integer one that fails, and a fast one."""
    return CONVERSION
