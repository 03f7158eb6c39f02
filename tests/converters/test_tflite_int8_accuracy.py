"""The bundled model as a static int8 file: as accurate on the validation pictures as it was in float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.tflite_census import take_census
from solov2_edge.converters.to_tflite import export_tflite
from solov2_edge.runtime import load
from solov2_edge.runtime.evaluate import evaluate

ALLOWED_DROP = 0.5  # points of mask AP, the design's number


@pytest.mark.slow
def test_int8_keeps_mask_ap_within_half_a_point_of_float32(tmp_path: Path, checkout: Path) -> None:
    data = checkout / "tests" / "data" / "nuclei_val"
    calibration = read_calibration(checkout / "solov2_edge" / "assets" / "calibration")
    judged = {path.stem for path in (data / "images").iterdir()}
    assert not judged & {path.stem for path in calibration.pictures}
    files = bundle()
    model, checkpoint = load_model(files.checkpoint)
    path = tmp_path / "nano-nuclei.int8.tflite"
    manifest = export_tflite(
        model, path, height=448, width=448, precision="int8", calibration=calibration, source_sha256=checkpoint.sha256
    )
    assert manifest.calibration == calibration.to_manifest()
    census = take_census(path.read_bytes())
    assert census.int8 >= 0.8 * census.layers
    assert path.stat().st_size < 0.35 * files.artefact.stat().st_size
    with load(files.artefact) as floating, load(path) as integer:
        results = [evaluate(segment, data / "instances.json", data / "images") for segment in (floating, integer)]
    exact, reduced = (result.ap for result in results)
    assert exact == pytest.approx(53.6, abs=0.1)
    assert reduced >= exact - ALLOWED_DROP
