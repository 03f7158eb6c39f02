"""What an exported file says of the engine it is for, which the runtime's TensorRT options rest on."""

import cv2
import pytest

from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.probes import drawn_frame
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.onnx_file import read_manifest_text
from solov2_edge.runtime.ort_tensorrt import runs_in_tensorrt


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    frame = drawn_frame(160, 224)
    for number in range(32):
        y, x = 3 * number, 4 * number
        cv2.imwrite(str(folder / f"{number:02}.png"), frame[y : y + 64, x : x + 96])
    return read_calibration(folder)


@pytest.mark.parametrize(
    ("target", "kept", "record"),
    [
        ("tensorrt", (), {"target": "tensorrt"}),
        ("cpu", ("mask_head.conv_cls",), {"kept_float": ["mask_head.conv_cls"]}),
    ],
)
def test_only_the_file_for_tensorrt_says_so(plain, calibration, tmp_path, target, kept, record):
    path = tmp_path / "small.onnx"
    options = {"precision": "int8", "calibration": calibration, "target": target, "keep_float": frozenset(kept)}
    manifest = export_onnx(plain.model, path, height=64, width=96, **options)
    assert manifest.quantisation == record
    inside = Manifest.from_json(read_manifest_text(path))
    assert inside.quantisation == record
    assert runs_in_tensorrt(inside) == (target == "tensorrt")


def test_the_float_file_runs_in_both(plain):
    assert plain.manifest.quantisation is None
    assert runs_in_tensorrt(plain.manifest)
