"""The model that ships: what it is, and the AP the README states for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import sha256_of
from solov2_edge.runtime import load
from solov2_edge.runtime.evaluate import evaluate

STATED_AP = 53.6  # points of mask AP on the 54 validation pictures; benchmarks/accuracy.py prints it
DATA = Path(__file__).parent.parent / "data" / "nuclei_val"


def test_the_checkpoint_is_a_nano_for_nuclei_of_a_few_megabytes() -> None:
    files = bundle()
    model, checkpoint = load_model(files.checkpoint)
    assert model.spec.name == "nano"
    assert model.spec.class_names == ("nucleus",)
    assert "CC0" in checkpoint.licence
    assert files.checkpoint.stat().st_size < 5e6


def test_the_ready_artefact_was_made_from_the_checkpoint() -> None:
    files = bundle()
    with load(files.artefact) as segment:
        assert segment.manifest.source_sha256 == sha256_of(files.checkpoint)
        assert (segment.manifest.input.height, segment.manifest.input.width) == (448, 448)
        assert segment.manifest.precision == "fp32"


@pytest.mark.slow
def test_its_mask_ap_is_the_one_stated() -> None:
    with load(bundle().artefact) as segment:
        result = evaluate(segment, DATA / "instances.json", DATA / "images")
    assert result.pictures == 54
    assert result.ap == pytest.approx(STATED_AP, abs=0.15)


@pytest.mark.slow
def test_float16_costs_at_most_a_tenth_of_a_point(tmp_path: Path) -> None:
    model, _ = load_model(bundle().checkpoint)
    export_onnx(model, tmp_path / "half.onnx", height=448, width=448, precision="fp16")
    with load(tmp_path / "half.onnx") as segment:
        result = evaluate(segment, DATA / "instances.json", DATA / "images")
    assert abs(result.ap - STATED_AP) <= 0.1 + 0.15
