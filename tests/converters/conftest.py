"""Small networks whose outputs have a range, and artefacts of them made once per run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import Manifest, sha256_of
from solov2_edge.model import SOLOv2
from solov2_edge.spec import BackboneSpec, ModelSpec

PLAIN = ModelSpec(
    name="small",
    class_names=("ant", "bee", "cat"),
    backbone=BackboneSpec("basic", (1, 1, 1, 1), (8, 8, 16, 16), 8),
    pyramid_width=16,
    tower_width=16,
    mask_width=16,
    mask_channels=8,
    norm_groups=4,
    grids=(10, 8, 6, 4, 2),
    resize_box=(64, 96),
)


def with_dcn(flavour: str) -> ModelSpec:
    backbone = BackboneSpec("bottleneck", (1, 1, 1, 1), (8, 8, 8, 8), 8, dcn=flavour)
    return replace(PLAIN, name=f"small-dcn{flavour}", backbone=backbone, tower_dcn=flavour)


def lively(spec: ModelSpec, seed: int = 0) -> SOLOv2:
    """A network with random weights, batch statistics of real activations, and scores on both sides of 0.1."""
    torch.manual_seed(seed)
    model = SOLOv2(spec)
    model.train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 4:
                fan_in = parameter[0].numel()
                nn.init.normal_(parameter, std=(0.3 if "offset" in name else 1.4) / fan_in**0.5)
            elif name.endswith("weight"):
                nn.init.uniform_(parameter, 0.6, 1.4)
            else:
                nn.init.normal_(parameter, std=0.2)
        for _ in range(20):
            model(torch.randn(2, 3, 64, 96))
        model.eval()
        logits = model(torch.randn(1, 3, 64, 96)).class_logits
        head = model.mask_head.conv_cls
        head.weight *= 2 / logits.std()
        head.bias.fill_(-3)
    return model.eval()


@dataclass(frozen=True)
class Exported:
    model: SOLOv2
    checkpoint: Path
    path: Path
    manifest: Manifest


def _export(folder: Path, spec: ModelSpec, **options: object) -> Exported:
    model = lively(spec)
    checkpoint, path = folder / f"{spec.name}.safetensors", folder / f"{spec.name}.onnx"
    save_checkpoint(checkpoint, spec, model.state_dict())
    sha256 = sha256_of(checkpoint)
    manifest = export_onnx(model, path, height=64, width=96, source_sha256=sha256, weights_licence="CC0-1.0", **options)
    return Exported(model, checkpoint, path, manifest)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """float32, image input, opset 18."""
    return _export(tmp_path_factory.mktemp("plain"), PLAIN)


@pytest.fixture(scope="session")
def native_half(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """float16, tensor input, DeformConv with modulation."""
    return _export(tmp_path_factory.mktemp("native"), with_dcn("v2"), precision="fp16", input_kind="tensor")


@pytest.fixture(scope="session")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """float32, image input, deformable convolution in portable operators at opset 18."""
    return _export(tmp_path_factory.mktemp("lowered"), with_dcn("v1"), dcn="lowered", opset=18)


@pytest.fixture(scope="session")
def make_model() -> object:
    return lively


@pytest.fixture(scope="session")
def specs() -> dict[str, ModelSpec]:
    bgr = replace(PLAIN, mean=(103.5, 116.3, 123.7), std=(1.0, 2.0, 3.0), channel_order="bgr")
    return {"plain": PLAIN, "v1": with_dcn("v1"), "v2": with_dcn("v2"), "bgr": bgr}


@pytest.fixture(scope="session")
def frame() -> np.ndarray:
    """A (64, 96, 3) RGB frame no export has seen."""
    return np.random.default_rng(99).integers(0, 256, (64, 96, 3), dtype=np.uint8)
