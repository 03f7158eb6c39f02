"""Every publisher's names become mmdetection 3's, by name and never by position."""

import re

import pytest

from solov2_edge.checkpoint import expected_shapes
from solov2_edge.errors import InputError
from solov2_edge.naming import canonical, looks_like
from solov2_edge.variants import VARIANTS

PAIRS = [("off_448_r18", "r18"), ("off_448_r34", "r34"), ("off_448_r50", "r50"), ("off_512_dcn_r50", "r50_dcn512")]


def weights_only(shapes):
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(("authors", "mmdet"), PAIRS)
def test_the_authors_names_become_mmdetections(listing, authors, mmdet):
    renamed, family = canonical(listing(authors))
    assert family == "authors"
    assert renamed == weights_only(listing(mmdet))


@pytest.mark.parametrize("name", ["r18", "r34", "r50", "r50_dcn", "r50_dcn512"])
def test_mmdetections_names_stay(listing, name):
    assert canonical(listing(name)) == (weights_only(listing(name)), "mmdetection")


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod.module."])
def test_wrapper_prefixes_go(listing, prefix):
    wrapped = {prefix + name: shape for name, shape in listing("off_448_r18").items()}
    assert canonical(wrapped) == canonical(listing("off_448_r18"))


def test_copies_and_constants_are_dropped(listing):
    names = listing("r18")
    extra = {"ema_" + name.replace(".", "_"): shape for name, shape in names.items()}
    extra |= {"steps": (), "pixel_mean": (3, 1, 1), "data_preprocessor.mean": (3, 1, 1)}
    assert canonical({**names, **extra}) == canonical(names)


@pytest.mark.parametrize("variant", ["adelaidet-r50", "adelaidet-r101"])
def test_adelaidets_names_become_mmdetections(adelaidet_name, variant):
    shapes = expected_shapes(VARIANTS[variant])
    renamed, family = canonical({adelaidet_name(name): shape for name, shape in shapes.items()})
    assert family == "adelaidet"
    assert renamed == shapes


@pytest.mark.parametrize(
    ("name", "spelling"),
    [("off_512_dcn_r50", r"\1_offset."), ("r50_dcn", r"\1_offset.")],
)
def test_old_offset_names_move_into_their_convolution(listing, name, spelling):
    new = listing(name)
    # layer2.0.conv2.conv_offset -> layer2.0.conv2_offset; convs.2.conv.conv_offset -> convs.2.conv_offset
    old = {re.sub(r"(conv\d?)\.conv_offset\.", spelling, key): shape for key, shape in new.items()}
    assert set(old) != set(new)
    assert canonical(old) == canonical(new)


def test_order_does_not_matter(listing):
    names = listing("off_448_r50")
    assert canonical(dict(reversed(names.items()))) == canonical(names)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["StructuredToParameterName@@", "backbone.conv1.weight"], "PaddleDetection"),
        (["backbone.conv1.conv1_1.norm._mean", "mask_head.mask_feature_head.x"], "PaddleDetection"),
        (["backbone.layer1.0.conv1.weight", "bbox_head.dsolo_cate.weight"], "SOLO v1"),
        (["backbone.conv1.weight", "roi_head.bbox_head.fc_cls.weight"], "two-stage"),
        (["model.0.conv.weight", "model.22.cv2.0.weight"], "YOLO model"),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], "classification"),
        (["backbone.conv1.weight", "neck.lateral_convs.0.conv.weight"], "without a SOLOv2 head"),
        (["a.b", "c.d"], "2 tensors of no network"),
    ],
)
def test_strangers_are_called_by_name(names, text):
    with pytest.raises(InputError, match=text):
        canonical(dict.fromkeys(names, ()))
    assert text in looks_like(names)


def test_two_publishers_names_in_one_file_are_refused(listing):
    mixed = {**listing("off_448_r18"), "mask_head.conv_cls.weight": (80, 256, 3, 3)}
    with pytest.raises(InputError, match=r"both mean mask_head\.conv_cls\.weight"):
        canonical(mixed)
