"""Classifiers' weights for the backbone: torchvision's names and shapes, strictly, and timm by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from solov2_edge.backbone_weights import read_backbone
from solov2_edge.errors import InputError, MissingDependencyError
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import variant

R18, R50 = variant("light-448-r18"), variant("light-448-r50")


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def _torchvision(depths: tuple[int, ...], *, bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's resnet18 (2, 2, 2, 2) and resnet50 (3, 4, 6, 3, bottleneck)."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **dict(_norm("bn1", 64))}
    channels = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        out = width * 4 if bottleneck else width
        for block in range(depth):
            at = f"layer{stage + 1}.{block}"
            if bottleneck:
                convs = [(width, channels, 1), (width, width, 3), (out, width, 1)]
            else:
                convs = [(width, channels, 3), (width, width, 3)]
            for number, (o, i, k) in enumerate(convs, start=1):
                shapes[f"{at}.conv{number}.weight"] = (o, i, k, k)
                shapes |= dict(_norm(f"{at}.bn{number}", o))
            if channels != out or (stage and not block):
                shapes[f"{at}.downsample.0.weight"] = (out, channels, 1, 1)
                shapes |= dict(_norm(f"{at}.downsample.1", out))
            channels = out
    return shapes | {"fc.weight": (1000, channels), "fc.bias": (1000,)}


def _drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {k: torch.rand(s) if s or not k.endswith("tracked") else torch.tensor(7) for k, s in shapes.items()}


@pytest.fixture(scope="module")
def r18() -> dict[str, Tensor]:
    return _drawn(_torchvision((2, 2, 2, 2), bottleneck=False))


def test_the_listings_are_as_large_as_the_published_networks(r18: dict[str, Tensor]) -> None:
    for shapes, parameters, tensors in (
        ({k: tuple(v.shape) for k, v in r18.items()}, 11_689_512, 122),
        (_torchvision((3, 4, 6, 3), bottleneck=True), 25_557_032, 320),
    ):
        assert len(shapes) == tensors
        learnt = {k: s for k, s in shapes.items() if "running" not in k and not k.endswith("tracked")}
        assert sum(int(torch.Size(s).numel()) for s in learnt.values()) == parameters


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_tensor_of_a_file_arrives(r18: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"resnet18{suffix}"
    save_file(r18, path) if suffix == ".safetensors" else torch.save(r18, path)
    got = read_backbone(str(path), R18)
    model = SOLOv2(R18)
    left = model.load_state_dict(got, strict=False)
    assert not left.unexpected_keys
    assert not [k for k in left.missing_keys if k.startswith("backbone.") and not k.endswith("tracked")]
    assert torch.equal(model.backbone.layer4[1].bn2.running_var, r18["layer4.1.bn2.running_var"])


@pytest.mark.parametrize("name", ["light-448-r50", "light-512-r50-dcnv1", "full-r50"])
def test_resnet50_fits_its_variants(tmp_path: Path, name: str) -> None:
    state = _drawn(_torchvision((3, 4, 6, 3), bottleneck=True))
    path = tmp_path / "resnet50.pth"
    torch.save({"state_dict": {f"module.{k}": v.half() for k, v in state.items()}}, path)
    got = read_backbone(str(path), variant(name))
    assert len(got) == 320 - 2 - 53  # but for the classifier and the counters of 53 norms
    assert {tensor.dtype for tensor in got.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("spec", "edit", "message"),
    [
        (R50, {}, "missing"),
        (variant("nano"), {}, "not the backbone of nano"),
        (variant("adelaidet-r50"), {}, "Caffe-style"),
        (R18, {"layer1.0.conv1.weight": torch.rand(64, 64, 1, 1)}, "mis-shaped"),
        (R18, {"layer9.0.conv1.weight": torch.rand(1)}, "extra"),
        (R18, {"bn1.weight": torch.full((64,), float("nan"))}, "not finite"),
    ],
)
def test_what_does_not_fit_is_named(
    r18: dict[str, Tensor], tmp_path: Path, spec: ModelSpec, edit: dict[str, Tensor], message: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(r18 | edit, path)
    with pytest.raises(InputError, match=message):
        read_backbone(str(path), spec)


def test_files_that_hold_no_weights_are_one_sentence(tmp_path: Path) -> None:
    for content, message in ((b"\x89PNG....", "PNG"), (b"PK\x03\x04 half", "weights|zip|used")):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_backbone(str(path), R18)
    with pytest.raises(InputError, match="nowhere"):
        read_backbone(str(tmp_path / "nowhere.pth"), R18)


def test_timm_is_asked_by_name(r18: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="pip install timm"):
        read_backbone("timm:resnet18", R18)
    timm = ModuleType("timm")
    asked = []

    def create_model(name: str, *, pretrained: bool) -> SimpleNamespace:
        asked.append((name, pretrained))
        return SimpleNamespace(state_dict=lambda: r18)

    timm.create_model = create_model  # type: ignore[attr-defined]
    timm.list_models = lambda name: [name] if name == "resnet18" else []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    got = read_backbone("timm:resnet18", R18)
    assert asked == [("resnet18", True)]
    assert torch.equal(got["backbone.conv1.weight"], r18["conv1.weight"])
    with pytest.raises(InputError, match="no model"):
        read_backbone("timm:resnet19", R18)
