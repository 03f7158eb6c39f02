"""The named members of the ModelSpec family.

Numbers: the authors' configurations (SOLOv2_LIGHT_448_R18/R34/R50, SOLOv2_LIGHT_512_DCN_R50), mmdetection's
``solov2-light_r50-dcn`` (DCN v2 with the 448 pipeline) and the full models of both; ``nano`` is our own.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from solov2_edge.coco_classes import COCO_CLASSES
from solov2_edge.errors import InputError
from solov2_edge.spec import BackboneSpec, ModelSpec

__all__ = ["VARIANTS", "variant"]

R18 = BackboneSpec("basic", (2, 2, 2, 2))
R34 = BackboneSpec("basic", (3, 4, 6, 3))
R50 = BackboneSpec("bottleneck", (3, 4, 6, 3))
R101 = BackboneSpec("bottleneck", (3, 4, 23, 3))
X101 = replace(R101, groups=64, base_width=4)  # ResNeXt-101 64x4d

# Scale ranges of the authors' 512 configuration; mmdetection's light DCN configuration uses them too.
RANGES_512 = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
RANGES_FULL = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))

_LIGHT_448 = ModelSpec(name="light-448-r18", class_names=COCO_CLASSES, backbone=R18)


def _light_dcn(name: str, dcn: str, resize_box: tuple[int, int]) -> ModelSpec:
    return replace(
        _LIGHT_448,
        name=name,
        backbone=replace(R50, dcn=dcn),
        tower_depth=3,
        tower_dcn=dcn,
        scale_ranges=RANGES_512,
        resize_box=resize_box,
    )


def _full(name: str, backbone: BackboneSpec) -> ModelSpec:
    return replace(
        _LIGHT_448,
        name=name,
        backbone=backbone,
        tower_depth=4,
        tower_width=512,
        mask_channels=256,
        scale_ranges=RANGES_FULL,
        resize_box=(800, 1333),
        train_short_sides=(800, 768, 736, 704, 672, 640),
    )


def _full_dcn(name: str, backbone: BackboneSpec) -> ModelSpec:
    """Both publishers' full DCN models: v2 in res3-res5, in every tower and in every mask branch convolution."""
    return replace(_full(name, replace(backbone, dcn="v2")), tower_dcn="v2", tower_dcn_convs="all", mask_dcn="v2")


def _adelaidet(name: str, backbone: BackboneSpec) -> ModelSpec:
    """AdelaiDet's full models: Caffe-style weights (stride on the first 1x1), BGR input, mean only."""
    return replace(
        _full(name, replace(backbone, style="caffe")),
        mean=(103.53, 116.28, 123.675),
        std=(1.0, 1.0, 1.0),
        channel_order="bgr",
    )


_ALL = (
    _LIGHT_448,
    replace(_LIGHT_448, name="light-448-r34", backbone=R34),
    replace(_LIGHT_448, name="light-448-r50", backbone=R50),
    _light_dcn("light-512-r50-dcnv1", "v1", (512, 852)),
    _light_dcn("light-512-r50-dcnv2", "v2", (512, 852)),
    _light_dcn("light-448-r50-dcnv2", "v2", (448, 768)),
    _full("full-r50", R50),
    _full("full-r101", R101),
    _full_dcn("full-r101-dcnv2", R101),
    _full_dcn("full-x101-dcnv2", X101),
    _adelaidet("adelaidet-r50", R50),
    _adelaidet("adelaidet-r101", R101),
    # The phone-class member: 5.4 GFLOP and 1.6 M parameters at 448x448 with 80 classes, 0.97 of YOLO11n-seg's time
    # in ONNX Runtime. Two strided 3x3 convolutions in place of the 7x7 stem and a pyramid of 48 instead of 64 took
    # 15 % off; what thinner forms would bring, and at which loss of capacity: docs/network-speed.md.
    replace(
        _LIGHT_448,
        name="nano",
        backbone=BackboneSpec("basic", (1, 1, 2, 1), widths=(32, 64, 128, 192), stem_width=32, stem="conv3x2"),
        pyramid_width=48,
        tower_width=64,
        mask_width=48,
        mask_channels=48,
        norm_groups=16,
    ),
)

VARIANTS: dict[str, ModelSpec] = {spec.name: spec for spec in _ALL}


def variant(name: str, class_names: tuple[str, ...] | None = None) -> ModelSpec:
    """Return the named ModelSpec, with its own classes if given.

    Args:
        name: a key of :data:`VARIANTS`, for example ``"light-448-r18"``.
        class_names: class names in channel order; default: the variant's own (COCO's 80).

    Raises:
        InputError: no such variant; the message names the closest ones.
    """
    if name not in VARIANTS:
        close = difflib.get_close_matches(name, VARIANTS, n=3) or sorted(VARIANTS)
        raise InputError(f"unknown variant {name!r}; expected one of: {', '.join(close)}")
    spec = VARIANTS[name]
    return spec if class_names is None else replace(spec, class_names=class_names)
