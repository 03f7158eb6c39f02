"""A head of 1203 classes goes through conversion like any other."""

from dataclasses import replace

import numpy as np

from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.reference import reference_from_model
from solov2_edge.runtime import load


def test_1203_classes_in_onnx(specs, make_model, frame, tmp_path):
    model = make_model(replace(specs["plain"], class_names=tuple(f"thing {number}" for number in range(1203))))
    path = tmp_path / "many.onnx"
    assert export_onnx(model, path, height=64, width=96).spec.num_classes == 1203
    expected = reference_from_model(model, input_size=(64, 96)).raw(frame)
    with load(path, max_instances=300) as segment:
        raw = segment.raw(frame)
        assert raw.class_scores.shape == (model.spec.num_cells, 1203)
        np.testing.assert_allclose(raw.class_scores, expected.class_scores, atol=1e-4)
        assert len(segment(frame)) > 50
