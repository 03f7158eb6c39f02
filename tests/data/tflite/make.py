"""Make the files beside this one: a real network's .tflite, so that the runtime is tested without a converter.

Run from the checkout, with the conversion extras installed::

    python tests/data/tflite/make.py

- ``narrow.fp32.tflite.gz``, ``narrow.int8-dynamic.tflite.gz``: a SOLOv2 with random weights and three classes, 64x96;
  gzip leaves a quarter of what is mostly names.
- ``narrow.npz``: ``image`` (1, 64, 96, 3) uint8 and what PyTorch makes of it: ``class_scores`` (cells, 3),
  ``kernels`` (cells, 8), ``mask_features`` (8, 16, 24), float32.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from solov2_edge.converters.to_tflite import export_tflite
from solov2_edge.converters.traceable import Traceable
from solov2_edge.manifest import InputContract, manifest_path
from solov2_edge.model import SOLOv2
from solov2_edge.spec import BackboneSpec, ModelSpec

HERE = Path(__file__).parent
SPEC = ModelSpec(
    name="narrow",
    class_names=("ant", "bee", "cat"),
    backbone=BackboneSpec("basic", (1, 1, 1, 1), (8, 8, 8, 8), 8),
    pyramid_width=8,
    tower_depth=1,
    tower_width=8,
    mask_width=8,
    mask_channels=8,
    norm_groups=2,
    grids=(10, 8, 6, 4, 2),
    resize_box=(64, 96),
)


def lively() -> SOLOv2:
    """Return a network whose outputs have a range: scores on both sides of 0.1, kernels of either sign."""
    torch.manual_seed(0)
    model = SOLOv2(SPEC)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 4:
                torch.nn.init.normal_(parameter, std=1.4 / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                torch.nn.init.uniform_(parameter, 0.6, 1.4)
            else:
                torch.nn.init.normal_(parameter, std=0.2)
        model.train()
        for _ in range(20):  # for batch statistics of real activations
            model(torch.randn(2, 3, 64, 96))
        model.eval()
        logits = model(torch.randn(1, 3, 64, 96)).class_logits
        model.mask_head.conv_cls.weight *= 2 / logits.std()
        model.mask_head.conv_cls.bias.fill_(-3)
    return model.eval()


def main() -> None:
    """Write the files."""
    model = lively()
    image = np.random.default_rng(7).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    raw = Traceable(model, InputContract("image", 64, 96)).run(image)
    arrays = {name: getattr(raw, name) for name in ("class_scores", "kernels", "mask_features")}
    np.savez_compressed(HERE / "narrow.npz", image=image, **arrays)
    for precision in ("fp32", "int8-dynamic"):
        path = HERE / f"narrow.{precision}.tflite"
        export_tflite(model, path, height=64, width=96, precision=precision, weights_licence="CC0-1.0")
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
        manifest_path(path).unlink()  # the one inside is enough here


if __name__ == "__main__":
    main()
