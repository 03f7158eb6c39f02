"""What a training framework wrote beside the weights: class names, test size, grids, epoch.

Everything here is optional in a checkpoint and comes from strangers, so it is read defensively: values of another
form than expected count as absent, and configuration text is searched with patterns, never run.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solov2_edge.coco_classes import COCO_CLASSES
from solov2_edge.errors import InputError
from solov2_edge.unpickle import Opaque

__all__ = ["TrainingMeta", "class_names_for", "training_meta"]

_LONGEST_CONFIG = 1 << 20  # characters; mmdetection's dumps are about 20 thousand
_NUMBER = {"f4": "<f", "f8": "<d", "i8": "<q", "i4": "<i"}  # numpy dtype code -> struct format of a scalar


@dataclass(frozen=True, slots=True)
class TrainingMeta:
    """Facts about the training.

    Attributes:
        class_names: as stored, or None.
        resize_box: (short, long) of the test pipeline in pixels, or None.
        grids: cells per side of each level, or None.
        scale_ranges: (low, high) per level in pixels, or None.
        facts: plain values worth showing: epoch, iteration, framework version.
    """

    class_names: tuple[str, ...] | None = None
    resize_box: tuple[int, int] | None = None
    grids: tuple[int, ...] | None = None
    scale_ranges: tuple[tuple[float, float], ...] | None = None
    facts: Mapping[str, str | int | float] | None = None


def training_meta(root: Any) -> TrainingMeta:
    """Read the ``meta`` entry of a checkpoint's top-level dict; absent or odd parts become None."""
    meta = root.get("meta") if isinstance(root, dict) else None
    if not isinstance(meta, dict):
        return TrainingMeta(facts={})
    config = next((meta[key] for key in ("config", "cfg") if isinstance(meta.get(key), str)), "")[:_LONGEST_CONFIG]
    facts = {key: value for key in ("epoch", "iter") if (value := _number(meta.get(key))) is not None}
    versions = {
        key: meta[key] for key in ("mmdet_version", "mmengine_version", "time") if isinstance(meta.get(key), str)
    }
    return TrainingMeta(
        class_names=_class_names(meta),
        resize_box=_resize_box(config),
        grids=_grids(config),
        scale_ranges=_scale_ranges(config),
        facts={**facts, **versions},
    )


def _number(value: Any) -> int | float | None:
    """Return a Python number, or the one inside a pickled numpy scalar."""
    if isinstance(value, int | float):
        return value
    if not isinstance(value, Opaque) or not value.name.endswith("multiarray.scalar") or len(value.args) != 2:
        return None
    dtype, raw = value.args
    code = dtype.args[0] if isinstance(dtype, Opaque) and dtype.args else None
    form = _NUMBER.get(code) if isinstance(code, str) else None
    if form is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(form):
        return None
    number: int | float = struct.unpack(form, raw)[0]
    return number


def _class_names(meta: dict[Any, Any]) -> tuple[str, ...] | None:
    dataset = meta.get("dataset_meta")
    inner = dataset if isinstance(dataset, dict) else {}
    for names in (meta.get("CLASSES"), inner.get("classes"), inner.get("CLASSES")):
        if isinstance(names, str) and names:
            return (names,)  # ``CLASSES = ('cell')``, a lost comma, is common in one-class datasets
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) and name for name in names):
            return tuple(names)
    return None


def _resize_box(config: str) -> tuple[int, int] | None:
    """Return (short, long) of the test pipeline: v1 and 2.x ``img_scale``, 3.x ``scale`` after ``test_pipeline``."""
    size = r"\(\s*(\d{2,5})\s*,\s*(\d{2,5})\s*\)"
    found = re.search(rf"MultiScaleFlipAug['\"]\s*,\s*img_scale\s*=\s*{size}", config)
    if found is None:
        _, _, tail = config.partition("test_pipeline")
        found = re.search(rf"(?<![a-z_])scale\s*=\s*{size}", tail)
    if found is None:
        return None
    short, long = sorted((int(found[1]), int(found[2])))
    return (short, long)


def _literal(config: str, name: str) -> Any:
    """Return the value of ``name=[...]`` or ``name=(...)`` in configuration text if it is a plain literal."""
    found = re.search(rf"(?<![A-Za-z_]){name}\s*=\s*([\[(][\d\s,.()\[\]]*[\])])\s*[,)\n]", config)
    if found is None:
        return None
    try:
        return ast.literal_eval(found[1])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _grids(config: str) -> tuple[int, ...] | None:
    value = _literal(config, "num_grids")
    good = (
        isinstance(value, list | tuple) and len(value) == 5 and all(isinstance(v, int) and 0 < v < 512 for v in value)
    )
    return tuple(value) if good else None


def _scale_ranges(config: str) -> tuple[tuple[float, float], ...] | None:
    value = _literal(config, "scale_ranges")
    if not isinstance(value, list | tuple) or len(value) != 5:
        return None
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(v, int | float) for v in pair):
            return None
        if not 0 <= pair[0] < pair[1]:
            return None
    return tuple((low, high) for low, high in value)


def class_names_for(count: int, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Name the ``count`` outputs of the class layer.

    The tensor decides how many classes there are. Stored names are used when there are as many (COCO's are spelt
    with spaces, also where the authors' release has underscores); without names 80 classes are COCO's and others
    ``class_0``, ``class_1``, .... No published SOLOv2 has a background output, so names that are one short are
    refused like any other number: nothing in the file tells which output to drop.

    Raises:
        InputError: the file names another number of classes.
    """
    if names is None:
        return COCO_CLASSES if count == len(COCO_CLASSES) else tuple(f"class_{index}" for index in range(count))
    if len(names) != count:
        hint = " (one more: a background class? SOLOv2 has none)" if count == len(names) + 1 else ""
        raise InputError(
            f"its class layer has {count} outputs{hint} but the file names {len(names)} classes; "
            f"give {count} names with read_checkpoint(path, class_names=...), or save it with the right CLASSES"
        )
    spaced = tuple(name.replace("_", " ") for name in names)
    return COCO_CLASSES if spaced == COCO_CLASSES else names
