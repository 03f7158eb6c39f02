"""Graphs that decode: which options still can be chosen, and from their outputs to instances in frame pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.manifest import GraphDecode
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.matrix_nms import pack
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.quarter_masks import logit_bound
from solov2_edge.runtime.session import DecodedOutputs
from solov2_edge.runtime.upscale import axis_table, upscale_mask
from solov2_edge.spec import ModelSpec

__all__ = ["agreed_options", "baked_options", "decoded_instances"]


def baked_options(baked: GraphDecode) -> DecodeOptions:
    """Return what a graph decodes with as the options that do the same on the host."""
    return DecodeOptions(**asdict(baked))


def agreed_options(baked: GraphDecode, given: Mapping[str, Any]) -> DecodeOptions:
    """Return the options of a graph that decodes, with those given where the graph leaves the choice.

    Two can be made stricter afterwards with the very result the graph would have given: ``keep_threshold`` and
    ``max_instances`` only decide how many of the best instances are returned. Every other option decides which masks
    decay which.

    Args:
        baked: what the graph decodes with.
        given: fields of DecodeOptions.

    Raises:
        InputError: an option contradicts the graph.
    """
    own = baked_options(baked)
    for name, value in given.items():
        made = getattr(own, name)
        stricter = {"keep_threshold": ("at least", value > made), "max_instances": ("at most", value < made)}
        words, allowed = stricter.get(name, ("exactly", False))
        require(
            value == made or allowed,
            f"{name} was baked into this artefact, which decodes inside its graph: expected {words} {made!r}, got "
            f"{value!r}; give that, convert again with another value, or with --decode host, which leaves the choice",
        )
    return replace(own, **given)


def decoded_instances(
    outputs: DecodedOutputs, geometry: Geometry, spec: ModelSpec, options: DecodeOptions
) -> Instances:
    """Return the instances of one frame, scores falling.

    Args:
        outputs: what the graph gave.
        geometry: how the frame became the network's input.
        spec: class names.
        options: from :func:`agreed_options`; ``keep_threshold``, ``max_instances`` and ``mask_threshold`` are used.

    Raises:
        InputError: a label that is no class of the spec.
        SolovEdgeError: the masks hold NaN or infinity.
    """
    count = min(int(np.count_nonzero(outputs.scores >= options.keep_threshold)), options.max_instances)
    logits = outputs.masks[:count]
    if not np.isfinite(logits).all():
        raise SolovEdgeError(
            "the artefact produced non-finite values (NaN or infinity) in its masks; "
            "convert the checkpoint again at a higher precision"
        )
    threshold = options.mask_threshold
    boxes = pack(logits > logit_bound(threshold)).boxes
    vertical = axis_table(outputs.masks.shape[1], geometry.resized_height, geometry.frame_height)
    horizontal = axis_table(outputs.masks.shape[2], geometry.resized_width, geometry.frame_width)
    found = [upscale_mask(mask, box, vertical, horizontal, threshold) for mask, box in zip(logits, boxes, strict=True)]
    masks = CroppedMasks(
        geometry.frame_height,
        geometry.frame_width,
        tuple(corner for corner, _ in found),
        tuple(crop for _, crop in found),
    )
    # The engine's buffers may be reused for the next frame.
    return Instances(outputs.scores[:count].copy(), outputs.labels[:count].astype(np.int64), spec.class_names, masks)
