"""Inspecting any file: facts, or one sentence; never a traceback."""

import argparse
import json
from dataclasses import replace

import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from solov2_edge import command_inspect
from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.cli import main
from solov2_edge.console import Console
from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY, InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.variants import VARIANTS


def run(capsys, path, *words):
    parser = argparse.ArgumentParser()
    command_inspect.add_arguments(parser)
    result = command_inspect.run(parser.parse_args([str(path), *words]), Console())
    json.dumps(result.data)
    return result.data, capsys.readouterr().out


@pytest.fixture
def checkpoint(tmp_path, tiny_dcn_spec, fresh_state):
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, tiny_dcn_spec, fresh_state(tiny_dcn_spec), dtype="float16", licence="CC0-1.0")
    return path


@pytest.fixture
def artefact(tmp_path):
    """An ONNX file with a manifest inside."""
    spec = replace(VARIANTS["light-448-r18"], class_names=("cell",))
    manifest = Manifest(spec, "onnx", "fp32", InputContract("image", 448, 768), weights_licence="CC0-1.0")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["t"]), helper.make_node("Relu", ["t"], ["u"])]
    nodes.append(helper.make_node("Neg", ["u"], ["y"]))
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]), producer_name="test")
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    path = tmp_path / "model.bin"  # the name plays no part
    onnx.save(model, str(path))
    return path


def test_a_checkpoint(capsys, checkpoint, tiny_dcn_spec):
    data, out = run(capsys, checkpoint)
    assert (data["kind"], data["family"], data["variant"]) == ("checkpoint", "solov2-edge", "custom")
    assert (data["classes"], data["dcn"], data["dtype"], data["licence"]) == (1, "v1", "float16", "CC0-1.0")
    assert data["resize_box"] == [512, 852]
    assert data["sha256"] == sha256_of(checkpoint)
    assert data["size_bytes"] == checkpoint.stat().st_size
    assert "512 x 852 (short x long)" in out
    assert data["sha256"] in out


def test_parameters_are_those_one_learns(capsys, tmp_path):
    spec = VARIANTS["light-448-r18"]
    from solov2_edge.checkpoint import expected_shapes

    state = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in expected_shapes(spec).items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    data, out = run(capsys, tmp_path / "w.pth")
    assert data["parameters"] == 18_271_760
    assert "18,271,760" in out
    assert data["variant"] == "light-448-r18"
    with pytest.raises(InputError, match="not those of nano"):
        run(capsys, tmp_path / "w.pth", "--variant", "nano")


def test_an_artefact(capsys, artefact):
    data, out = run(capsys, artefact)
    assert (data["kind"], data["variant"], data["precision"]) == ("ONNX artefact", "light-448-r18", "fp32")
    assert data["input"] == "image 'image' 448x768 (H x W)"
    assert data["ops"] == {"Relu": 2, "Neg": 1}
    assert data["class_names"] == ["cell"]
    assert "Relu 2, Neg 1" in out


def test_without_onnx_the_manifest_beside_it_is_shown(capsys, artefact, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    data, _ = run(capsys, artefact)
    assert data["kind"] == "ONNX model"
    assert "solov2-edge[convert]" in data["note"]
    embedded = Manifest(VARIANTS["nano"], "onnx", "fp16", InputContract("tensor", 32, 64))
    beside = replace(embedded, sha256=sha256_of(artefact), size_bytes=artefact.stat().st_size)
    manifest_path(artefact).write_text(beside.to_json())
    data, _ = run(capsys, artefact)
    assert (data["kind"], data["variant"], data["precision"]) == ("ONNX artefact", "nano", "fp16")


def test_a_manifest_of_another_file_is_refused(capsys, artefact):
    other = Manifest(VARIANTS["nano"], "onnx", "fp32", InputContract("tensor", 32, 64), sha256="0" * 64)
    manifest_path(artefact).write_text(other.to_json())
    with pytest.raises(InputError, match="SHA-256"):
        run(capsys, artefact)


def test_someone_elses_onnx(capsys, tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", value[:1], value[1:]))
    onnx.save(model, str(tmp_path / "m.onnx"))
    data, _ = run(capsys, tmp_path / "m.onnx")
    assert data["kind"] == "ONNX model"
    assert "not made by solov2-edge" in data["manifest"]
    assert data["ops"] == {"Abs": 1}


def test_a_truncated_artefact(capsys, artefact):
    artefact.write_bytes(artefact.read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated or damaged"):
        run(capsys, artefact)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b"hello\n" * 9, "a text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG picture"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "the file is truncated or damaged"),
    ],
)
def test_other_files(capsys, tmp_path, data, text):
    (tmp_path / "x.pth").write_bytes(data)
    assert main(["inspect", str(tmp_path / "x.pth")]) == 2
    assert text in capsys.readouterr().err


SIGNATURES = st.sampled_from(
    [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x08\x08\x12", b"\x08\x07\x3a", b"\x10\0\0\0\0\0\0\0{", b"<"]
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIGNATURES, st.binary(max_size=300))
def test_any_bytes_end_in_one_sentence(tmp_path, capsys, head, tail):
    path = tmp_path / "any"
    path.write_bytes(head + tail)
    code = main(["inspect", str(path)])
    err = capsys.readouterr().err
    assert code in (0, 2)
    assert code == 0 or (err.count("\n") == 1 and "bug" not in err)


def test_what_stayed_float_is_said_in_lines_of_its_own(capsys, tmp_path):
    record = {
        "kept_float": ["neck.fpn_convs.0"],
        "kept_share": 0.1,
        "max_drop": 0.5,
        "drop": 0.2,
        "drop_interval": None,
    }
    record |= {"drop_all_int8": 1.0, "pictures": {"count": 96}, "tried": 3, "milliseconds": None}
    manifest = Manifest(VARIANTS["nano"], "onnx", "int8", InputContract("image", 64, 64), quantisation=record)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:]))
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, str(tmp_path / "mixed.onnx"))
    data, out = run(capsys, tmp_path / "mixed.onnx")
    assert data["quantisation"] == record
    lines = [line for line in out.splitlines() if line.startswith("quantisation")]
    assert lines == [
        "quantisation     kept float: neck.fpn_convs.0, 10.0 % of the multiplications",
        "quantisation     drop 0.20 points of AP, 0.5 allowed, all int8 1.00; on 96 validation pictures, 3 files tried",
    ]
