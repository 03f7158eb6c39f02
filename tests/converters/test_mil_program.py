"""What the interpreter refuses: programs it does not know, contradictions, and damaged files; always one sentence."""

import json
import shutil

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb

from solov2_edge.converters.mil_execute import execute
from solov2_edge.converters.mil_package import read_package
from solov2_edge.converters.mil_program import read_program
from solov2_edge.errors import InputError

X = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)


def build(x):
    made = mb.conv(x=x, weight=WEIGHT, pad_type="custom", pad=[1, 1, 1, 1], name="made")
    return mb.reshape(x=mb.relu(x=made, name="positive"), shape=[4, 64], name="result")


def read(path):
    package = read_package(path)
    return read_program(package.model, package.folder)


def run(path):
    return execute(read(path), {"x": torch.from_numpy(X)})["result"].numpy()


@pytest.fixture
def package(interpret, edit):
    return edit(interpret.save(build, X))


def refused(package, message):
    package.save()
    with pytest.raises(InputError, match=message):
        run(package.path)


def test_the_untouched_program_runs(package):
    expected = torch.conv2d(torch.from_numpy(X), torch.from_numpy(WEIGHT), padding=1).relu().reshape(4, 64)
    np.testing.assert_allclose(run(package.path), expected, atol=1e-5)


def test_ops_that_are_not_supported_are_named_before_anything_runs(package):
    package.op("relu").type = "cos"
    package.save()
    with pytest.raises(InputError, match=r"^the program uses op 'cos', not supported by the interpreter$"):
        read(package.path)
    package.op("conv").type = "conv_transpose"
    refused(package, "uses ops 'conv_transpose', 'cos', not supported")


def test_what_the_reference_does_not_define_or_the_interpreter_lacks(interpret):
    with pytest.raises(InputError, match=r"concat 'concat_0' interleaves"):
        interpret(lambda x: mb.concat(values=[x, x], axis=1, interleave=True), X)
    with pytest.raises(InputError, match="aligns corners and pixel centres"):
        interpret(lambda x: mb.upsample_bilinear(x=x, align_corners=True, half_pixel_centers=True), X)


def test_result_of_another_shape_or_kind_than_declared(package):
    package.op("relu").outputs[0].type.tensorType.dimensions[3].constant.size = 9
    refused(
        package, r"relu 'positive' gives fp32\[1, 4, 8, 8\] for 'positive', the program declares fp32\[1, 4, 8, 9\]"
    )
    package.op("relu").outputs[0].type.tensorType.dimensions[3].constant.size = 8
    package.op("relu").outputs[0].type.tensorType.dataType = 10
    refused(package, r"gives fp32\[1, 4, 8, 8\] for 'positive', the program declares fp16\[1, 4, 8, 8\]")


def test_inputs_of_an_op(package):
    relu = package.op("relu")
    relu.inputs["slope"].CopyFrom(relu.inputs["x"])
    refused(package, "has inputs the interpreter does not know: slope")
    del relu.inputs["slope"]
    relu.inputs["x"].arguments[0].name = "nobody"
    refused(package, "uses 'nobody' before it is defined")
    del relu.inputs["x"]
    refused(package, "lacks its input 'x'")


def test_shapes_that_do_not_fit_end_in_a_sentence(package):
    package.replace(package.op("conv"), "dilations", lambda old: [9, 9])
    refused(package, r"conv 'made' cannot be computed: .*; convert again$")
    package.replace(package.op("conv"), "dilations", lambda old: [1, 1])
    package.replace(package.op("conv"), "strides", lambda old: [0, 1])
    refused(package, r"conv 'made' cannot be computed: .*; convert again$")


def test_structure(package):
    block = package.block
    block.outputs[:] = ["elsewhere"]
    refused(package, "never defines its outputs")
    block.outputs[:] = ["result"]
    block.operations.add().CopyFrom(package.op("relu"))
    refused(package, "defines 'positive' a second time")
    del block.operations[-1]
    package.op("relu").blocks.add()
    refused(package, "holds other ops")
    del package.op("relu").blocks[:]
    dimension = package.op("relu").outputs[0].type.tensorType.dimensions[0]
    dimension.unknown.variadic = False
    refused(package, "not fixed")
    dimension.constant.size = 1 << 40
    refused(package, "more than any network")
    dimension.constant.size = 1
    function = package.model.mlProgram.functions["main"]
    function.opset = "CoreML99"
    refused(package, "no block for its opset 'CoreML99'")
    package.model.mlProgram.functions["other"].CopyFrom(function)
    refused(package, r"functions \['main', 'other'\]")


def test_feeds(package):
    program = read(package.path)
    with pytest.raises(InputError, match=r"takes inputs \['x'\], got \['y'\]"):
        execute(program, {"y": torch.from_numpy(X)})
    with pytest.raises(InputError, match="got shape"):
        execute(program, {"x": torch.from_numpy(X[0])})


def test_observer_sees_every_result_and_values_are_forgotten(package):
    program = read(package.path)
    seen = {}
    execute(program, {"x": torch.from_numpy(X)}, lambda name, value: seen.setdefault(name, value.shape))
    assert {name: tuple(shape) for name, shape in seen.items()} == {
        "x": (1, 4, 8, 8), "made": (1, 4, 8, 8), "positive": (1, 4, 8, 8), "result": (4, 64)
    }  # fmt: skip
    assert [operation.last_uses for operation in program.operations] == [("x",), ("made",), ("positive",)]


# The weight file


def test_truncated_anywhere(package):
    whole = package.weights.read_bytes()
    assert len(whole) > WEIGHT.nbytes
    for size in {0, 1, 63, 64, 100, 127, 128, 129, len(whole) // 2, len(whole) - 1} - {len(whole)}:
        package.weights.write_bytes(whole[:size])
        refused(package, "weight")
    package.weights.unlink()
    refused(package, "cannot be read")


def test_metadata_that_lies(package):
    whole, conv = package.weights.read_bytes(), package.op("conv")
    start = package.metadata(conv, "weight")
    for place, message in ((0, "something else"), (4, "something else"), (8, "are stored"), (16, "needs bytes")):
        damaged = bytearray(whole)
        damaged[start + place + 2] ^= 0x10
        package.weights.write_bytes(damaged)
        refused(package, message)
    damaged = bytearray(whole)
    damaged[4] = 1
    package.weights.write_bytes(damaged)
    refused(package, "has version 1, expected 2")
    package.weights.write_bytes(whole)
    value = package.value(conv, "weight")
    for offset in (0, start + 64, start + 1, 1 << 40, len(whole)):
        value.blobFileValue.offset = offset
        refused(package, "damaged|something else")


def test_weights_outside_the_package(package):
    value = package.value(package.op("conv"), "weight")
    for name in (
        "@model_path/../../../weights.bin",
        "/etc/hostname",
        "weights/weight.bin",
        "@model_path//etc/hostname",
    ):
        value.blobFileValue.fileName = name
        refused(package, "outside the package")


def test_immediate_constants(package):
    value = package.value(package.op("conv"), "pad")
    value.immediateValue.tensor.ints.values.append(1)
    refused(package, "declared int32")
    del value.immediateValue.tensor.ints.values[:]
    value.immediateValue.tensor.floats.values.append(1)
    refused(package, "stored as floats")
    value.type.tensorType.dataType = 12
    refused(package, "element type 12")
    value.type.tensorType.dataType = 23
    value.type.tensorType.rank = 7
    refused(package, "declares rank 7")
    value.ClearField("immediateValue")
    refused(package, "rank 7|neither")


# The folder


def test_folder(package, tmp_path):
    def refuse(path, message):
        with pytest.raises(InputError, match=message):
            read_package(path)

    refuse(tmp_path / "none.mlpackage", "does not exist")
    (tmp_path / "file.mlpackage").write_bytes(b"PK")
    refuse(tmp_path / "file.mlpackage", "is a file")
    (tmp_path / "empty.mlpackage").mkdir()
    refuse(tmp_path / "empty.mlpackage", r"Manifest\.json cannot be read")
    copied = tmp_path / "copy.mlpackage"
    shutil.copytree(package.path, copied)
    for text in ("{", "[]", "{}", '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}'):
        (copied / "Manifest.json").write_text(text)
        refuse(copied, "names no model")
    item = {"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../x"}}}
    (copied / "Manifest.json").write_text(json.dumps(item))
    refuse(copied, "points outside")
    item["itemInfoEntries"]["a"]["path"] = "m"
    (copied / "Manifest.json").write_text(json.dumps(item))
    refuse(copied, "cannot be read")
    for data in (b"\xff" * 100, package.model.SerializeToString()[:-5]):
        (copied / "Data" / "m").write_bytes(data)
        refuse(copied, "damaged")
    (copied / "Data" / "m").write_bytes(b"")
    refuse(copied, "holds no model")
    package.model.ClearField("mlProgram")
    package.model.neuralNetwork.SetInParent()
    (copied / "Data" / "m").write_bytes(package.model.SerializeToString())
    refuse(copied, "holds neuralNetwork")


def test_the_specification_may_be_damaged_at_any_byte(package):
    """Each flip ends in a run, or in a sentence; never in another exception."""
    file = package.path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    whole, rng, verdicts = file.read_bytes(), np.random.default_rng(0), {"ran": 0, "refused": 0}
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            program = read(package.path)
            execute(
                program, {name: torch.zeros(()).expand(declared.shape) for name, declared in program.inputs.items()}
            )
            verdicts["ran"] += 1
        except InputError:
            verdicts["refused"] += 1
    assert min(verdicts.values()) > 40, verdicts
