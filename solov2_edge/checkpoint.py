"""Checkpoints in and out: any publisher's file becomes a spec and a state dict; our own is safetensors.

Reading never runs code from the file (``unpickle``), never allocates more than the file can hold (``stored``), and
either ends with every tensor of the network or with one sentence about what is wrong.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from solov2_edge.errors import InputError, require
from solov2_edge.file_kind import file_kind
from solov2_edge.files import write_aside
from solov2_edge.manifest import sha256_of
from solov2_edge.model import SOLOv2
from solov2_edge.recognise import mismatch
from solov2_edge.safetensors_header import with_sorted_metadata
from solov2_edge.spec import ModelSpec
from solov2_edge.state_files import LICENCE_KEY, SPEC_KEY, Contents, read_contents
from solov2_edge.zoo import licence_of

__all__ = ["Checkpoint", "expected_shapes", "load_model", "read_checkpoint", "save_checkpoint"]

_COUNTER = "num_batches_tracked"
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# A running variance may leave float16's range and its small values its precision; both are a few kilobytes.
_ALWAYS_FLOAT32 = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network's weights and what is known about them.

    Attributes:
        spec: the network.
        state: mmdetection-3 name -> float32 tensor on the CPU; without BatchNorm's batch counters.
        family: ``"authors"``, ``"mmdetection"``, ``"adelaidet"`` or ``"solov2-edge"``.
        path: the file it was read from.
        sha256: of that file.
        licence: of the weights, as far as the file tells.
        meta: plain values: ``weights`` (which entry was read), ``dtype`` (as stored), epoch, versions, metadata.
    """

    spec: ModelSpec
    state: dict[str, Tensor]
    family: str
    path: Path
    sha256: str
    licence: str
    meta: dict[str, Any]


def read_checkpoint(
    path: str | os.PathLike[str], variant: str | None = None, class_names: tuple[str, ...] | None = None
) -> Checkpoint:
    """Read a checkpoint of any supported family.

    Args:
        path: ``.pth``, ``.pkl``, ``.safetensors``, ...; the content decides, not the suffix.
        variant: name of the variant to assume where tensors leave a choice (``light-512-r50-dcnv2``); it must agree
            with them.
        class_names: names in channel order that replace the stored ones.

    Raises:
        InputError: not a checkpoint, truncated, another network, not the variant asked for, or weights that are not
            finite; one sentence says what the file looks like or which tensors are missing, extra or mis-shaped.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind.kind not in ("torch-zip", "pickle", "safetensors"):
        raise InputError(f"{path} is not a checkpoint: it looks like {kind.text}")
    try:
        with read_contents(path, kind.kind, variant, class_names) as contents:
            state = _load_state(contents, path.stat().st_size)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    digest = sha256_of(path)
    licence = contents.metadata.get(LICENCE_KEY) or licence_of(contents.family, digest)
    return Checkpoint(contents.spec, state, contents.family, path, digest, licence, contents.meta)


def load_model(
    path: str | os.PathLike[str], variant: str | None = None, class_names: tuple[str, ...] | None = None
) -> tuple[SOLOv2, Checkpoint]:
    """Read a checkpoint and build its network, in evaluation mode, on the CPU.

    Args and errors are those of :func:`read_checkpoint`.
    """
    checkpoint = read_checkpoint(path, variant, class_names)
    with _NoInitialisation():
        model = SOLOv2(checkpoint.spec)
    counters = {name: value for name, value in model.state_dict().items() if name.endswith(_COUNTER)}
    model.load_state_dict({**counters, **checkpoint.state}, strict=True)
    return model.eval(), checkpoint


def save_checkpoint(
    path: str | os.PathLike[str],
    spec: ModelSpec,
    state: Mapping[str, Tensor],
    *,
    dtype: str = "float32",
    licence: str = "",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights and spec as safetensors: aside, then renamed into place.

    Args:
        path: where to; conventionally ``.safetensors``.
        spec: the network; stored as JSON in the file's metadata.
        state: mmdetection-3 names, as ``SOLOv2(spec).state_dict()`` has them; batch counters are left out.
        dtype: ``"float32"`` or ``"float16"``; BatchNorm's running statistics stay float32 in both.
        licence: of the weights, in words a user can act on.
        metadata: further strings to keep, for example how it was trained.

    Raises:
        InputError: the state is not that of ``spec``, a weight is not finite, or not within float16's range.
    """
    from safetensors.torch import save

    require(dtype in ("float32", "float16"), f"dtype must be float32 or float16, got {dtype!r}")
    reserved = sorted({SPEC_KEY, LICENCE_KEY, "format"} & set(metadata or {}))
    require(not reserved, f"metadata must not use the names {reserved}; they are taken")
    weights = {name: tensor.detach() for name, tensor in state.items() if not name.endswith(_COUNTER)}
    wrong = mismatch(expected_shapes(spec), {name: tuple(tensor.shape) for name, tensor in weights.items()})
    require(wrong is None, f"the weights are not those of {spec.name}: {wrong}")
    target = torch.float16 if dtype == "float16" else torch.float32
    tensors = {}
    for name, tensor in weights.items():
        kept = torch.float32 if name.endswith(_ALWAYS_FLOAT32) else target
        tensors[name] = tensor.to("cpu", kept).contiguous().clone()
        _require_finite(name, tensors[name], f"as {str(kept).removeprefix('torch.')} ")
    words = {**(metadata or {}), SPEC_KEY: json.dumps(spec.to_dict()), LICENCE_KEY: licence, "format": "pt"}
    write_aside(path, with_sorted_metadata(save(tensors, words)))


def expected_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return name -> sizes of every tensor a checkpoint of ``spec`` must have; nothing is allocated."""
    with torch.device("meta"), _NoInitialisation():
        model = SOLOv2(spec)
    return {name: tuple(v.shape) for name, v in model.state_dict().items() if not name.endswith(_COUNTER)}


class _NoInitialisation(TorchFunctionMode):
    """Leaves parameters undrawn: they are overwritten, or only their shapes are asked for.

    Drawing takes seconds for a ResNet-101, and on the meta device loads half of torch.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _load_state(contents: Contents, size: int) -> dict[str, Tensor]:
    """Compare the tensors with the spec's, then read them as float32."""
    shapes = {name: tensor.shape for name, tensor in contents.tensors.items()}
    wrong = mismatch(expected_shapes(contents.spec), shapes)
    if wrong is not None:
        raise InputError(f"it looks like {contents.spec.name} ({contents.family} naming), but tensors differ: {wrong}")
    total = sum(math.prod(shape) for shape in shapes.values())
    require(total <= size, f"it declares {total} weights in {size} bytes; the file is damaged")
    state = {}
    for name, tensor in contents.tensors.items():
        require(
            tensor.dtype in _FLOATS,
            f"the tensor {name} holds {tensor.dtype} numbers, expected one of {', '.join(_FLOATS)}; rounded weights "
            "are no weights to convert: save the network's own",
        )
        state[name] = tensor.load().to(torch.float32)
        _require_finite(name, state[name], "")
    return state


def _require_finite(name: str, tensor: Tensor, how: str) -> None:
    bad = int((~torch.isfinite(tensor)).sum())
    require(
        bad == 0,
        f"the tensor {name} {how}has {bad} values that are not finite (NaN or infinite); the training diverged or "
        "the file is damaged: use an earlier checkpoint",
    )
