"""Mask AP of the bundled model as Core ML packages, on its validation pictures, by the program interpreter.

``benchmarks/coreml_precisions.py`` measures every precision; here are the ones whose accuracy is most at risk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.mil_interpreter import load
from solov2_edge.converters.to_coreml import export_coreml
from solov2_edge.runtime.evaluate import evaluate

pytestmark = pytest.mark.slow

FLOAT32_AP = 53.57  # of the bundled model at 448 x 448
DROPS = {"int4": 0.5, "w8a8": 0.5}  # points of AP


@pytest.mark.parametrize("precision", DROPS)
def test_accuracy(precision: str, checkout: Path, tmp_path: Path) -> None:
    files = bundle()
    model, _ = load_model(files.checkpoint)
    path = tmp_path / "nuclei.mlpackage"
    options: dict[str, Any] = {}
    if precision == "w8a8":
        options["calibration"] = read_calibration(files.checkpoint.with_name("calibration"), limit=32)
    export_coreml(model, path, height=448, width=448, precision=precision, **options)
    data = checkout / "tests" / "data" / "nuclei_val"
    with load(path) as segment:
        result = evaluate(segment, data / "instances.json", data / "images")
    assert result.pictures == 54
    assert result.ap >= FLOAT32_AP - DROPS[precision]
