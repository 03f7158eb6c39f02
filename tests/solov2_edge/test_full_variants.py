"""The full models: their tensors in every publisher's naming, and deformable convolutions in groups and of 1x1."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from solov2_edge.checkpoint import expected_shapes, load_model, read_checkpoint
from solov2_edge.deform import DeformConv2d, deform_conv2d
from solov2_edge.naming import canonical
from solov2_edge.recognise import recognise
from solov2_edge.spec import BackboneSpec, ModelSpec
from solov2_edge.training_meta import TrainingMeta
from solov2_edge.variants import VARIANTS

# mmdetection's name -> the authors', written from the table of names.
TO_AUTHORS = (
    ("mask_head.mask_feature_head.conv_pred.", "mask_feat_head.conv_pred.0."),
    ("mask_head.mask_feature_head.", "mask_feat_head."),
    ("mask_head.cls_convs.", "bbox_head.cate_convs."),
    ("mask_head.kernel_convs.", "bbox_head.kernel_convs."),
    ("mask_head.conv_cls.", "bbox_head.solo_cate."),
    ("mask_head.conv_kernel.", "bbox_head.solo_kernel."),
)
TINY_DCN = ModelSpec(
    name="custom",
    class_names=("class_0", "class_1"),
    backbone=BackboneSpec("bottleneck", (1, 1, 1, 1), (16, 16, 16, 16), 8, dcn="v2", groups=4, base_width=16),
    pyramid_width=8,
    tower_depth=2,
    tower_width=32,
    tower_dcn="v2",
    tower_dcn_convs="all",
    mask_dcn="v2",
    mask_width=32,
    mask_channels=32,
)


def to_authors(name):
    for ours, theirs in TO_AUTHORS:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith(("full", "adelaidet"))])
def test_full_models_are_known_by_their_tensors_in_every_naming(name, adelaidet_name):
    spec = VARIANTS[name]
    rename = adelaidet_name if name.startswith("adelaidet") else to_authors
    shapes = expected_shapes(spec)
    for stored in (
        {rename(key): shape for key, shape in shapes.items()},
        {f"module.{k}": v for k, v in shapes.items()},
    ):
        if name.startswith("adelaidet") and next(iter(stored)).startswith("module."):
            continue  # mmdetection's names mean mmdetection's stride
        found, family = canonical(stored)
        assert found == shapes
        assert recognise(found, family, TrainingMeta()) == spec


def test_the_dcn_models_have_the_tensors_of_the_released_configurations():
    """Read off configs solov2_{r101,x101}_dcn_fpn_8gpu_3x and mmcv's layers: v2 everywhere, the last 1x1 included."""
    r101, x101 = (expected_shapes(VARIANTS[f"full-{name}-dcnv2"]) for name in ("r101", "x101"))
    head = {
        "mask_head.cls_convs.0.conv.conv_offset.weight": (27, 256, 3, 3),
        "mask_head.kernel_convs.0.conv.conv_offset.weight": (27, 258, 3, 3),
        "mask_head.kernel_convs.3.conv.conv_offset.bias": (27,),
        "mask_head.kernel_convs.0.conv.weight": (512, 258, 3, 3),
        "mask_head.conv_kernel.weight": (256, 512, 3, 3),
        "mask_head.mask_feature_head.convs_all_levels.3.conv0.conv.conv_offset.weight": (27, 258, 3, 3),
        "mask_head.mask_feature_head.convs_all_levels.0.conv0.conv.weight": (128, 256, 3, 3),
        "mask_head.mask_feature_head.conv_pred.conv.weight": (256, 128, 1, 1),
        "mask_head.mask_feature_head.conv_pred.conv.conv_offset.weight": (3, 128, 1, 1),
    }
    for shapes in (r101, x101):
        assert {name: shapes[name] for name in head} == head
        assert "mask_head.conv_cls.conv_offset.weight" not in shapes
        assert sum(name.startswith("backbone.layer3.") and "conv_offset.weight" in name for name in shapes) == 23
        assert not any(name.startswith("backbone.layer1.") and "conv_offset" in name for name in shapes)
    grouped = {
        "backbone.layer1.0.conv2.weight": (256, 4, 3, 3),
        "backbone.layer4.2.conv1.weight": (2048, 2048, 1, 1),
        "backbone.layer4.2.conv2.weight": (2048, 32, 3, 3),
        "backbone.layer4.2.conv2.conv_offset.weight": (27, 2048, 3, 3),
        "backbone.layer4.2.conv3.weight": (2048, 2048, 1, 1),
    }
    assert {name: x101[name] for name in grouped} == grouped


def test_a_checkpoint_deformable_everywhere_loads_and_runs(tmp_path, fresh_state):
    state = fresh_state(TINY_DCN)
    path = tmp_path / "epoch_36.pth"
    torch.save({"state_dict": {to_authors(name): tensor for name, tensor in state.items()}}, path)
    assert replace(read_checkpoint(path).spec, resize_box=(1, 1), scale_ranges=TINY_DCN.scale_ranges) == replace(
        TINY_DCN, resize_box=(1, 1)
    )
    model, _ = load_model(path)
    with torch.inference_mode():
        outputs = model(torch.zeros(1, 3, 64, 64))
    assert [tuple(o.shape) for o in outputs[:3]] == [(1, 3872, 2), (1, 3872, 32), (1, 32, 16, 16)]
    assert all(torch.isfinite(o).all() for o in outputs[:3])


@pytest.mark.parametrize(("size", "groups"), [(1, 1), (3, 1), (3, 4), (1, 2)])
def test_without_offsets_it_is_an_ordinary_convolution(size, groups):
    torch.manual_seed(0)
    layer = DeformConv2d(8, 12, 2, "v1", size, groups)
    x = torch.randn(2, 8, 10, 14)
    expected = nn.functional.conv2d(x, layer.weight, None, 2, size // 2, groups=groups)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_groups_share_the_offsets():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 8, 9, 9), torch.randn(6, 4, 3, 3)
    offset = torch.randn(1, 18, 9, 9)
    whole = deform_conv2d(x, offset, weight, 1, 1, groups=2)
    parts = [deform_conv2d(x[:, 4 * g : 4 * g + 4], offset, weight[3 * g : 3 * g + 3], 1, 1) for g in (0, 1)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))


def test_a_single_tap_moves_as_a_whole():
    """A 1x1 kernel with a whole-pixel offset reads the pixel there: dy before dx, modulation as it is."""
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    offset = torch.zeros(1, 2, 4, 5)
    offset[:, 0], offset[:, 1] = 1.0, -1.0
    out = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1), 1, 0, torch.full((1, 1, 4, 5), 0.5))
    expected = torch.zeros(4, 5)
    expected[:3, 1:] = x[0, 0, 1:, :-1] / 2
    torch.testing.assert_close(out[0, 0], expected)


def test_the_parameters_of_the_full_models():
    """torchvision's ResNet-101 has 18,992,128 parameters more than its ResNet-50."""
    counts = {
        name: sum(
            math.prod(shape)
            for key, shape in expected_shapes(VARIANTS[f"full-{name}"]).items()
            if not key.endswith(("running_mean", "running_var"))
        )
        for name in ("r50", "r101", "r101-dcnv2", "x101-dcnv2")
    }
    assert counts["r101"] - counts["r50"] == 18_992_128
    assert counts["x101-dcnv2"] > counts["r101-dcnv2"] > counts["r101"]
