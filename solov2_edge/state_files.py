"""From a checkpoint file to named tensors and the spec they fit, tensors still in the file.

Wrappers: ``state_dict`` (mmdetection, Lightning), ``model`` (detectron2), ``ema_state_dict``, or a bare state dict.
mmengine swaps the averaged weights into ``state_dict`` when it saves and leaves the raw ones in ``ema_state_dict``
(recognised by its ``steps`` counter); any other file's ``ema_state_dict`` holds the averages. The averages are read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError
from solov2_edge.naming import canonical, looks_like
from solov2_edge.recognise import recognise
from solov2_edge.spec import ModelSpec
from solov2_edge.stored import PickledFile, StoredTensor
from solov2_edge.torch_files import open_pickled
from solov2_edge.training_meta import TrainingMeta, training_meta

__all__ = ["LICENCE_KEY", "SPEC_KEY", "Contents", "open_tensors", "read_contents"]

SPEC_KEY = "solov2_edge.spec"
LICENCE_KEY = "licence"
_CAFFE_MEAN = 103.53  # blue first: the mean of Caffe-style weights, 0..255
_SAFETENSORS_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint file holds.

    Attributes:
        spec: the network.
        tensors: mmdetection-3 name -> tensor in the file; usable while the file is open.
        family: see ``checkpoint.Checkpoint``.
        meta: plain values for ``checkpoint.Checkpoint.meta``.
        metadata: a safetensors file's strings.
    """

    spec: ModelSpec
    tensors: dict[str, StoredTensor]
    family: str
    meta: dict[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def read_contents(
    path: Path, kind: str, variant: str | None, class_names: tuple[str, ...] | None
) -> Iterator[Contents]:
    """Open a file of the given kind (see ``file_kind``) while the context lasts.

    Raises:
        InputError: as ``checkpoint.read_checkpoint``, without the path.
    """
    if kind == "safetensors":
        with _safetensors(path) as (stored, metadata):
            yield _of_safetensors(stored, metadata, variant, class_names)
        return
    with open_pickled(path, kind) as pickled:
        entry, found = _select(pickled)
        meta = training_meta(pickled.root)
        facts = {"weights": entry, **(meta.facts or {})}
        yield _recognised(found, meta, variant, class_names, facts)


@contextmanager
def open_tensors(path: Path, kind: str) -> Iterator[dict[str, StoredTensor]]:
    """Open the tensors of a file of the given kind while the context lasts, under the names they have there.

    Raises:
        InputError: truncated, damaged or without tensors.
    """
    if kind == "safetensors":
        with _safetensors(path) as (stored, _):
            yield stored
        return
    with open_pickled(path, kind) as pickled:
        yield _select(pickled)[1]


def _recognised(
    stored: dict[str, StoredTensor],
    meta: TrainingMeta,
    variant: str | None,
    class_names: tuple[str, ...] | None,
    facts: dict[str, Any],
) -> Contents:
    tensors, family = canonical(stored)
    if family == "adelaidet" and variant is None:
        _require_caffe_style(stored)
    spec = recognise({name: t.shape for name, t in tensors.items()}, family, meta, variant, class_names)
    return Contents(spec, tensors, family, {**facts, "dtype": _dtype(tensors)})


def _dtype(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the element type of most weights."""
    kinds = [tensor.dtype for tensor in tensors.values()]
    return max(sorted(set(kinds)), key=kinds.count) if kinds else "none"


def _require_caffe_style(stored: Mapping[str, StoredTensor]) -> None:
    """Refuse AdelaiDet files of torchvision style (DenseCL): same tensors, another input and stride placement."""
    trained_norm = any(name.endswith("num_batches_tracked") for name in stored)
    mean = stored.get("pixel_mean")
    rgb = mean is not None and mean.load().flatten()[0].item() > _CAFFE_MEAN + 1
    if trained_norm or rgb:
        raise InputError(
            "it is an AdelaiDet model that was not trained in Caffe style (BGR, frozen norm), and tensors do not show "
            "its input; name the variant: full-r50 (RGB, torchvision style) or adelaidet-r50 (BGR, Caffe style)"
        )


def _select(pickled: PickledFile) -> tuple[str, dict[str, StoredTensor]]:
    """Return which entry of the file holds the weights, in words, and its tensors."""
    root = pickled.root
    if not isinstance(root, dict):
        raise InputError(
            f"its content is a {type(root).__name__.lower()}, not a dictionary of weights; "
            "save the model's state_dict(), not the model"
        )
    for key in ("state_dict", "model"):
        plain = _tensors(pickled, root.get(key))
        if not plain:
            continue
        averages = _tensors(pickled, root.get("ema_state_dict"))
        if averages and "steps" in averages:
            return f"{key} (averaged weights)", plain
        return ("ema_state_dict (averaged weights)", averages) if averages else (key, plain)
    alone = _tensors(pickled, root.get("ema_state_dict"))
    bare = alone or _tensors(pickled, root)
    if bare:
        return "ema_state_dict (averaged weights)" if alone else "bare state dict", bare
    names = [str(name) for name in root]
    raise InputError(
        f"it holds no tensors, only {', '.join(names[:5]) or 'an empty dictionary'}; give the file that has the weights"
    )


def _tensors(pickled: PickledFile, mapping: Any) -> dict[str, StoredTensor]:
    if not isinstance(mapping, dict):
        return {}
    found = {}
    for name, value in mapping.items():
        tensor = pickled.stored(value) if isinstance(name, str) else None
        if tensor is not None:
            found[name] = tensor
        elif name == "StructuredToParameterName@@":
            raise InputError(f"it looks like {looks_like([name])}; use the authors' or mmdetection's checkpoints")
    return found


@contextmanager
def _safetensors(path: Path) -> Iterator[tuple[dict[str, StoredTensor], dict[str, str]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as archive:
            stored = {}
            for name in archive.keys():  # noqa: SIM118 - not a dict
                view = archive.get_slice(name)
                dtype = _SAFETENSORS_DTYPES.get(view.get_dtype(), view.get_dtype().lower())
                load = functools.partial(archive.get_tensor, name)
                stored[name] = StoredTensor(tuple(view.get_shape()), dtype, load)
            yield stored, dict(archive.metadata() or {})
    except SafetensorError as error:
        raise InputError(f"its safetensors header or data is truncated or damaged ({error})") from error


def _of_safetensors(
    stored: dict[str, StoredTensor], metadata: dict[str, str], variant: str | None, class_names: tuple[str, ...] | None
) -> Contents:
    words = {key: value for key, value in metadata.items() if key not in (SPEC_KEY, LICENCE_KEY, "format")}
    facts: dict[str, Any] = {"weights": "safetensors", **({"metadata": words} if words else {})}
    if SPEC_KEY not in metadata:
        return _recognised(stored, TrainingMeta(), variant, class_names, facts)
    try:
        spec = ModelSpec.from_dict(json.loads(metadata[SPEC_KEY]))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the spec in its metadata cannot be read: {error}") from error
    tensors, _ = canonical(stored)
    if variant is not None:
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        spec = recognise(shapes, "mmdetection", TrainingMeta(), variant, class_names or spec.class_names)
    elif class_names is not None:
        spec = replace(spec, class_names=class_names)
    return Contents(spec, tensors, "solov2-edge", {**facts, "dtype": _dtype(tensors)}, metadata)
