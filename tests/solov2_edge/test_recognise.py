"""The variant is read off the tensors."""

from dataclasses import replace

import pytest

from solov2_edge.checkpoint import expected_shapes
from solov2_edge.coco_classes import COCO_CLASSES
from solov2_edge.errors import InputError
from solov2_edge.naming import canonical
from solov2_edge.recognise import mismatch, recognise, same_structure
from solov2_edge.spec import BackboneSpec
from solov2_edge.training_meta import TrainingMeta
from solov2_edge.variants import VARIANTS

NOTHING = TrainingMeta()


def family_for(spec):
    return "adelaidet" if spec.backbone.style == "caffe" else "mmdetection"


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"light-512-r50-dcnv2"}))
def test_every_variant_is_recognised_from_its_own_tensors(name):
    spec = VARIANTS[name]
    assert recognise(expected_shapes(spec), family_for(spec), NOTHING) == spec


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("off_448_r18", "light-448-r18"),
        ("off_448_r34", "light-448-r34"),
        ("off_448_r50", "light-448-r50"),
        ("off_512_dcn_r50", "light-512-r50-dcnv1"),
        ("r50_dcn512", "light-512-r50-dcnv1"),
        ("r50_dcn", "light-448-r50-dcnv2"),
        ("r18", "light-448-r18"),
    ],
)
def test_published_tensors(listing, keys, name):
    shapes, family = canonical(listing(keys))
    assert recognise(shapes, family, NOTHING) == VARIANTS[name]
    assert mismatch(expected_shapes(VARIANTS[name]), shapes) is None


def test_the_512_box_with_dcn_v2_is_for_the_asking(listing):
    shapes, family = canonical(listing("r50_dcn"))
    assert recognise(shapes, family, NOTHING, "light-512-r50-dcnv2") == VARIANTS["light-512-r50-dcnv2"]
    assert recognise(shapes, family, TrainingMeta(resize_box=(512, 852))) == VARIANTS["light-512-r50-dcnv2"]


def test_a_variant_that_contradicts_the_tensors_is_refused(listing):
    shapes, family = canonical(listing("r50_dcn"))
    with pytest.raises(InputError, match="backbone DCN is v2, expected v1; tower DCN is v2, expected v1"):
        recognise(shapes, family, NOTHING, "light-512-r50-dcnv1")


@pytest.mark.parametrize(
    "change",
    [
        {"pyramid_width": 96},
        {"tower_depth": 1},
        {"tower_width": 128},
        {"mask_width": 64},
        {"mask_channels": 32},
        {"kernel_size": 3, "mask_channels": 64},
        {"mask_features": "separate"},
        {"mask_features": "separate", "feature_coordinates": False, "kernel_size": 3},
        {"kernel_coordinates": False},
        {"feature_coordinates": False},
        {"backbone": BackboneSpec("bottleneck", (1, 1, 1, 1), (8, 8, 16, 16), 8, groups=4, base_width=16)},
        {"class_names": ("nucleus",)},
        {"backbone": BackboneSpec("basic", (1, 2, 1, 3), widths=(16, 24, 32, 40), stem_width=20)},
        {"backbone": BackboneSpec("basic", (1, 1, 1, 1), widths=(16, 24, 32, 40), stem_width=20, stem="conv3x2")},
        {"backbone": BackboneSpec("bottleneck", (1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8, dcn="v2")},
    ],
)
def test_any_width_and_depth_of_the_family(change):
    spec = replace(VARIANTS["light-448-r18"], **change)
    meta = TrainingMeta(class_names=spec.class_names)
    found = recognise(expected_shapes(spec), "authors", meta)
    assert same_structure(found, spec)
    assert found.class_names == spec.class_names
    assert found.norm_groups == 32


def test_configured_sizes_replace_the_defaults_and_mark_the_name(listing):
    shapes, family = canonical(listing("r18"))
    meta = TrainingMeta(resize_box=(800, 1333), grids=(20, 18, 12, 8, 6))
    found = recognise(shapes, family, meta)
    assert (found.resize_box, found.grids) == ((800, 1333), (20, 18, 12, 8, 6))
    assert found.name == "light-448-r18-custom"


def test_unknown_group_counts_are_refused():
    spec = replace(VARIANTS["light-448-r18"], tower_width=48, norm_groups=16)
    with pytest.raises(InputError, match="number of GroupNorm groups is unknown"):
        recognise(expected_shapes(spec), "mmdetection", NOTHING)


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("backbone.layer1.0.conv1.weight", (96, 64, 1, 1), "neither a ResNet nor a ResNeXt"),
        ("mask_head.conv_kernel.weight", (640, 256, 3, 3), "640 numbers on 128"),
        ("mask_head.kernel_convs.0.conv.weight", (256, 257, 3, 3), "257 channels"),
        ("backbone.layer2.0.conv2.conv_offset.weight", (72, 128, 3, 3), "72 rows"),
        ("backbone.conv1.weight", (64,), "four positive sizes"),
        ("backbone.layer1.99999.conv1.weight", (1, 1, 1, 1), "no usable"),
    ],
)
def test_networks_outside_the_family(listing, name, shape, text):
    shapes, family = canonical(listing("r50_dcn"))
    with pytest.raises(InputError, match=text):
        recognise({**shapes, name: shape}, family, NOTHING)


def test_a_missing_layer_is_named(listing):
    shapes, family = canonical(listing("r18"))
    del shapes["mask_head.conv_cls.weight"]
    with pytest.raises(InputError, match=r"no mask_head\.conv_cls\.weight"):
        recognise(shapes, family, NOTHING)


def test_mismatches_are_counted_and_the_first_five_named():
    expected = {f"w{i}": (i,) for i in range(9)}
    got = {"w0": (7,), "x": (1,)}
    assert mismatch(expected, got) == (
        "8 missing (w1, w2, w3, w4, w5, ...); 1 extra (x); 1 mis-shaped (w0 is (7,), expected (0,))"
    )
    assert mismatch(expected, dict(expected)) is None


def test_coco_names_by_default(listing):
    shapes, family = canonical(listing("r18"))
    assert recognise(shapes, family, NOTHING).class_names == COCO_CLASSES
    mine = tuple(f"thing {i}" for i in range(80))
    assert recognise(shapes, family, NOTHING, class_names=mine).class_names == mine
