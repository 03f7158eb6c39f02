"""Small networks whose outputs have a range, and artefacts of them made once per run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import InputContract, Manifest, sha256_of
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


@dataclass(frozen=True)
class Lowered:
    model: SOLOv2
    traceable: Any
    flatbuffer: bytes


def _lower(spec: ModelSpec, kind: str) -> Lowered:
    from solov2_edge.converters.probes import Probes
    from solov2_edge.converters.tflite_lower import lower
    from solov2_edge.converters.tflite_traceable import TfliteTraceable

    model = lively(spec)
    traceable = TfliteTraceable(model, InputContract(kind, 64, 96))
    return Lowered(model, traceable, lower(traceable, Probes(model, traceable.contract).batches[0]))


@pytest.fixture(scope="session")
def tflite_plain() -> Lowered:
    """float32 TFLite operators, image input; the conversion takes ten seconds and is shared."""
    return _lower(PLAIN, "image")


@pytest.fixture(scope="session")
def tflite_dcn() -> Lowered:
    """float32 TFLite operators, tensor input, deformable convolution with modulation."""
    return _lower(with_dcn("v2"), "tensor")


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


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def mil_programs() -> ModuleType:
    """What builds small ML Programs; coremltools is imported only for tests that want it."""
    return _module("mil_programs")


@pytest.fixture(scope="session")
def edit() -> Callable[[Path], object]:
    """Open a Core ML package on disk for planting faults."""
    opener: Callable[[Path], object] = _module("mil_edit").Edited
    return opener


@pytest.fixture
def interpret(mil_programs: ModuleType, tmp_path: Path) -> object:
    """Build a program with coremltools, save it, and interpret what was saved."""
    return mil_programs.Interpreted(tmp_path)


@pytest.fixture(scope="session")
def coreml_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Return a function: precision -> the small network's Core ML package, made once per run unless ``fresh``."""
    made: dict[str, Exported] = {}

    def export(precision: str, fresh: bool = False) -> Exported:
        if fresh or precision not in made:
            from solov2_edge.converters.to_coreml import export_coreml

            folder = tmp_path_factory.mktemp(f"coreml-{precision}")
            model = lively(PLAIN)
            path, checkpoint = folder / f"small.{precision}.mlpackage", folder / "small.safetensors"
            save_checkpoint(checkpoint, PLAIN, model.state_dict())
            manifest = export_coreml(model, path, height=64, width=96, precision=precision)
            made[precision] = Exported(model, checkpoint, path, manifest)
        return made[precision]

    return export


@pytest.fixture(scope="session")
def graphs() -> ModuleType:
    """The module onnx_graphs.py, which builds and runs small ONNX graphs."""
    spec = importlib.util.spec_from_file_location("onnx_graphs", Path(__file__).with_name("onnx_graphs.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
