"""Which convolutions compression touches, and the gates that hold it: each is shown to catch its fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from solov2_edge.converters.coreml_compress import Convolution
from solov2_edge.converters.coreml_gates import check_rest, check_weights, measure_package
from solov2_edge.converters.mil_program import Operation, Program
from solov2_edge.converters.mil_types import TensorType, Value
from solov2_edge.errors import GateError

BIG = Convolution("c", "p_network_neck_fpn_convs_0_conv_weight", (8, 64, 3, 3), normalised=False)


def weights(seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, BIG.shape).astype(np.float32)


def quantised(weight, levels, block):
    grouped = weight.reshape(8, 64 // block, -1)
    scale = (np.abs(grouped).max(2, keepdims=True) / levels).astype(np.float16).astype(np.float32)
    return (np.round(grouped / scale).clip(-levels, levels) * scale).reshape(BIG.shape).astype(np.float32)


def tabled(weight, entries):
    table = np.quantile(weight, np.linspace(0, 1, entries)).astype(np.float16).astype(np.float32)
    return table[np.abs(weight[..., None] - table).argmin(-1)]


@pytest.mark.parametrize(
    ("name", "shape", "delicate", "compressed"),
    [
        ("p_network_mask_head_conv_cls_weight_to_fp16", (80, 256, 3, 3), True, False),
        ("p_network_mask_head_conv_kernel_weight", (128, 256, 3, 3), True, False),
        ("p_network_mask_head_mask_feature_head_conv_pred_conv_weight", (128, 128, 1, 1), True, False),
        ("p_network_backbone_layer3_0_conv2_conv_offset_weight", (18, 256, 3, 3), True, False),
        ("p_network_mask_head_cls_convs_0_conv_weight", (256, 256, 3, 3), False, True),
        ("p_network_backbone_layer1_0_conv1_weight", (64, 32, 1, 1), False, False),  # too small to gain
    ],
)
def test_what_stays_float(name, shape, delicate, compressed):
    convolution = Convolution("c", name, shape, normalised=False)
    assert (convolution.delicate, convolution.compressed) == (delicate, compressed)


@pytest.mark.parametrize(("channels", "block"), [(256, 32), (64, 32), (48, 24), (50, 25), (258, 43), (3, 3), (7, 7)])
def test_blocks_divide_the_channels_and_are_near_32(channels, block):
    assert Convolution("c", "w", (8, channels, 3, 3), normalised=False).block == block


def test_stem_and_coordinates_keep_eight_bits():
    sensitive = {
        name: Convolution("c", f"p_network_{name}_weight", (64, 64, 3, 3), normalised=False).sensitive
        for name in ("backbone_conv1", "backbone_conv2", "mask_head_kernel_convs_0_conv", "backbone_layer1_0_conv2")
    }
    assert list(sensitive.values()) == [True, True, True, False]


@pytest.mark.parametrize(
    ("precision", "compress"),
    [
        ("int8", lambda w: quantised(w, 127, 64)),
        ("int4", lambda w: quantised(w, 7, 32)),
        ("palette6", lambda w: tabled(w, 64)),
        ("palette4", lambda w: tabled(w, 16)),
    ],
)
def test_weights_within_their_rounding_pass_and_one_beyond_does_not(precision, compress):
    exact = weights()
    good = compress(exact)
    assert 0.5 < check_weights(precision, [BIG], [exact], [good]) <= 1
    step = np.abs(good - exact).max()
    for place in (0, good.size // 2, good.size - 1):
        bad = good.copy()
        bad.flat[place] += (
            3 * step * (1 if bad.flat[place] <= exact.flat[place] else -1) + 6 * (exact - good).flat[place]
        )
        with pytest.raises(GateError, match=r"moved a weight of p_network_neck.*nothing was written"):
            check_weights(precision, [BIG], [exact], [bad])


@pytest.mark.parametrize(
    "fault",
    [
        lambda w: w * np.float32(1.02),  # a wrong scale
        lambda w: np.where(w == np.unique(w)[3], np.unique(w)[9], w),  # a wrong entry
        lambda w: w[::-1],  # channels swapped
        lambda w: w + np.float32(np.nan),
        lambda w: w + np.random.default_rng(1).normal(0, 2e-3, w.shape).astype(np.float32),  # more entries than fit
    ],
)
@pytest.mark.parametrize(
    ("precision", "compress"), [("int8", lambda w: quantised(w, 127, 64)), ("palette4", lambda w: tabled(w, 16))]
)
def test_faults_are_caught(precision, compress, fault):
    exact = weights()
    bad = np.ascontiguousarray(fault(compress(exact)), np.float32)
    with pytest.raises(GateError):
        check_weights(precision, [BIG], [exact], [bad])


def test_float_weights_may_only_be_rounded_to_float16():
    small = replace(BIG, weight="p_network_mask_head_conv_cls_weight")
    exact = weights()
    half = exact.astype(np.float16).astype(np.float32)
    assert check_weights("int8", [small], [exact], [half]) <= 1
    with pytest.raises(GateError):
        check_weights("int8", [small], [exact], [quantised(exact, 127, 64)])


def test_other_convolutions_are_refused():
    with pytest.raises(GateError, match="changed the convolutions themselves"):
        check_weights("int8", [BIG], [weights()], [])


def program(weight=1.0, bias=2.0, kind="conv", x="image"):
    def constant(number):
        return Value(torch.full((1, 1, 1, 1), number), "fp16")

    shape = TensorType("fp16", (1, 1, 4, 4))
    conv = Operation(kind, f"{kind} 'out'", {"x": (x,), "weight": ("w",), "bias": (constant(bias),)}, (("out", shape),))
    return Program({"image": shape}, {"w": constant(weight)}, (), (conv,), ("out",))


def test_nothing_but_the_weights_of_convolutions_may_change():
    check_rest(program(), program(weight=1.5), "int8")
    for changed in (program(bias=2.5), program(kind="mul"), program(x="other")):
        with pytest.raises(GateError, match="changed"):
            check_rest(program(), changed, "int8")
    more = replace(program(), operations=program().operations * 2)
    with pytest.raises(GateError, match="changed the program's operators"):
        check_rest(program(), more, "int8")


def test_outputs_that_are_no_numbers_are_refused(coreml_export, monkeypatch):
    from solov2_edge.converters.probes import Probes

    made = coreml_export("fp32")
    probes = Probes(made.model, made.manifest.input)
    assert max(measure_package(made.path, probes, "a stage", "int8").values()) < 1e-4
    monkeypatch.setattr(probes, "measure", lambda _: {"kernels": float("inf")})
    with pytest.raises(GateError, match="NaN or infinity after a stage"):
        measure_package(made.path, probes, "a stage", "int8")
