"""Kinds of artefacts; kinds of checkpoints, and of what is neither, are tested with the checkpoints."""

import pytest

from solov2_edge.errors import InputError
from solov2_edge.file_kind import file_kind


def test_a_tflite_model_by_its_identifier(tmp_path):
    path = tmp_path / "model.onnx"  # the name plays no part
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    assert file_kind(path).kind == "tflite"
    path.write_bytes(b"\x1c\0\0\0TFL2" + bytes(100))
    assert file_kind(path).kind == "other"


def test_a_core_ml_package_by_its_parts(tmp_path):
    package = tmp_path / "model"
    (package / "Data" / "com.apple.CoreML").mkdir(parents=True)
    with pytest.raises(
        InputError, match="is a directory; give the file inside it, or a whole Core ML package or ncnn artefact"
    ):
        file_kind(package)
    (package / "Manifest.json").write_text("{}")
    assert file_kind(package).kind == "coreml"
    assert file_kind(package).text == "a Core ML package"


def test_an_ncnn_artefact_by_its_two_networks(tmp_path):
    (tmp_path / "trunk.param").write_text("7767517")
    with pytest.raises(InputError, match="is a directory"):
        file_kind(tmp_path)
    (tmp_path / "head.param").write_text("7767517")
    assert (file_kind(tmp_path).kind, file_kind(tmp_path).text) == ("ncnn", "an ncnn artefact")
