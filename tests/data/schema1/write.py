"""Write the artefacts that later versions have to load: ``python tests/data/schema1/write.py``.

Run once per schema version, with the code of its time; what is kept is never written again. ``artefacts.zip`` holds a
tiny network of random weights in every format, each with its manifest beside it, and ``outputs.npz`` what each gives
for a fixed picture: class scores, kernels and mask features.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.cli import main
from solov2_edge.model import SOLOv2
from solov2_edge.opening import open_artefact
from solov2_edge.spec import BackboneSpec, ModelSpec

HERE = Path(__file__).resolve().parent
FORMATS = {"onnx": ".onnx", "tflite": ".tflite", "coreml": ".mlpackage", "ncnn": ".ncnn"}
HEIGHT, WIDTH = 64, 96
SPEC = ModelSpec(
    name="custom",
    class_names=("nut", "bolt"),
    backbone=BackboneSpec("basic", (1, 1, 1, 1), widths=(4, 4, 4, 4), stem_width=4),
    pyramid_width=4,
    tower_depth=1,
    tower_width=4,
    mask_width=4,
    mask_channels=4,
    norm_groups=2,
    grids=(8, 6, 4, 3, 2),
    resize_box=(HEIGHT, WIDTH),
)


def picture() -> np.ndarray:
    """Return the fixed picture, BGR uint8 (H, W, 3): a gradient with a square, exact on every machine."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frame = np.stack([2 * y, x, (x + y) % 256], axis=2).astype(np.uint8)
    frame[16:40, 24:64] = (30, 200, 90)
    return frame


def write() -> None:
    """Convert, run, and keep files and outputs."""
    if (HERE / "artefacts.zip").exists():
        sys.exit("artefacts.zip is kept for ever; a new schema version gets a folder of its own")
    torch.manual_seed(1)
    outputs = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_checkpoint(folder / "tiny.safetensors", SPEC, SOLOv2(SPEC).state_dict(), licence="CC0")
        words = ["convert", str(folder / "tiny.safetensors"), "--input-size", f"{HEIGHT}x{WIDTH}"]
        for name, suffix in FORMATS.items():
            assert main([*words, "--to", name, "-o", str(folder / "made"), "--quiet"]) == 0
            with open_artefact(folder / "made" / f"tiny.fp32{suffix}", threads=1) as segment:
                raw = segment.raw(picture())
            for part in ("class_scores", "kernels", "mask_features"):
                outputs[f"{name}.{part}"] = getattr(raw, part)
        with zipfile.ZipFile(HERE / "artefacts.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted((folder / "made").rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder / "made"))
    np.savez_compressed(HERE / "outputs.npz", **outputs)


if __name__ == "__main__":
    write()
