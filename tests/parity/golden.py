"""Golden cases: seeded weights rebuilt by name, and what mmdetection 3.3.0 computed from them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

FOLDER = Path(__file__).parent.parent / "data" / "golden"
CASES = {
    "light-448-r18": "mmdet_light448_r18_seed0.npz",
    "light-512-r50-dcnv1": "mmdet_light512_r50_dcnv1_seed0.npz",
}


@dataclass(frozen=True)
class Golden:
    """One case.

    Attributes:
        variant: name of the ModelSpec.
        arrays: the recorded arrays, by name.
        state: the rebuilt weights in mmdetection 3's names.
        frame: the picture, BGR uint8 (H, W, 3).
    """

    variant: str
    arrays: dict[str, NDArray[Any]]
    state: dict[str, torch.Tensor]
    frame: NDArray[np.uint8]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The final masks (n, H, W)."""
        n, height, width = self.arrays["result/masks_shape"]
        packed = self.arrays["result/masks_packed"]
        return np.unpackbits(packed, axis=1)[:, : height * width].reshape(n, height, width).astype(bool)


def seeded_tensor(name: str, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """Return the recorded run's weights: the same name, shape and seed give the same numbers everywhere (PCG64)."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))
    if name.endswith("num_batches_tracked"):
        return np.array(1000 + seed, np.int64)
    offset = "conv_offset" in name
    if len(shape) == 4:
        fan_in = int(np.prod(shape[1:]))
        gain = 0.5 / np.sqrt(fan_in) if offset else np.sqrt(2.0 / fan_in)
        return (rng.standard_normal(shape) * gain).astype(np.float32)
    if offset:
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)
    if name.endswith("running_mean"):
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)
    if name.endswith("running_var"):
        return (0.5 + rng.random(shape)).astype(np.float32)
    norm = ".gn." in name or ".bn" in name or "downsample.1" in name
    if norm and name.endswith("weight"):
        return (0.6 + 0.8 * rng.random(shape)).astype(np.float32)
    return (rng.standard_normal(shape) * (0.2 if norm else 0.1)).astype(np.float32)


def load_golden(variant: str) -> Golden:
    """Read a case and rebuild its weights."""
    with np.load(FOLDER / CASES[variant]) as stored:
        arrays = {key: stored[key] for key in stored.files}
    state = {}
    for line in arrays["meta/state_dict_keys"]:
        name, sizes = str(line).split("|")
        shape = tuple(int(size) for size in sizes.split(",") if size)
        value = seeded_tensor(name, shape, int(arrays["meta/seed"]))
        if f"scales/{name}" in arrays:
            value = (value * arrays[f"scales/{name}"]).astype(np.float32)
        value = arrays.get(f"weights/{name}", value)
        state[name] = torch.from_numpy(np.array(value)).reshape(shape)
    frame = cv2.imread(str(FOLDER / "images" / str(arrays["meta/image"])))
    assert frame is not None
    assert zlib.crc32(frame.tobytes()) == int(arrays["in/image_bgr_crc32"])
    return Golden(variant, arrays, state, np.asarray(frame, np.uint8))
