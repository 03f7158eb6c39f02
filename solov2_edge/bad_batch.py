"""The pictures and targets a run stopped at, kept for whoever must find out why."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from solov2_edge.files import write_aside
from solov2_edge.train_step import Batch

__all__ = ["BAD_BATCH", "save_bad_batch"]

BAD_BATCH = "bad-batch.npz"


def save_bad_batch(folder: Path, batches: Sequence[Batch], names: Sequence[str]) -> Path:
    """Write what a step was given as ``bad-batch.npz``, readable with ``numpy.load``.

    Arrays: ``pictures`` (n,) file names over all passes; per pass k ``images_k`` (n, 3, H, W) and ``class_maps_k``
    (n, cells); per picture i of it ``cells_k_i`` and ``objects_k_i`` (pairs,) and ``masks_k_i`` (objects, H/4, W/4).
    """
    arrays: dict[str, np.ndarray] = {"pictures": np.array(list(names))}
    for k, (images, targets) in enumerate(batches):
        arrays |= {f"images_{k}": images.numpy(), f"class_maps_{k}": targets.class_maps.numpy()}
        for part in ("cells", "objects", "masks"):
            arrays |= {f"{part}_{k}_{i}": tensor.numpy() for i, tensor in enumerate(getattr(targets, part))}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
    return write_aside(folder / BAD_BATCH, stream.getvalue())
