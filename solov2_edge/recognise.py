"""Which member of the family a set of tensors is: from shapes alone, never from a file's name.

Two things are not in the tensors. The number of GroupNorm groups is 32 in everything published; other numbers come
only with our own files or a named variant. Where a bottleneck's stride sits is known from the family: AdelaiDet's
weights are Caffe-style.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from solov2_edge.errors import InputError
from solov2_edge.spec import BackboneSpec, ModelSpec
from solov2_edge.training_meta import TrainingMeta, class_names_for
from solov2_edge.variants import VARIANTS, variant

__all__ = ["mismatch", "recognise", "same_structure"]

Shapes = Mapping[str, tuple[int, ...]]

_DCN_ROWS = {18: "v1", 27: "v2"}  # of an offset predictor of a 3x3 convolution
_SHOWN = 5  # names of each kind in a message


def recognise(
    shapes: Shapes, family: str, meta: TrainingMeta, name: str | None = None, class_names: tuple[str, ...] | None = None
) -> ModelSpec:
    """Return the ModelSpec the tensors were made for.

    Args:
        shapes: tensor name (mmdetection 3's) -> sizes.
        family: where the names came from (``naming.FAMILIES``).
        meta: what the training framework wrote beside the weights; fills in what tensors do not say.
        name: variant to assume; it must agree with the tensors in everything they show.
        class_names: names that replace the stored ones.

    Raises:
        InputError: not a SOLOv2, one that this version does not build, or not the variant that was asked for.
    """
    seen = _structure(shapes, "caffe" if family == "adelaidet" else "pytorch")
    names = class_names_for(shapes["mask_head.conv_cls.weight"][0], class_names or meta.class_names)
    if name is not None:
        wanted = variant(name, names)
        differences = _differences(wanted, seen)
        if differences:
            raise InputError(f"its tensors are not those of {name}: {'; '.join(differences)}")
        return wanted
    base = next((spec for spec in VARIANTS.values() if same_structure(spec, seen)), None)
    # mmdetection's light DCN v2 configuration keeps the 448 pipeline; the 512 one must be asked for or configured.
    if base is not None and base.name == "light-512-r50-dcnv2":
        base = VARIANTS["light-448-r50-dcnv2"]
    spec = base if base is not None else _unnamed(seen)
    configured = replace(
        spec,
        resize_box=meta.resize_box or spec.resize_box,
        grids=meta.grids or spec.grids,
        scale_ranges=meta.scale_ranges or spec.scale_ranges,
    )
    return replace(configured, name=_name(configured), class_names=names)


def same_structure(spec: ModelSpec, other: ModelSpec) -> bool:
    """Tell whether two specs have the same tensors and the same place for a bottleneck's stride."""
    return not _differences(spec, other) and spec.backbone.style == other.backbone.style


def mismatch(expected: Shapes, got: Shapes) -> str | None:
    """Compare tensors by name and shape; return what is missing, extra and mis-shaped in words, or None if equal."""
    missing = [name for name in expected if name not in got]
    extra = [name for name in got if name not in expected]
    shaped = [
        f"{name} is {tuple(got[name])}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in got and tuple(got[name]) != tuple(shape)
    ]
    parts = [
        f"{len(names)} {label} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for label, names in (("missing", missing), ("extra", extra), ("mis-shaped", shaped))
        if names
    ]
    return "; ".join(parts) or None


def _structure(shapes: Shapes, style: str) -> ModelSpec:
    """Read every width, depth and flavour off the tensors; class names are placeholders."""
    stem = _shape(shapes, "backbone.conv1.weight")
    small_stem = stem[-1] == 3
    depths = tuple(_count(shapes, rf"backbone\.layer{stage}\.(\d+)\.conv1\.weight") for stage in (1, 2, 3, 4))
    bottleneck = "backbone.layer1.0.conv3.weight" in shapes
    widths, groups, base_width = _bottleneck_widths(shapes) if bottleneck else (_basic_widths(shapes), 1, 64)
    tower, branch = "mask_head.cls_convs", "mask_head.mask_feature_head"
    depth = _count(shapes, rf"{re.escape(tower)}\.(\d+)\.conv\.weight")
    tower_width = _shape(shapes, f"{tower}.0.conv.weight")[0]
    mask_channels, mask_width = _shape(shapes, f"{branch}.conv_pred.conv.weight")[:2]
    pyramid_width = _shape(shapes, "neck.lateral_convs.0.conv.weight")[0]
    separate = f"{branch}.convs.0.conv.weight" in shapes
    first = f"{branch}.convs.0.conv" if separate else f"{branch}.convs_all_levels.3.conv0.conv"
    backbone = BackboneSpec(
        block="bottleneck" if bottleneck else "basic",
        depths=(depths[0], depths[1], depths[2], depths[3]),
        widths=(widths[0], widths[1], widths[2], widths[3]),
        stem_width=_shape(shapes, "backbone.conv2.weight")[0] if small_stem else stem[0],
        stem="conv3x2" if small_stem else "conv7",
        style=style,
        dcn=_flavour(shapes, "backbone.layer2.0.conv2") if bottleneck else "none",
        groups=groups,
        base_width=base_width,
    )
    return ModelSpec(
        name="as stored",
        class_names=tuple(f"class_{index}" for index in range(_shape(shapes, "mask_head.conv_cls.weight")[0])),
        backbone=backbone,
        pyramid_width=pyramid_width,
        tower_depth=depth,
        tower_width=tower_width,
        tower_dcn=_flavour(shapes, f"{tower}.{depth - 1}.conv"),
        mask_width=mask_width,
        mask_channels=mask_channels,
        tower_dcn_convs="all" if depth > 1 and f"{tower}.0.conv.conv_offset.weight" in shapes else "last",
        mask_dcn="none" if separate else _flavour(shapes, f"{branch}.convs_all_levels.0.conv0.conv"),
        mask_features="separate" if separate else "unified",
        feature_coordinates=_with_coordinates(shapes, first, pyramid_width),
        kernel_coordinates=_with_coordinates(shapes, "mask_head.kernel_convs.0.conv", pyramid_width),
        kernel_size=_kernel_size(shapes, mask_channels),
        norm_groups=1,  # unknown; settled by the variant or by _unnamed
    )


def _basic_widths(shapes: Shapes) -> tuple[int, ...]:
    return tuple(_shape(shapes, f"backbone.layer{stage}.0.conv1.weight")[0] for stage in (1, 2, 3, 4))


def _bottleneck_widths(shapes: Shapes) -> tuple[tuple[int, ...], int, int]:
    """Return widths, groups and base width of bottlenecks; a ResNeXt's 3x3 is wider than its width, and in groups."""
    inner = _basic_widths(shapes)
    widths = tuple(_shape(shapes, f"backbone.layer{stage}.0.conv3.weight")[0] // 4 for stage in (1, 2, 3, 4))
    groups = max(1, inner[0] // _shape(shapes, "backbone.layer1.0.conv2.weight")[1])
    base_width = max(1, inner[0] * 64 // max(1, widths[0] * groups))
    if inner != tuple(width * base_width // 64 * groups for width in widths):
        raise InputError(
            f"its bottlenecks have 3x3 convolutions of {inner} channels in {groups} groups between outputs of "
            f"{tuple(4 * width for width in widths)}, which is neither a ResNet nor a ResNeXt"
        )
    return widths, groups, base_width


def _with_coordinates(shapes: Shapes, convolution: str, channels: int) -> bool:
    """Tell whether a convolution takes two channels more than the pyramid has."""
    extra = _shape(shapes, f"{convolution}.weight")[1] - channels
    if extra not in (0, 2):
        raise InputError(
            f"its {convolution}.weight takes {channels + extra} channels; expected the pyramid's {channels}, or two "
            "more with coordinates"
        )
    return extra == 2


def _kernel_size(shapes: Shapes, mask_channels: int) -> int:
    length = _shape(shapes, "mask_head.conv_kernel.weight")[0]
    for size in (1, 3):
        if length == mask_channels * size * size:
            return size
    raise InputError(
        f"its dynamic kernels hold {length} numbers on {mask_channels} mask feature channels; expected {mask_channels} "
        f"(1x1) or {9 * mask_channels} (3x3)"
    )


def _shape(shapes: Shapes, name: str) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise InputError(f"it has no {name}, without which it is not a whole SOLOv2; give the complete checkpoint")
    if len(shape) != 4 or min(shape) < 1:
        raise InputError(f"its {name} has shape {tuple(shape)}, expected four positive sizes; the file is damaged")
    return shape


def _count(shapes: Shapes, pattern: str) -> int:
    """Return one more than the largest index; gaps show up when all names are compared."""
    indices = [int(match[1]) for name in shapes if (match := re.fullmatch(pattern, name))]
    if not indices or max(indices) > 999:
        readable = pattern.replace("\\", "").replace("(d+)", "N")
        raise InputError(f"it has no usable {readable}, without which it is not a whole SOLOv2")
    return max(indices) + 1


def _flavour(shapes: Shapes, convolution: str) -> str:
    name = f"{convolution}.conv_offset.weight"
    if name not in shapes:
        return "none"
    rows = _shape(shapes, name)[0]
    if rows not in _DCN_ROWS:
        raise InputError(
            f"its {name} has {rows} rows; expected 18 (DCN v1) or 27 (DCN v2), which is one deformable group"
        )
    return _DCN_ROWS[rows]


def _differences(spec: ModelSpec, seen: ModelSpec) -> list[str]:
    """Say in which of the things that tensors show ``seen`` is not ``spec``."""
    pairs = {
        "block": (spec.backbone.block, seen.backbone.block),
        "depths": (spec.backbone.depths, seen.backbone.depths),
        "widths": (spec.backbone.widths, seen.backbone.widths),
        "stem": (spec.backbone.stem, seen.backbone.stem),
        "stem width": (spec.backbone.stem_width, seen.backbone.stem_width),
        "backbone DCN": (spec.backbone.dcn, seen.backbone.dcn),
        "pyramid width": (spec.pyramid_width, seen.pyramid_width),
        "tower depth": (spec.tower_depth, seen.tower_depth),
        "tower width": (spec.tower_width, seen.tower_width),
        "tower DCN": (spec.tower_dcn, seen.tower_dcn),
        "mask width": (spec.mask_width, seen.mask_width),
        "mask channels": (spec.mask_channels, seen.mask_channels),
        "backbone groups": (spec.backbone.groups, seen.backbone.groups),
        "backbone base width": (spec.backbone.base_width, seen.backbone.base_width),
        "deformable tower convolutions": (spec.tower_dcn_convs, seen.tower_dcn_convs),
        "mask branch DCN": (spec.mask_dcn, seen.mask_dcn),
        "mask features": (spec.mask_features, seen.mask_features),
        "coordinates in the mask branch": (spec.feature_coordinates, seen.feature_coordinates),
        "coordinates in the kernel tower": (spec.kernel_coordinates, seen.kernel_coordinates),
        "kernel size": (spec.kernel_size, seen.kernel_size),
    }
    return [f"{label} is {got}, expected {want}" for label, (want, got) in pairs.items() if want != got]


def _unnamed(seen: ModelSpec) -> ModelSpec:
    """Complete a structure without a name: the rest comes from the variant it resembles most.

    Raises:
        InputError: its widths do not admit the reference's 32 groups, and the file does not say another number.
    """
    groups = VARIANTS["light-448-r18"].norm_groups
    widths = (seen.tower_width, seen.mask_width, seen.mask_channels)
    if any(width % groups for width in widths):
        raise InputError(
            f"its tower and mask widths {widths} are not multiples of {groups}, so the number of GroupNorm groups is "
            "unknown; name the variant, or save it with solov2_edge.checkpoint.save_checkpoint, which keeps the spec"
        )
    if seen.backbone.style == "caffe":
        nearest = "adelaidet-r50"
    elif seen.tower_depth > 3 or seen.tower_width > 256:
        nearest = "full-r50"
    elif seen.dcn == "v1":
        nearest = "light-512-r50-dcnv1"
    else:
        nearest = "light-448-r50-dcnv2" if seen.dcn == "v2" else "light-448-r18"
    base = VARIANTS[nearest]
    return replace(
        seen,
        name="custom",
        norm_groups=groups,
        scale_ranges=base.scale_ranges,
        resize_box=base.resize_box,
        train_short_sides=base.train_short_sides,
        mean=base.mean,
        std=base.std,
        channel_order=base.channel_order,
    )


def _name(spec: ModelSpec) -> str:
    """Return the name of the variant ``spec`` equals in all but names, else its own marked as changed."""
    for known in VARIANTS.values():
        if replace(known, name=spec.name, class_names=spec.class_names) == spec:
            return known.name
    return spec.name if spec.name.endswith("custom") else f"{spec.name}-custom"
