"""The Core ML package of each golden case against PyTorch, on the golden picture: raw outputs, then instances.

The saved package is executed by the program interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solov2_edge.checkpoint import load_model
from solov2_edge.converters.matching import match
from solov2_edge.converters.mil_session import MilSession
from solov2_edge.converters.parity import bound_of, differences, rounding_noise
from solov2_edge.converters.to_coreml import export_coreml
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.preprocess import preprocess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def session(reference: Any, golden: Any, golden_checkpoint: Path) -> Iterator[MilSession]:
    """The case converted at the golden picture's own input size."""
    geometry = reference.geometry(*golden.frame.shape[:2])
    path = golden_checkpoint.with_suffix(".mlpackage")
    model, checkpoint = load_model(golden_checkpoint)
    export_coreml(
        model,
        path,
        height=geometry.input_height,
        width=geometry.input_width,
        input_kind="tensor",
        source_sha256=checkpoint.sha256,
    )
    with MilSession(path) as session:
        yield session


@pytest.fixture(scope="module")
def outputs(session: MilSession, reference: Any, golden: Any) -> dict[str, Any]:
    """What both say of the golden picture."""
    geometry = reference.geometry(*golden.frame.shape[:2])
    batch = preprocess(golden.frame, geometry, "tensor", reference.spec)
    return {"geometry": geometry, "batch": batch, "coreml": session.run(batch), "torch": reference.run_batch(batch)}


def test_raw_outputs(outputs: dict[str, Any], reference: Any) -> None:
    bound = bound_of("fp32")
    if reference.spec.dcn != "none":
        # Random offsets: no other program can be nearer to PyTorch than PyTorch is to itself; see test_golden_onnx.py.
        noise = rounding_noise(reference.model, outputs["batch"], "tensor", outputs["torch"], "fp32")
        bound = max(bound, 2 * noise)
    assert max(differences(outputs["coreml"], outputs["torch"]).values()) <= bound


def test_instances(outputs: dict[str, Any], reference: Any) -> None:
    found, expected = (
        decode(outputs[engine], outputs["geometry"], reference.spec, reference.options)
        for engine in ("coreml", "torch")
    )
    good = sum(iou >= 0.9 for iou in match(expected, found).ious)
    if reference.spec.dcn == "none":
        assert len(found) == len(expected) == good
        np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-4)
    else:  # of instances whose score is within the network's own noise of a threshold, some come and go
        assert good >= 0.95 * max(len(found), len(expected))
