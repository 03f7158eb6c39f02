"""Weights of an image classifier for the backbone: torchvision's ResNet state dicts, or timm's by name.

Their layout and names are the backbone's own, but for the classifier on top (``fc``). Everything else must be there
and fit: a backbone that is half pretrained trains like none.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solov2_edge.backbone import Backbone
from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError, require
from solov2_edge.file_kind import file_kind
from solov2_edge.recognise import mismatch
from solov2_edge.spec import ModelSpec
from solov2_edge.state_files import open_tensors

__all__ = ["TIMM", "read_backbone"]

TIMM = "timm:"
_CLASSIFIER = "fc."
_WRAP = "module."  # of a network saved out of DataParallel
_COUNTER = "num_batches_tracked"


def read_backbone(source: str, spec: ModelSpec) -> dict[str, Tensor]:
    """Return the backbone's weights by mmdetection names (``backbone.conv1.weight``, ...), float32.

    Args:
        source: a file (``.pth`` or ``.safetensors``), or ``timm:`` and the name of a model whose weights timm has.
        spec: the network they are for. Offsets of deformable convolutions are not among them and start at zero.

    Raises:
        InputError: not a state dict, not of this backbone, or weights that are not finite.
        MissingDependencyError: timm is asked for and not installed.
    """
    require(
        spec.backbone.style == "pytorch" and spec.channel_order == "rgb",
        f"{spec.name} has a Caffe-style backbone (stride on the first 1x1, BGR input), where torchvision's weights "
        "would fit and not work; take a full-* or light-* variant, or start from a checkpoint with --init",
    )
    found = _timm(source.removeprefix(TIMM)) if source.startswith(TIMM) else _file(Path(source))
    own = {name.removeprefix(_WRAP): tensor for name, tensor in found.items() if not name.endswith(_COUNTER)}
    own = {name: tensor for name, tensor in own.items() if not name.startswith(_CLASSIFIER)}
    with torch.device("meta"):
        expected = {
            name: tuple(tensor.shape)
            for name, tensor in Backbone(spec.backbone).state_dict().items()
            if not name.endswith(_COUNTER) and ".conv_offset." not in name
        }
    wrong = mismatch(expected, {name: tuple(tensor.shape) for name, tensor in own.items()})
    require(
        wrong is None,
        f"{source} is not the backbone of {spec.name}: {wrong}; give the ResNet of its depth, in torchvision's names",
    )
    bad = [name for name, tensor in own.items() if not bool(torch.isfinite(tensor).all())]
    require(not bad, f"{source} holds values that are not finite, for example in {bad[:1]}; download it again")
    return {f"backbone.{name}": tensor.to(torch.float32) for name, tensor in own.items()}


def _file(path: Path) -> Mapping[str, Tensor]:
    kind = file_kind(path)
    if kind.kind not in ("torch-zip", "pickle", "safetensors"):
        raise InputError(f"{path} holds no weights: it looks like {kind.text}")
    try:
        with open_tensors(path, kind.kind) as stored:
            return {name: tensor.load() for name, tensor in stored.items()}
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error


def _timm(name: str) -> Mapping[str, Tensor]:
    try:
        timm: Any = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "timm", "", f"the weights {TIMM}{name}", line="pip install timm, or give a file of torchvision's weights"
        ) from error
    require(bool(timm.list_models(name)), f"timm has no model {name!r}; name a ResNet, for example {TIMM}resnet18")
    try:
        state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise SolovEdgeError(f"timm cannot load {name}: {error}; give a file of torchvision's weights") from error
    return state
