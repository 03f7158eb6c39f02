"""Small networks and the published names and shapes."""

import ast
import gzip
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from solov2_edge.model import SOLOv2
from solov2_edge.spec import BackboneSpec, ModelSpec

KEYS = Path(__file__).resolve().parents[1] / "data" / "keys"

# Written from the table of names, the other way round than the code under test.
TO_ADELAIDET = (
    (r"^backbone\.conv1\.", "backbone.bottom_up.stem.conv1."),
    (r"^backbone\.bn1\.", "backbone.bottom_up.stem.conv1.norm."),
    (
        r"^backbone\.layer(\d)\.(\d+)\.downsample\.0\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.shortcut.",
    ),
    (
        r"^backbone\.layer(\d)\.(\d+)\.downsample\.1\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.shortcut.norm.",
    ),
    (
        r"^backbone\.layer(\d)\.(\d+)\.bn(\d)\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm.",
    ),
    (r"^backbone\.layer(\d)\.", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}."),
    (r"^neck\.lateral_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}."),
    (r"^neck\.fpn_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_output{int(m[1]) + 2}."),
    (r"^mask_head\.cls_convs\.(\d)\.conv\.", lambda m: f"ins_head.cate_tower.{3 * int(m[1])}."),
    (r"^mask_head\.cls_convs\.(\d)\.gn\.", lambda m: f"ins_head.cate_tower.{3 * int(m[1]) + 1}."),
    (r"^mask_head\.kernel_convs\.(\d)\.conv\.", lambda m: f"ins_head.kernel_tower.{3 * int(m[1])}."),
    (r"^mask_head\.kernel_convs\.(\d)\.gn\.", lambda m: f"ins_head.kernel_tower.{3 * int(m[1]) + 1}."),
    (r"^mask_head\.conv_cls\.", "ins_head.cate_pred."),
    (r"^mask_head\.conv_kernel\.", "ins_head.kernel_pred."),
    (r"^mask_head\.mask_feature_head\.(.*)\.conv\.", lambda m: f"mask_head.{m[1]}.0."),
    (r"^mask_head\.mask_feature_head\.(.*)\.gn\.", lambda m: f"mask_head.{m[1]}.1."),
)


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """A custom member of the family whose tensors take a few hundred kilobytes."""
    return ModelSpec(
        name="custom",
        class_names=("class_0", "class_1", "class_2"),
        backbone=BackboneSpec("basic", (1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8),
        pyramid_width=8,
        tower_width=32,
        mask_width=32,
        mask_channels=32,
    )


@pytest.fixture(scope="session")
def tiny_dcn_spec() -> ModelSpec:
    """Bottlenecks with DCN v1 in stages 2-4 and in the last tower convolution; 512 ranges and box."""
    return ModelSpec(
        name="custom",
        class_names=("class_0",),
        backbone=BackboneSpec("bottleneck", (1, 1, 1, 1), widths=(4, 4, 4, 4), stem_width=8, dcn="v1"),
        pyramid_width=8,
        tower_depth=3,
        tower_width=32,
        tower_dcn="v1",
        mask_width=32,
        mask_channels=32,
        scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
        resize_box=(512, 852),
    )


@pytest.fixture(scope="session")
def fresh_state() -> Callable[[ModelSpec], dict[str, Tensor]]:
    """Return a function: spec -> freshly drawn state dict, batch counters included."""

    def draw(spec: ModelSpec) -> dict[str, Tensor]:
        torch.manual_seed(0)
        state = SOLOv2(spec).state_dict()
        return {k: v if v.dtype == torch.int64 else torch.rand_like(v) + 0.5 for k, v in state.items()}

    return draw


@pytest.fixture(scope="session")
def listing() -> Callable[[str], dict[str, tuple[int, ...]]]:
    """Return a function: name in tests/data/keys -> {tensor name: sizes}."""

    def read(name: str) -> dict[str, tuple[int, ...]]:
        lines = gzip.decompress((KEYS / f"{name}.keys.gz").read_bytes()).decode().splitlines()
        return {line.split("\t")[0]: ast.literal_eval(line.split("\t")[1]) for line in lines}

    return read


@pytest.fixture(scope="session")
def adelaidet_name() -> Callable[[str], str]:
    """Return a function: mmdetection's name of a tensor -> AdelaiDet's."""

    def rename(name: str) -> str:
        for pattern, replacement in TO_ADELAIDET:
            new, count = re.subn(pattern, replacement, name)
            if count:
                return new
        raise AssertionError(name)

    return rename


@pytest.fixture(scope="session")
def write_discs() -> Callable[..., Path]:
    """Return a function: folder -> path of the annotations of a small COCO set written there."""
    return _function("coco_fixture", "write_discs")


@pytest.fixture(scope="session")
def write_panoptic() -> Callable[..., Path]:
    """Return a function: folder -> path of the annotations of a small COCO panoptic set written there."""
    return _function("panoptic_fixture", "write_panoptic")


def _function(module_name: str, name: str) -> Callable[..., Path]:
    path = Path(__file__).with_name(f"{module_name}.py")
    spec = importlib.util.spec_from_file_location(f"solov2_edge_{module_name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Path] = getattr(module, name)
    return function
