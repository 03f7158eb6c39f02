"""The oracle of panoptic merging: dense masks in PyTorch, one pixel rule after another, unhurried.

Written from the papers, apart from the runtime's numpy, which has to give the same: Kirillov et al., Panoptic
Segmentation (CVPR 2019), and Panoptic Feature Pyramid Networks (CVPR 2019), section 3.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic import Panoptic, PanopticOptions, PanopticSegment
from solov2_edge.spec import ModelSpec

__all__ = ["oracle_merge"]


def oracle_merge(instances: Instances, logits: Tensor, spec: ModelSpec, merging: PanopticOptions) -> Panoptic:
    """Merge the instances of a frame with its semantic logits.

    Args:
        instances: scores falling.
        logits: (stuff + 1, H, W) float, enlarged to the frame.
        spec: names of things and stuff.
        merging: thresholds.
    """
    semantic = logits.argmax(dim=0)
    ids = torch.zeros_like(semantic)
    segments: list[PanopticSegment] = []
    for mask, score, label in zip(torch.from_numpy(instances.masks), instances.scores, instances.labels, strict=True):
        taken = mask & (ids > 0)
        free = mask & (ids == 0)
        if score < merging.score_threshold or not free.any():
            continue
        if int(taken.sum()) > merging.overlap_threshold * int(mask.sum()):
            continue
        segments.append(PanopticSegment(len(segments) + 1, int(label), True, float(score), int(free.sum())))
        ids[free] = len(segments)
    unclaimed = ids == 0
    for channel, _ in enumerate(spec.stuff_names):
        mask = unclaimed & (semantic == channel)
        area = int(mask.sum())
        if area > 0 and area >= merging.stuff_area:
            label = spec.num_classes + channel
            segments.append(PanopticSegment(len(segments) + 1, label, False, None, area))
            ids[mask] = len(segments)
    return Panoptic(ids.numpy().astype(np.int32), tuple(segments), spec.panoptic_names, instances)
