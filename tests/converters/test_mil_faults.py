"""The proof that the proof can fail: faults are planted in saved packages, and the gates must catch every one.

What they cannot catch is listed in docs/coreml-interpreter.md.
"""

import shutil

import numpy as np
import pytest

from solov2_edge.converters.coreml_gates import judge_package
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.to_coreml import export_coreml
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import manifest_path

PARITY, REFUSED = GateError, InputError


def conv3(e, number=0):
    """The ``number``-th 3x3 convolution: behind the first lies nearly the whole network."""

    def three(op):
        sizes = [dimension.constant.size for dimension in e.value(op, "weight").type.tensorType.dimensions]
        return sizes[2:] == [3, 3]

    return e.op("conv", number, three)


def weight_sign(e):
    weight = e.array(conv3(e), "weight")
    place = int(np.abs(weight.astype(np.float32)).argmax())
    weight[place] = -weight[place]


def weight_exponent_bit(e):
    weight = e.array(conv3(e), "weight")
    place = int(np.abs(weight.astype(np.float32)).argmax())
    bits = weight.view(f"u{weight.itemsize}")
    bits[place] ^= 1 << (26 if weight.itemsize == 4 else 13)


def weight_channel_lost(e):
    e.array(conv3(e), "weight")[:9] = 0


def weights_swapped_between_layers(e):
    first, second = conv3(e, 0), conv3(e, 1)
    values = [e.value(op, "weight").blobFileValue for op in (first, second)]
    assert e.value(first, "weight").type == e.value(second, "weight").type
    values[0].offset, values[1].offset = values[1].offset, values[0].offset


def weight_transposed(e):
    weight = e.array(conv3(e), "weight").reshape(-1, 3, 3)
    weight[:] = weight.swapaxes(1, 2).copy()


def bias_changed(e):
    op = conv3(e)
    stored = e.value(op, "bias").WhichOneof("value")
    if stored == "blobFileValue":
        e.array(op, "bias")[0] += 1
    else:
        e.replace(op, "bias", lambda old: [old[0] + 1, *old[1:]])


def stride(e):
    e.replace(e.op("conv", 0), "strides", lambda old: [1, 1])


def padding_shifted(e):
    e.replace(conv3(e), "pad", lambda old: [0, 2, 0, 2])


def dilation_with_its_padding(e):
    op = conv3(e, 2)
    e.replace(op, "dilations", lambda old: [2, 2])
    e.replace(op, "pad", lambda old: [2, 2, 2, 2])


def padding_type(e):
    op = conv3(e)
    value = type(e.value(op, "pad_type"))()
    value.CopyFrom(e.value(op, "pad_type"))
    value.immediateValue.tensor.strings.values[0] = "valid"
    op.inputs["pad_type"].arguments[0].Clear()
    op.inputs["pad_type"].arguments[0].value.CopyFrom(value)


def groups(e):
    e.replace(conv3(e), "groups", lambda old: [2])


def epsilon(e):
    for op in e.all("instance_norm"):
        e.replace(op, "epsilon", lambda old: [0.01])


def norm_left_out(e):
    op = e.op("instance_norm", 3)
    op.type = "identity"
    del op.inputs["epsilon"]


def groups_of_a_norm(e):
    op = e.made(e.source(e.op("instance_norm"), "x"))
    e.replace(op, "shape", lambda old: [old[0], old[1] // 2, old[2] * 2, old[3]])
    for made in (op, e.op("instance_norm")):
        sizes = made.outputs[0].type.tensorType.dimensions
        sizes[1].constant.size //= 2
        sizes[2].constant.size *= 2


def norm_scale(e):
    op = e.op("batch_norm", 2)
    if e.value(op, "gamma").WhichOneof("value") == "blobFileValue":
        e.array(op, "gamma")[0] += 1
    else:
        e.replace(op, "gamma", lambda old: [old[0] + 1, *old[1:]])


def mean_of_the_picture(e):
    e.replace(e.op("sub"), "y", lambda old: [old[0] + 8, *old[1:]])


def deviation_of_the_picture(e):
    e.replace(e.op("mul"), "y", lambda old: [old[0] * 1.1, *old[1:]])


def channels_of_the_mean(e):
    e.replace(e.op("sub"), "y", lambda old: old[::-1])


def colours(e):
    e.model.description.input[0].type.imageType.colorSpace = 30


def concat_order(e):
    op = e.op("concat")
    bindings = op.inputs["values"].arguments
    names = [binding.name for binding in bindings]
    for binding, name in zip(bindings, reversed(names), strict=True):
        binding.name = name


def concat_axis(e):
    e.replace(e.op("concat"), "axis", lambda old: [2])


def levels_in_another_order(e):
    op = next(o for o in e.all("concat") if len(o.inputs["values"].arguments) == 5)
    bindings = op.inputs["values"].arguments
    bindings[3].name, bindings[4].name = bindings[4].name, bindings[3].name


def input_swapped(e):
    op = e.op("add")
    op.inputs["x"].arguments[0].name = e.source(op, "y")


def input_of_another_layer(e):
    op = e.op("resize_bilinear", 3)
    op.inputs["x"].arguments[0].name = e.source(e.op("resize_bilinear", 2), "x")


def operation_moved(e):
    moved = e.op("relu")
    first = type(moved)()
    first.CopyFrom(moved)
    e.block.operations.remove(moved)
    e.block.operations.insert(0, first)


def relu_left_out(e):
    e.op("relu", 4).type = "identity"


def sigmoid_left_out(e):
    e.op("sigmoid").type = "identity"


def maximum_for_mean(e):
    op = e.op("avg_pool")
    op.type = "max_pool"
    del op.inputs["exclude_padding_from_average"]


def mean_for_maximum(e):
    e.op("max_pool").type = "avg_pool"


def pooling_window(e):
    e.replace(e.op("max_pool"), "kernel_sizes", lambda old: [1, 3])


def sampling_mode(e):
    for op in e.all("resize_bilinear"):
        e.replace(op, "sampling_mode", lambda old: ["DEFAULT"])


def one_sampling_mode(e):
    e.replace(e.op("resize_bilinear", 1), "sampling_mode", lambda old: ["STRICT_ALIGN_CORNERS"])


def corners(e):
    e.replace(e.op("upsample_bilinear"), "align_corners", lambda old: [True])


def resized_size(e):
    e.replace(e.op("resize_bilinear", 1), "target_size_width", lambda old: [old[0] + 1])


def nearest_for_bilinear(e):
    op = e.op("upsample_bilinear")
    op.type = "upsample_nearest_neighbor"
    del op.inputs["align_corners"]


def permutation(e):
    e.replace(e.op("transpose"), "perm", lambda old: [0, 1])


def shape(e):
    op = e.made(e.source(e.op("instance_norm"), "x"))
    e.replace(op, "shape", lambda old: [old[0], old[1], old[3], old[2]])


def declared_kind(e):
    e.op("relu").outputs[0].type.tensorType.dataType = 23


def coordinates(e):
    name = next(op.outputs[0].name for op in e.all("const") if "coordinates0" in op.outputs[0].name)
    value = e.made(name).attributes["val"]
    assert value.WhichOneof("value") == "blobFileValue", "immediate coordinates need another fault"
    numbers = e.array(e.made(name), "val").reshape(2, -1)
    numbers[:] = numbers[::-1].copy()


def outputs_exchanged(e):
    scores, kernels = (
        next(o for o in e.block.operations if o.outputs[0].name == n) for n in ("class_scores", "kernels")
    )
    scores.outputs[0].name, kernels.outputs[0].name = "kernels", "class_scores"


def blob_of_another_kind(e):
    start = e.metadata(conv3(e), "weight")
    data = bytearray(e.weights.read_bytes())
    data[start + 4] ^= 3
    e.weights.write_bytes(data)


def blob_cut_short(e):
    e.weights.write_bytes(e.weights.read_bytes()[: e.weights.stat().st_size // 2])


FAULTS = {
    weight_sign: PARITY,
    weight_exponent_bit: PARITY,
    weight_channel_lost: PARITY,
    weights_swapped_between_layers: PARITY,
    weight_transposed: PARITY,
    bias_changed: PARITY,
    stride: REFUSED,
    padding_shifted: PARITY,
    padding_type: REFUSED,
    dilation_with_its_padding: PARITY,
    groups: REFUSED,
    epsilon: PARITY,
    norm_left_out: PARITY,
    norm_scale: PARITY,
    groups_of_a_norm: PARITY,
    mean_of_the_picture: PARITY,
    deviation_of_the_picture: PARITY,
    channels_of_the_mean: PARITY,
    colours: PARITY,
    concat_order: PARITY,
    concat_axis: REFUSED,
    levels_in_another_order: PARITY,
    input_swapped: PARITY,
    input_of_another_layer: PARITY,
    operation_moved: REFUSED,
    relu_left_out: PARITY,
    sigmoid_left_out: PARITY,
    maximum_for_mean: PARITY,
    mean_for_maximum: PARITY,
    pooling_window: REFUSED,
    sampling_mode: PARITY,
    one_sampling_mode: PARITY,
    corners: PARITY,
    resized_size: REFUSED,
    nearest_for_bilinear: PARITY,
    permutation: REFUSED,
    shape: REFUSED,
    declared_kind: REFUSED,
    coordinates: PARITY,
    outputs_exchanged: REFUSED,
    blob_of_another_kind: REFUSED,
    blob_cut_short: REFUSED,
}


@pytest.fixture(scope="module")
def probes(coreml_export):
    exported = coreml_export("fp32")
    return Probes(exported.model, exported.manifest.input)


@pytest.fixture
def planted(coreml_export, edit, tmp_path):
    """Return a function: a copy of a package without the manifest beside it, whose hash would show any change."""

    def copy(precision):
        path = tmp_path / "faulty.mlpackage"
        shutil.copytree(coreml_export(precision).path, path)
        assert not manifest_path(path).exists()
        return edit(path)

    return copy


def judge(package, probes, precision):
    return judge_package(package.path, probes, "planting a fault", precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_untouched_copy_passes(planted, probes, precision):
    measured = judge(planted(precision), probes, precision)
    assert 0 < max(measured.values()) < {"fp32": 1e-4, "fp16": 1e-2}[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_is_caught(planted, probes, fault, precision):
    package = planted(precision)
    fault(package)
    package.save()
    with pytest.raises(FAULTS[fault]):
        judge(package, probes, precision)


def last_bit_of_a_weight(e):
    weight = e.array(conv3(e), "weight")
    weight.view(f"u{weight.itemsize}")[int(np.abs(weight.astype(np.float32)).argmax())] ^= 1


def epsilon_doubled(e):
    for op in e.all("instance_norm"):
        e.replace(op, "epsilon", lambda old: [2 * old[0]])


def tenth_of_a_per_cent(e):
    weight = e.array(conv3(e), "weight")
    weight[int(np.abs(weight.astype(np.float32)).argmax())] *= 1.001


def tenth_of_a_grey_level(e):
    e.replace(e.op("sub"), "y", lambda old: [old[0] + 0.1, *old[1:]])


@pytest.mark.parametrize(
    ("fault", "seen_at"),
    [
        (last_bit_of_a_weight, ()),
        (epsilon_doubled, ()),
        (tenth_of_a_per_cent, ("fp32",)),
        (tenth_of_a_grey_level, ("fp32",)),
    ],
)
def test_faults_below_the_bound_pass(planted, probes, fault, seen_at):
    """What docs/coreml-interpreter.md says of the gates' resolution; float32's is a hundred times float16's."""
    for precision in ("fp32", "fp16"):
        package = planted(precision)
        fault(package)
        package.save()
        if precision in seen_at:
            with pytest.raises(PARITY):
                judge(package, probes, precision)
        else:
            judge(package, probes, precision)
        shutil.rmtree(package.path)


# Deformable convolution: what goes wrong in sampling.


def sampling_corners(e):
    e.replace(e.op("resample"), "align_corners", lambda old: [True])


def sampling_nearest(e):
    e.replace(e.op("resample"), "sampling_mode", lambda old: ["nearest"])


def sampling_padding(e):
    for op in e.all("resample"):
        e.replace(op, "padding_mode", lambda old: ["border"])


def sampling_measure(e):
    e.replace(e.op("resample"), "coordinates_mode", lambda old: ["normalized_zero_to_one"])


def sampling_of_another_layer(e):
    first, second = e.all("resample")[-2:]
    second.inputs["coordinates"].arguments[0].name = e.source(first, "coordinates")


@pytest.fixture(scope="module")
def deformable(specs, make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("deformable") / "v1.mlpackage"
    model = make_model(specs["v1"])
    manifest = export_coreml(model, path, height=64, width=96)
    return path, Probes(model, manifest.input)


@pytest.mark.parametrize(
    "fault",
    [sampling_corners, sampling_nearest, sampling_padding, sampling_measure, sampling_of_another_layer],
    ids=lambda fault: fault.__name__,
)
def test_every_fault_of_sampling_is_caught(deformable, edit, tmp_path, fault):
    path, probes = deformable
    package = edit(shutil.copytree(path, tmp_path / "faulty.mlpackage"))
    judge(package, probes, "fp32")
    fault(package)
    package.save()
    with pytest.raises((GateError, InputError)):
        judge(package, probes, "fp32")
