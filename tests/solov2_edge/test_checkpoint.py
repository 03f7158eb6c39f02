"""Files in, weights out; and one sentence for everything that is no checkpoint."""

import argparse
import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from solov2_edge.checkpoint import expected_shapes, load_model, read_checkpoint, save_checkpoint
from solov2_edge.errors import InputError
from solov2_edge.model import SOLOv2
from solov2_edge.variants import VARIANTS

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def weights(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def same(got, expected):
    assert got.keys() == expected.keys()
    assert all(tensor.dtype == torch.float32 for tensor in got.values())
    assert all(torch.equal(tensor, expected[name].float()) for name, tensor in got.items())
    return True


def authors_name(name):
    for new, old in (
        ("mask_head.cls_convs.", "bbox_head.cate_convs."),
        ("mask_head.kernel_convs.", "bbox_head.kernel_convs."),
        ("mask_head.conv_cls.", "bbox_head.solo_cate."),
        ("mask_head.conv_kernel.", "bbox_head.solo_kernel."),
        ("mask_head.mask_feature_head.conv_pred.", "mask_feat_head.conv_pred.0."),
        ("mask_head.mask_feature_head.", "mask_feat_head."),
    ):
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


@pytest.fixture
def state(tiny_spec, fresh_state):
    return fresh_state(tiny_spec)


@FORMATS
@pytest.mark.parametrize("key", ["state_dict", "model", "ema_state_dict", None])
def test_wrappers(tmp_path, tiny_spec, state, zipped, key):
    path = tmp_path / "w.pth"
    torch.save(state if key is None else {key: state}, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert checkpoint.spec == tiny_spec
    assert same(checkpoint.state, weights(state))


@FORMATS
def test_the_authors_names_in_a_whole_training_checkpoint(tmp_path, tiny_spec, state, zipped):
    names = ("red_cell", "white_cell", "platelet")
    saved = {
        "meta": {"CLASSES": names, "epoch": 36, "iter": np.int64(9), "args": argparse.Namespace(seed=1)},
        "state_dict": OrderedDict((f"module.{authors_name(name)}", tensor) for name, tensor in state.items()),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
    }
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert checkpoint.spec == replace(tiny_spec, class_names=names)
    assert checkpoint.family == "authors"
    assert checkpoint.meta == {"weights": "state_dict", "epoch": 36, "iter": 9, "dtype": "float32"}
    assert "academic use" in checkpoint.licence
    assert same(checkpoint.state, weights(state))


def test_pickled_numpy_arrays(tmp_path, state):
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for protocol in range(6):
        path = tmp_path / f"w{protocol}.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol=protocol))
        if protocol < 2:  # no signature: told apart from text only by protocol 2's first byte
            with pytest.raises(InputError, match="looks like"):
                read_checkpoint(path)
        else:
            assert same(read_checkpoint(path).state, weights(state))


def test_averaged_weights_are_preferred(tmp_path, state):
    raw = {name: tensor + 1 for name, tensor in state.items()}
    module = {f"module.{name}": tensor for name, tensor in state.items()}
    # mmengine has swapped the averages into state_dict; its raw copy carries a step counter.
    mmengine = {
        "state_dict": state,
        "ema_state_dict": {"steps": torch.tensor(5)} | {f"module.{k}": raw[k] for k in raw},
    }
    other = {"state_dict": raw, "ema_state_dict": module}
    for index, saved in enumerate((mmengine, other)):
        torch.save(saved, tmp_path / f"{index}.pth")
        checkpoint = read_checkpoint(tmp_path / f"{index}.pth")
        assert same(checkpoint.state, weights(state))
        assert "averaged" in checkpoint.meta["weights"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, state, dtype):
    narrow = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"state_dict": narrow}, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert same(checkpoint.state, weights(narrow))
    assert checkpoint.meta["dtype"] == str(dtype).removeprefix("torch.")


def test_views_parameters_and_missing_counters(tmp_path, tiny_spec, state):
    odd = dict(weights(state))
    name = "neck.fpn_convs.0.conv.weight"
    odd[name] = torch.nn.Parameter(state[name].transpose(2, 3).contiguous().transpose(2, 3))
    stacked = torch.stack([torch.zeros(8), state["backbone.bn1.weight"]])
    odd["backbone.bn1.weight"] = stacked[1]  # shares a larger storage, at an offset
    torch.save({"state_dict": odd}, tmp_path / "w.pth")
    model, checkpoint = load_model(tmp_path / "w.pth")
    assert same(checkpoint.state, weights(state))
    assert not model.training
    assert model.backbone.bn1.num_batches_tracked.item() == 0
    assert model.spec == tiny_spec


def test_old_offset_names(tmp_path, tiny_dcn_spec, fresh_state):
    state = fresh_state(tiny_dcn_spec)
    old = {re.sub(r"(conv\d?)\.conv_offset\.", r"\1_offset.", name): tensor for name, tensor in state.items()}
    torch.save({"state_dict": old, "meta": {"CLASSES": ("class_0",)}}, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert checkpoint.spec == tiny_dcn_spec
    assert same(checkpoint.state, weights(state))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_our_own_file_comes_back(tmp_path, tiny_spec, state, dtype):
    spec = replace(tiny_spec, name="mine", norm_groups=8, class_names=("a", "b", "c"), resize_box=(320, 640))
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, spec, state, dtype=dtype, licence="CC0-1.0", metadata={"trained_on": "cells"})
    model, checkpoint = load_model(path)
    assert (checkpoint.spec, model.spec) == (spec, spec)
    assert (checkpoint.family, checkpoint.licence) == ("solov2-edge", "CC0-1.0")
    assert checkpoint.meta == {"weights": "safetensors", "metadata": {"trained_on": "cells"}, "dtype": dtype}
    for name, tensor in weights(state).items():
        kept = tensor if dtype == "float32" or "running" in name else tensor.half().float()
        assert torch.equal(checkpoint.state[name], kept), name
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_running_statistics_stay_float32_and_counters_go(tmp_path, tiny_spec, state):
    save_checkpoint(tmp_path / "w.safetensors", tiny_spec, state, dtype="float16")
    stored = load_file(tmp_path / "w.safetensors")
    assert {t.dtype for name, t in stored.items() if "running" in name} == {torch.float32}
    assert {t.dtype for name, t in stored.items() if "running" not in name} == {torch.float16}
    assert not any("num_batches_tracked" in name for name in stored)


def test_foreign_safetensors_are_recognised(tmp_path, tiny_spec, state):
    save_file({authors_name(name): tensor for name, tensor in state.items()}, tmp_path / "w.safetensors")
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert (checkpoint.spec, checkpoint.family) == (tiny_spec, "authors")
    assert same(checkpoint.state, weights(state))


def test_class_names_can_be_given(tmp_path, tiny_spec, state):
    save_checkpoint(tmp_path / "own.safetensors", tiny_spec, state)
    torch.save({"state_dict": state, "meta": {"CLASSES": ("a", "b")}}, tmp_path / "two.pth")
    with pytest.raises(InputError, match=r"3 outputs \(one more: a background class\? .* names 2 classes"):
        read_checkpoint(tmp_path / "two.pth")
    for name in ("own.safetensors", "two.pth"):
        assert read_checkpoint(tmp_path / name, class_names=("x", "y", "z")).spec.class_names == ("x", "y", "z")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "int8"}, "dtype must be"),
        ({"metadata": {"licence": "x"}}, "are taken"),
        ({"change": {"backbone.bn1.weight": torch.full((8,), 1e6)}, "dtype": "float16"}, "as float16 has 8 values"),
        ({"change": {"backbone.bn1.weight": torch.zeros(3)}}, r"1 mis-shaped \(backbone.bn1.weight"),
        ({"change": {"x.y": torch.zeros(3)}}, r"1 extra \(x.y\)"),
    ],
)
def test_saving_refuses_and_leaves_the_old_file(tmp_path, tiny_spec, state, options, text):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    change = options.pop("change", {})
    with pytest.raises(InputError, match=text):
        save_checkpoint(path, tiny_spec, {**state, **change}, **options)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_adelaidet_files_of_torchvision_style_are_refused(tmp_path):
    """DenseCL's files: the same tensors as AdelaiDet's, trained with RGB input."""
    names = {"ins_head.cate_pred.weight": torch.zeros(80, 512, 3, 3), "pixel_mean": torch.tensor([123.675, 116.28, 0])}
    torch.save({"model": names}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not trained in Caffe style"):
        read_checkpoint(tmp_path / "w.pth")


def test_adelaidet_file_with_numpy_arrays(tmp_path, tiny_dcn_spec, fresh_state, adelaidet_name):
    backbone = replace(tiny_dcn_spec.backbone, style="caffe", dcn="none")
    spec = replace(VARIANTS["adelaidet-r50"], name="custom", class_names=("class_0",), backbone=backbone)
    spec = replace(spec, pyramid_width=8, tower_width=32, mask_width=32, mask_channels=32)
    state = weights(fresh_state(spec))
    arrays = {adelaidet_name(name): tensor.numpy() for name, tensor in state.items()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol=4))
    checkpoint = read_checkpoint(tmp_path / "w.pkl")
    assert checkpoint.spec == spec
    assert (checkpoint.spec.channel_order, checkpoint.spec.backbone.style) == ("bgr", "caffe")
    assert (checkpoint.family, checkpoint.meta["weights"]) == ("adelaidet", "model")
    assert "AdelaiDet" in checkpoint.licence
    assert same(checkpoint.state, state)


# Files that are no usable checkpoint.


def other_files(state):
    """Name -> (bytes, what the message says)."""
    zipped = io.BytesIO()
    torch.save({"state_dict": state}, zipped)
    legacy = io.BytesIO()
    torch.save({"state_dict": state}, legacy, _use_new_zipfile_serialization=False)
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("readme.txt", "hello")
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
    squeezed = io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}." + bytes(1 << 20))
    numpy_file = io.BytesIO()
    np.savez(numpy_file, a=np.zeros(3))
    damaged = bytearray(zipped.getvalue())
    damaged[len(damaged) // 2] ^= 0xFF
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return {
        "empty": (b"", "is empty"),
        "text": (b"hello, this is a text\n" * 20, "a text file"),
        "json": (b'{"a": 1}', "a JSON text"),
        "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        "onnx": (b"\x08\x08\x12\x07pytorch:\x00", "an ONNX model"),
        "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(64), "a TFLite model"),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG picture"),
        "noise": (bytes(range(128, 256)) * 4, "unknown kind of binary file"),
        "gzip": (b"\x1f\x8b" + bytes(64), "unpack it first"),
        "zip": (plain.getvalue(), "without a PyTorch checkpoint"),
        "npz": (numpy_file.getvalue(), "numpy .npz archive"),
        "torchscript": (script.getvalue(), "TorchScript"),
        "compressed zip": (squeezed.getvalue(), "compressed or larger"),
        "truncated zip": (zipped.getvalue()[:-5000], "truncated or damaged zip"),
        "damaged zip": (bytes(damaged), "damaged"),
        "truncated legacy": (legacy.getvalue()[:-5000], "truncated"),
        "truncated pickle": (legacy.getvalue()[:900], "truncated"),
        "truncated safetensors": (struct.pack("<Q", len(header)) + header + bytes(3), "safetensors"),
        "safetensors header": (struct.pack("<Q", 5000) + header, "safetensors"),
        "paddle": (
            pickle.dumps({"backbone.conv1.conv1_1.norm._mean": np.zeros(3, "f4"), "StructuredToParameterName@@": {}}),
            "PaddleDetection",
        ),
        "number": (pickle.dumps(3), "not a dictionary of weights"),
        "no weights": (pickle.dumps({"a": 1, "b": 2}), "no tensors, only a, b"),
        "empty dict": (pickle.dumps({}), "an empty dictionary"),
        "another network": (
            pickle.dumps({"model.0.conv.weight": np.zeros((1, 1, 1, 1), "f4")}),
            "a YOLO model",
        ),
    }


NAMES = (
    *("empty", "text", "json", "html", "lfs", "onnx", "tflite", "hdf5", "png", "noise", "gzip", "zip", "npz"),
    *("torchscript", "compressed zip", "truncated zip", "damaged zip", "truncated legacy", "truncated pickle"),
    *("truncated safetensors", "safetensors header", "paddle", "number", "no weights", "empty dict"),
    "another network",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_other_file_gets_one_sentence(tmp_path, state, name):
    data, text = other_files(state)[name]
    path = tmp_path / "file.pth"
    path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_table_of_other_files_is_complete(state):
    assert set(NAMES) == set(other_files(state))


def test_places_that_are_no_files(tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="no file at"):
        read_checkpoint(tmp_path / "nothing.pth")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="device or a pipe"):
        read_checkpoint(tmp_path / "pipe")


@FORMATS
def test_every_truncation_is_one_sentence(tmp_path, state, zipped):
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, buffer, _use_new_zipfile_serialization=zipped)
    data = buffer.getvalue()
    for length in [*range(1, 400, 37), *range(400, len(data), len(data) // 8)]:
        (tmp_path / "w.pth").write_bytes(data[:length])
        with pytest.raises(InputError):
            read_checkpoint(tmp_path / "w.pth")


def test_missing_extra_and_misshapen_tensors_are_named(tmp_path, state):
    changed = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.layer4.0.bn1.")}
    changed["mask_head.conv_cls.scale"] = torch.zeros(1)
    changed["neck.fpn_convs.1.conv.bias"] = torch.zeros(5)
    torch.save({"state_dict": changed}, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        read_checkpoint(tmp_path / "w.pth")
    message = str(caught.value)
    assert "it looks like custom (mmdetection naming)" in message
    assert "4 missing (backbone.layer4.0.bn1.weight" in message
    assert "1 extra (mask_head.conv_cls.scale)" in message
    assert "1 mis-shaped (neck.fpn_convs.1.conv.bias is (5,), expected (8,))" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, state, value):
    state["neck.fpn_convs.1.conv.bias"][2] = value
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"neck\.fpn_convs\.1\.conv\.bias has 1 values that are not finite"):
        read_checkpoint(tmp_path / "w.pth")


def rewritten(data, old, new):
    """Replace bytes inside a torch zip's data.pkl, keeping everything else."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith("data.pkl"):
                assert content.count(old) == 1
                content = content.replace(old, new)
            target.writestr(info.filename, content)
    return result.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        # K\x05\x85 is the shape (5,); J is a four-byte and \x8a\x05 a five-byte integer.
        (b"K\x05\x85", b"J\xff\xff\xff\x7f\x85", "more than the file's"),
        (b"K\x05\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85", "more than the file's"),
        (b"K\x05\x85", b"K\x06\x85", "reaches beyond its storage"),
        (b"K\x05\x85", b"J\xff\xff\xff\xff\x85", "more than the file's"),
        (b"FloatStorage", b"QInt8Storage", "QInt8Storage"),
    ],
)
def test_sizes_are_checked_before_anything_is_allocated(tmp_path, old, new, text):
    buffer = io.BytesIO()
    torch.save({"a.b": torch.arange(5.0)}, buffer)
    (tmp_path / "w.pth").write_bytes(rewritten(buffer.getvalue(), old, new))
    with pytest.raises(InputError, match=text):
        read_checkpoint(tmp_path / "w.pth")


def test_expected_shapes_are_those_of_the_network(tiny_spec):
    real = SOLOv2(tiny_spec).state_dict()
    assert expected_shapes(tiny_spec) == {name: tuple(tensor.shape) for name, tensor in weights(real).items()}


def test_the_spec_travels_as_json(tmp_path, tiny_spec, state):
    save_checkpoint(tmp_path / "w.safetensors", tiny_spec, state)
    with safe_open(tmp_path / "w.safetensors", framework="pt") as archive:
        metadata = archive.metadata()
    assert json.loads(metadata["solov2_edge.spec"])["pyramid_width"] == 8
    tensors = load_file(tmp_path / "w.safetensors")
    save_file(tensors, tmp_path / "bad.safetensors", {**metadata, "solov2_edge.spec": "{"})
    with pytest.raises(InputError, match="spec in its metadata"):
        read_checkpoint(tmp_path / "bad.safetensors")
