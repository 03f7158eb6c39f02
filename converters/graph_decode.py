"""Decoding as part of a graph: candidates, masks and Matrix NMS in ordinary operators of fixed shapes.

The same instances as ``runtime/decode.py`` gives, without sorting in between: "mask i is better than mask j" is a
matrix, and Matrix NMS and the final order need nothing else. Ties are decided as on the host, by the candidates'
order, whatever an engine's top-k does with them. No loops, no conditions, no operator made for NMS.

Everything is computed in float32, whatever the network computes in: areas and intersections are counts of pixels,
which float16 cannot hold.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from solov2_edge.decode_choice import check_candidates
from solov2_edge.manifest import GraphDecode
from solov2_edge.runtime.quarter_masks import logit_bound
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = ["UNUSED_LOGIT", "GraphDecoder"]

UNUSED_LOGIT = -64.0  # of the masks of unused rows: background at every threshold, and a float16
LEAST_REST = 1e-12  # of 1 - IoU in the linear decay; the least that float32 knows above 0 is 6e-8


class GraphDecoder(nn.Module):
    """From class scores, kernels and mask features to scores, labels and quarter-scale mask logits.

    A format that gathers rows in its own way overrides :meth:`rows`.

    Args:
        spec: grids, strides and classes.
        decode: limits and thresholds, which become constants.

    Raises:
        InputError: more candidates than there are cells times classes.
    """

    def __init__(self, spec: ModelSpec, decode: GraphDecode) -> None:
        super().__init__()
        check_candidates(decode, spec)
        self.spec, self.decode = spec, decode
        self.bound = float(logit_bound(decode.mask_threshold))
        self.eval()

    def forward(self, class_scores: Tensor, kernels: Tensor, mask_features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one picture.

        Args:
            class_scores: (cells, classes) float32 in [0, 1], before points NMS.
            kernels: (cells, E) float32; 9 E for 3x3 kernels.
            mask_features: (E, h, w) float32; 5 E where each level has its own.

        Returns:
            scores (n,) float32, falling, 0 in unused rows; labels (n,) int32; mask logits (n, h, w) float32.
        """
        height, width = mask_features.shape[1:]
        class_score, place = torch.topk(self._candidates(class_scores), self.decode.max_candidates)
        cells = (place // self.spec.num_classes).to(torch.int32)
        labels = (place - cells * self.spec.num_classes).to(torch.int32)
        logits = self._logits(self.rows(kernels, cells), cells, mask_features)
        binary = (logits > self.bound).float()
        area = binary.sum(1)
        large = torch.logical_and(class_score > 0, area > self.smallest(cells))
        maskness = (logits.sigmoid() * binary).sum(1) / area.clamp(min=1.0)
        scores = class_score * maskness * large.float()

        better = _before(scores, place[:, None] < place[None, :])
        decayed = scores * self._decay(binary, area, labels, better)
        decayed = decayed * (decayed >= self.decode.keep_threshold).float()
        rank = _before(decayed, better).float().sum(0)
        kept = torch.topk(-rank, self.decode.max_instances).indices
        scores = self.rows(decayed[:, None], kept)[:, 0]
        used = (scores > 0).float()
        # Arithmetic in place of a choice, which Core ML would give a constant of every mask's size.
        masks = self.rows(logits, kept) * used[:, None] + (1 - used[:, None]) * UNUSED_LOGIT
        labels = self.rows(labels[:, None], kept)[:, 0] * used.to(torch.int32)
        return scores, labels, masks.reshape(-1, height, width)

    def run(self, raw: RawOutputs) -> DecodedOutputs:
        """Decode numpy's raw outputs in PyTorch, as an engine would."""
        arrays: tuple[NDArray[Any], ...] = (raw.class_scores, raw.kernels, raw.mask_features)
        with torch.inference_mode():
            outputs = self(*(torch.from_numpy(array) for array in arrays))
        return DecodedOutputs(*(output.contiguous().numpy() for output in outputs))

    def rows(self, table: Tensor, places: Tensor) -> Tensor:
        """Return (k, C) the rows ``places`` (k,) of a table (n, C)."""
        return table.index_select(0, places)

    def smallest(self, cells: Tensor) -> Tensor:
        """Return (k,) the area a mask of each of ``cells`` (k,) must exceed: the stride of its level."""
        area = torch.zeros(cells.shape)
        if not self.decode.area_filter:
            return area
        first, last = 0, 0
        for grid, stride in zip(self.spec.grids, self.spec.strides, strict=True):
            if stride != last:
                area = area + (cells >= first).float() * float(stride - last)
            first, last = first + grid * grid, stride
        return area

    def _logits(self, kernels: Tensor, cells: Tensor, mask_features: Tensor) -> Tensor:
        """Return the mask logits (k, h * w) of kernels (k, L) that belong to ``cells`` (k,)."""
        if self.spec.mask_features == "separate":
            # The features of all levels follow one another; a kernel is 0 outside its own level's.
            places, first = [], 0
            for grid in self.spec.grids:
                own = torch.logical_and(cells >= first, cells < first + grid * grid).float()
                places.append(kernels * own[:, None])
                first += grid * grid
            kernels = torch.cat(places, 1)
        if self.spec.kernel_size == 1:
            return kernels @ mask_features.flatten(1)
        height, width = mask_features.shape[1:]
        around = functional.pad(mask_features, (1, 1, 1, 1))
        taps = [around[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
        return kernels @ torch.stack(taps, 1).flatten(0, 1).flatten(1)

    def _candidates(self, class_scores: Tensor) -> Tensor:
        """Return (cells * classes,) scores, 0 where there is no candidate."""
        candidate = class_scores > self.decode.score_threshold
        if self.decode.points_nms:
            candidate = torch.logical_and(candidate, class_scores == self._peaks(class_scores))
        return (class_scores * candidate.float()).flatten()

    def _peaks(self, class_scores: Tensor) -> Tensor:
        """Return the largest of each cell and its left, upper and upper-left neighbours, (cells, classes)."""
        peaks, first = [], 0
        for grid in self.spec.grids:
            level = class_scores[first : first + grid * grid]
            first += grid * grid
            planes = level.reshape(1, grid, grid, self.spec.num_classes).permute(0, 3, 1, 2)
            pooled = functional.max_pool2d(functional.pad(planes, (1, 0, 1, 0)), 2, stride=1)
            peaks.append(pooled.permute(0, 2, 3, 1).reshape(-1, self.spec.num_classes))
        return torch.cat(peaks)

    def _decay(self, binary: Tensor, area: Tensor, labels: Tensor, better: Tensor) -> Tensor:
        """Return Matrix NMS's decay (k,) of binary masks (k, h * w); ``better[i, j]``: i comes before j."""
        common = binary @ binary.t()  # exact: whole numbers below 2^24
        union = (area[:, None] + area[None, :] - common).clamp(min=1.0)
        same = labels[:, None] == labels[None, :]
        iou = common / union * torch.logical_and(better, same).float()
        worst = iou.amax(0)[:, None]  # of row i: its largest overlap with a better mask
        # A row without overlap gives at least 1 and the best row at most 1, so that the minimum needs no bound.
        if self.decode.nms_kernel == "gaussian":
            return torch.exp((iou * iou - worst * worst) * -self.decode.nms_sigma).amin(0)
        return ((1 - iou) / (1 - worst).clamp(min=LEAST_REST)).amin(0)


def _before(scores: Tensor, tie: Tensor) -> Tensor:
    """Return (k, k) bool: whether i comes before j by falling score, ties as ``tie`` (k, k) has them."""
    mine, other = scores[:, None], scores[None, :]
    return torch.logical_or(mine > other, torch.logical_and(mine == other, tie))
