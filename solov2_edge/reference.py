"""The oracle: SOLOv2 inference in PyTorch exactly as the reference does it, dense and unhurried.

Steps, thresholds and their order are those of the authors' code and mmdetection 3.3 (the same, bit for bit), which
the paper's text does not spell out: points NMS, the area filter, maskness, the 0.05 and top-100 cuts. The Gaussian
decay is ``exp(-sigma * iou^2)`` with sigma 2, as every implementation has it; the paper writes ``exp(-iou^2 / sigma)``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from solov2_edge.checkpoint import load_model
from solov2_edge.dynamic_conv import dynamic_logits
from solov2_edge.errors import InputError
from solov2_edge.model import PanopticOutputs, SOLOv2
from solov2_edge.panoptic_oracle import oracle_merge
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic import Panoptic, PanopticOptions
from solov2_edge.runtime.panoptic_merge import require_stuff
from solov2_edge.runtime.pictures import as_frame
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess, reference_geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = ["Reference", "load_reference", "matrix_nms", "oracle_decode", "points_nms", "reference_from_model"]


def points_nms(scores: Tensor) -> Tensor:
    """Keep a class score only where it is the maximum of itself, its left, upper and upper-left neighbour.

    Args:
        scores: (classes, S, S) of one level; others become 0. Ties survive.
    """
    peak = functional.max_pool2d(scores[None], 2, stride=1, padding=1)[0, :, :-1, :-1]
    return scores * (peak == scores)


def matrix_nms(masks: Tensor, labels: Tensor, scores: Tensor, kernel: str = "gaussian", sigma: float = 2.0) -> Tensor:
    """Decay scores by overlap with better masks of the same class (paper section 3.4, equations 4 and 5).

    Args:
        masks: (n, h, w) bool, in falling order of score.
        labels: (n,) int64.
        scores: (n,) float, falling.
        kernel: ``"gaussian"``: exp(-sigma iou^2); ``"linear"``: 1 - iou. An exact duplicate under the linear kernel
            would divide by zero; it decays to 0.
        sigma: of the Gaussian kernel.

    Returns:
        (n,) float, the decayed scores in the same order.
    """
    flat = masks.flatten(1).float()
    overlap = flat @ flat.T
    area = flat.sum(dim=1)
    iou = (overlap / (area[:, None] + area[None, :] - overlap)).triu(diagonal=1)
    iou = iou * (labels[:, None] == labels[None, :]).triu(diagonal=1)
    compensate = iou.max(dim=0).values[:, None]  # (n, 1): the largest overlap of row i with a better mask
    if kernel == "gaussian":
        decay = torch.exp(-sigma * iou**2) / torch.exp(-sigma * compensate**2)
    else:
        # 0 / 0 marks the duplicate of an exact duplicate; the reference's NaN drops it from the result.
        decay = ((1 - iou) / (1 - compensate)).nan_to_num(nan=0.0, posinf=torch.inf)
    return scores * decay.min(dim=0).values


def oracle_decode(raw: RawOutputs, geometry: Geometry, spec: ModelSpec, options: DecodeOptions) -> Instances:
    """Decode raw outputs as the reference does, every step on whole maps.

    Args:
        raw: outputs of any engine for one frame.
        geometry: how the frame was brought into the network input.
        spec: grids and strides.
        options: thresholds and the NMS kernel.

    Returns:
        Instances in frame pixels, scores falling.
    """
    frame_size = (geometry.frame_height, geometry.frame_width)
    empty = Instances.empty(*frame_size, spec.class_names)
    scores_all, strides = [], []
    first = 0
    for grid, stride in zip(spec.grids, spec.strides, strict=True):
        level = torch.from_numpy(raw.class_scores[first : first + grid * grid])
        if options.points_nms:
            level = points_nms(level.T.reshape(-1, grid, grid)).flatten(1).T
        scores_all.append(level)
        strides.append(torch.full((grid * grid,), stride))
        first += grid * grid
    class_scores = torch.cat(scores_all)
    cells, labels = torch.nonzero(class_scores > options.score_threshold, as_tuple=True)
    scores = class_scores[cells, labels]
    if len(cells) == 0:
        return empty

    features = torch.from_numpy(raw.mask_features)
    logits = dynamic_logits(torch.from_numpy(raw.kernels), features, cells, spec)
    probabilities = logits.sigmoid().view(-1, *features.shape[1:])
    masks = probabilities > options.mask_threshold
    area = masks.sum(dim=(1, 2))
    keep = area > (torch.cat(strides)[cells] if options.area_filter else 0)
    if not keep.any():
        return empty
    probabilities, masks, area = probabilities[keep], masks[keep], area[keep]
    maskness = (probabilities * masks).sum(dim=(1, 2)) / area
    scores, labels = scores[keep] * maskness, labels[keep]

    order = scores.argsort(descending=True, stable=True)[: options.max_candidates]
    probabilities, masks, scores, labels = probabilities[order], masks[order], scores[order], labels[order]
    scores = matrix_nms(masks, labels, scores, options.nms_kernel, options.nms_sigma)
    kept = torch.nonzero(scores >= options.keep_threshold)[:, 0]
    kept = kept[scores[kept].argsort(descending=True, stable=True)][: options.max_instances]
    if len(kept) == 0:
        return empty
    final = _frame_masks(probabilities[kept], geometry) > options.mask_threshold
    return Instances.from_masks(final.numpy(), scores[kept].numpy(), labels[kept].numpy(), spec.class_names)


def _frame_masks(probabilities: Tensor, geometry: Geometry) -> Tensor:
    """Bring maps (n, h, w) to frame size: bilinear to the input, crop to the picture, bilinear again."""
    size = (probabilities.shape[-2] * 4, probabilities.shape[-1] * 4)
    full = functional.interpolate(probabilities[None], size=size, mode="bilinear", align_corners=False)
    full = full[..., : geometry.resized_height, : geometry.resized_width]
    frame = (geometry.frame_height, geometry.frame_width)
    return functional.interpolate(full, size=frame, mode="bilinear", align_corners=False)[0]


class Reference:
    """The PyTorch model behind the interface of a Segmenter.

    Args:
        model: the network; it is put into evaluation mode.
        options: decoding.
        input_size: (H, W) for the fixed geometry an artefact of that size has; None for the reference's own: aspect
            kept inside the spec's resize box, padded to multiples of 32.

    Attributes:
        spec: the network's spec.
        engine: ``"pytorch <version>"``.
        providers: where it runs.
        timings: milliseconds of preprocess, network and decode of the last frame.
    """

    def __init__(self, model: SOLOv2, options: DecodeOptions, input_size: tuple[int, int] | None = None) -> None:
        self.model = model.eval()
        self.spec = model.spec
        self.options = options
        self.input_size = input_size
        self.engine = f"pytorch {torch.__version__}"
        self.providers = (str(next(model.parameters()).device),)
        self.timings: dict[str, float] = {}

    def geometry(self, height: int, width: int) -> Geometry:
        """Return how a frame of height x width pixels comes into the network."""
        if self.input_size is None:
            return reference_geometry(height, width, self.spec.resize_box)
        return fixed_geometry(height, width, *self.input_size)

    def raw(self, frame: NDArray[Any]) -> RawOutputs:
        """Return the network's raw outputs for a BGR uint8 frame (H, W, 3)."""
        return self._raw(as_frame(frame))[0]

    def run_batch(self, batch: NDArray[np.float32]) -> RawOutputs:
        """Run the network on one normalised input (1, 3, H, W) float32."""
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            out = self.model(torch.from_numpy(batch).to(device))
        return RawOutputs(
            out.class_logits[0].sigmoid().float().cpu().numpy(),
            out.kernels[0].float().cpu().numpy(),
            out.mask_features[0].float().cpu().numpy(),
            out.semantic_logits[0].float().cpu().numpy() if isinstance(out, PanopticOutputs) else None,
        )

    def __call__(self, frame: NDArray[Any]) -> Instances:
        """Return the instances of a BGR uint8 frame (H, W, 3), masks in its pixels."""
        raw, geometry = self._raw(as_frame(frame))
        with self._timed("decode"):
            return oracle_decode(raw, geometry, self.spec, self.options)

    def panoptic(self, frame: NDArray[Any], options: PanopticOptions | None = None) -> Panoptic:
        """Return the panoptic map of a BGR uint8 frame (H, W, 3), in its pixels.

        Raises:
            InputError: the network has no stuff.
        """
        raw, geometry = self._raw(as_frame(frame))
        with self._timed("decode"):
            logits = torch.from_numpy(require_stuff(raw, self.spec))
            instances = oracle_decode(raw, geometry, self.spec, self.options)
            return oracle_merge(instances, _frame_masks(logits, geometry), self.spec, options or PanopticOptions())

    def close(self) -> None:
        """Nothing is held open; here so that a Reference and a Segmenter close alike."""

    def _raw(self, frame: NDArray[np.uint8]) -> tuple[RawOutputs, Geometry]:
        with self._timed("preprocess"):
            geometry = self.geometry(*frame.shape[:2])
            batch = preprocess(frame, geometry, "tensor", self.spec)
        with self._timed("network"):
            return self.run_batch(batch), geometry

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings[stage] = (time.perf_counter() - started) * 1e3


def reference_from_model(model: SOLOv2, *, input_size: tuple[int, int] | None = None, **options: Any) -> Reference:
    """Wrap a model in memory; ``options`` are the fields of :class:`DecodeOptions`.

    Raises:
        InputError: an option is unknown or out of range.
    """
    try:
        decode_options = DecodeOptions(**options)
    except TypeError as error:
        raise InputError(f"unknown option: {error}; expected the fields of DecodeOptions") from error
    return Reference(model, decode_options, input_size)


def load_reference(
    path: str | os.PathLike[str],
    *,
    variant: str | None = None,
    input_size: tuple[int, int] | None = None,
    **options: Any,
) -> Reference:
    """Load a checkpoint of any known family as a Reference.

    Args:
        path: the checkpoint.
        variant: overrules what the tensors tell, where they leave a choice.
        input_size: see :class:`Reference`.
        options: the fields of :class:`DecodeOptions`.

    Raises:
        InputError: the file is no checkpoint this project can load, or an option is unknown.
    """
    model, _ = load_model(path, variant)
    return reference_from_model(model, input_size=input_size, **options)
