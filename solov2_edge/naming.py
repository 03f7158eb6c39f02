"""Parameter names: every publisher's spelling becomes mmdetection 3's, the one ``model`` uses.

Families:
    ``authors``      the authors' release (an mmdetection 1.0 fork): ``bbox_head.*`` and ``mask_feat_head.*``;
                     the minimal re-implementation that trains under the same names belongs here too.
    ``mmdetection``  2.x and 3.x, identical names; ours.
    ``adelaidet``    AdelaiDet on detectron2: ``backbone.bottom_up.*``, ``ins_head.*``; its top-level ``mask_head.*``
                     is only the mask feature branch.
Every publisher numbers its tensors differently, so names are mapped, never positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from solov2_edge.errors import InputError

__all__ = ["FAMILIES", "canonical", "family_of", "looks_like"]

T = TypeVar("T")

FAMILIES = ("authors", "mmdetection", "adelaidet")

_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
# Not weights. Names without a dot are none either: mmcv's copies ``ema_backbone_...`` (the plain names hold the
# averages once training ends), mmengine's ``steps``, detectron2's ``pixel_mean``.
_IGNORED = re.compile(r"\.num_batches_tracked$|^data_preprocessor\.")

_AUTHORS = (
    (r"bbox_head\.cate_convs\.", "mask_head.cls_convs."),
    (r"bbox_head\.kernel_convs\.", "mask_head.kernel_convs."),
    (r"bbox_head\.solo_cate\.", "mask_head.conv_cls."),
    (r"bbox_head\.solo_kernel\.", "mask_head.conv_kernel."),
    (r"mask_feat_head\.conv_pred\.0\.", "mask_head.mask_feature_head.conv_pred."),
    (r"mask_feat_head\.", "mask_head.mask_feature_head."),
)
_CONV_OR_NORM = {"0": "conv", "1": "gn"}
_Rule = tuple[str, Callable[[re.Match[str]], str]]
_DETECTRON: tuple[_Rule, ...] = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.", lambda m: "backbone.bn1."),
    (r"backbone\.bottom_up\.stem\.conv1\.", lambda m: "backbone.conv1."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.", lambda m: f"{_block(m)}.downsample.1."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.", lambda m: f"{_block(m)}.downsample.0."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.", lambda m: f"{_block(m)}.bn{m[3]}."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.", lambda m: f"{_block(m)}."),
    (r"backbone\.fpn_lateral(\d)\.", lambda m: f"neck.lateral_convs.{int(m[1]) - 2}.conv."),
    (r"backbone\.fpn_output(\d)\.", lambda m: f"neck.fpn_convs.{int(m[1]) - 2}.conv."),
    (r"ins_head\.cate_tower\.(\d+)\.", lambda m: f"mask_head.cls_convs.{_layer(m)}."),
    (r"ins_head\.kernel_tower\.(\d+)\.", lambda m: f"mask_head.kernel_convs.{_layer(m)}."),
    (r"ins_head\.cate_pred\.", lambda m: "mask_head.conv_cls."),
    (r"ins_head\.kernel_pred\.", lambda m: "mask_head.conv_kernel."),
    (
        r"mask_head\.convs_all_levels\.(\d)\.conv(\d)\.([01])\.",
        lambda m: f"mask_head.mask_feature_head.convs_all_levels.{m[1]}.conv{m[2]}.{_CONV_OR_NORM[m[3]]}.",
    ),
    (r"mask_head\.conv_pred\.([01])\.", lambda m: f"mask_head.mask_feature_head.conv_pred.{_CONV_OR_NORM[m[1]]}."),
)
_OLD_OFFSET = re.compile(r"^(.*conv\d?)_offset\.(weight|bias)$")

# What other networks' files are told by: (any key matches, what it is).
_STRANGERS = (
    (
        r"^StructuredToParameterName|\._(mean|variance)$|^solov2_head\.|conv_pre_feat",
        "a PaddleDetection model, which is a different network (ResNet-vd, other deformable layers)",
    ),
    (r"^mask_head\.feature_convs\.|^bbox_head\.(ins_convs|solo_ins_list|dsolo)", "a SOLO v1 model, not SOLOv2"),
    (r"^roi_heads?\.|^roi_heads\.", "a two-stage detector such as Mask R-CNN"),
    (r"^proto_net|^prediction_layers", "a YOLACT model"),
    (r"^model\.\d+\.(conv|cv\d)|^model\.model\.\d+\.", "a YOLO model"),
    (r"^transformer\.|^class_embed|^detr\.", "a DETR-like model"),
    (r"^image_encoder\.|^mask_decoder\.", "a Segment Anything model"),
    (r"^bbox_head\.", "a detector of mmdetection with another head"),
    (r"^(backbone\.)?fc\.weight$|^layer1\.0\.conv1|^classifier\.", "a classification backbone without a SOLOv2 head"),
    (r"^backbone\.", "a network with a backbone but without a SOLOv2 head"),
)


def family_of(names: Iterable[str]) -> str | None:
    """Return the family whose head the names show, or None."""
    names = tuple(names)
    if any(name.startswith(("ins_head.", "backbone.bottom_up.")) for name in names):
        return "adelaidet" if any(name.startswith("ins_head.") for name in names) else None
    if any(name.startswith("mask_head.mask_feature_head.") for name in names):
        return "mmdetection"
    if any(name.startswith("mask_feat_head.") for name in names):
        return "authors"
    return None


def looks_like(names: Iterable[str]) -> str:
    """Say in words what a state dict without a SOLOv2 head looks like, for messages."""
    names = tuple(names)
    for pattern, text in _STRANGERS:
        if any(re.search(pattern, name) for name in names):
            return text
    return f"{len(names)} tensors of no network this program knows"


def canonical(state: Mapping[str, T]) -> tuple[dict[str, T], str]:
    """Rename a state dict to mmdetection 3's names.

    Args:
        state: name -> anything; only names are looked at. Wrapper prefixes and entries that are no weights go.

    Returns:
        The renamed dict and its family, one of :data:`FAMILIES`.

    Raises:
        InputError: not SOLOv2 names, or two names that become one.
    """
    plain = _without_prefix(state)
    strangers = looks_like(state)
    family = family_of(plain)
    if family is None or "PaddleDetection" in strangers:
        raise InputError(f"it holds no SOLOv2 of a known naming; it looks like {strangers}")
    renamed: dict[str, T] = {}
    for name, value in plain.items():
        if _IGNORED.search(name):
            continue
        new = _rename(name, family)
        if new in renamed:
            raise InputError(f"two of its tensors both mean {new}; the file mixes publishers' names")
        renamed[new] = value
    return _with_new_offsets(renamed), family


def _without_prefix(state: Mapping[str, T]) -> dict[str, T]:
    """Keep the names of modules' tensors, and strip wrapper prefixes that all of them carry."""
    plain = {name: value for name, value in state.items() if "." in name}
    while prefix := next((p for p in _WRAPPER_PREFIXES if plain and all(n.startswith(p) for n in plain)), None):
        plain = {name.removeprefix(prefix): value for name, value in plain.items()}
    return plain


def _block(match: re.Match[str]) -> str:
    return f"backbone.layer{int(match[1]) - 1}.{match[2]}"


def _layer(match: re.Match[str]) -> str:
    """Tower entries come in threes: convolution, GroupNorm, ReLU."""
    index = int(match[1])
    return f"{index // 3}.{('conv', 'gn', 'relu')[index % 3]}"


def _rename(name: str, family: str) -> str:
    if family == "authors":
        for pattern, replacement in _AUTHORS:
            if re.match(pattern, name):
                return re.sub(f"^{pattern}", replacement, name)
    elif family == "adelaidet":
        for pattern, build in _DETECTRON:
            if match := re.match(pattern, name):
                return build(match) + name[match.end() :]
    return name


def _with_new_offsets(state: dict[str, T]) -> dict[str, T]:
    """Move offset predictors that lie beside their convolution (module version < 2, detectron2) inside it.

    ``layer2.0.conv2_offset.weight`` becomes ``layer2.0.conv2.conv_offset.weight`` where ``layer2.0.conv2.weight``
    exists and the new name does not.
    """
    renamed: dict[str, T] = {}
    for name, value in state.items():
        match = _OLD_OFFSET.match(name)
        new = f"{match[1]}.conv_offset.{match[2]}" if match and f"{match[1]}.weight" in state else name
        renamed[name if new in state else new] = value
    return renamed
