"""A full disk is one sentence, and nothing half written is left; on a real one of a few kilobytes where possible."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec


@pytest.fixture(scope="session")
def small_disk() -> ModuleType:
    path = Path(__file__).with_name("small_disk.py")
    spec = importlib.util.spec_from_file_location("solov2_edge_small_disk", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bundled(checkout: Path) -> str:
    return str(checkout / "solov2_edge/assets/nano-nuclei.fp32.onnx")


@pytest.fixture(scope="session")
def pictures(checkout: Path) -> Path:
    return checkout / "tests/data/nuclei_val/images"


def full(small_disk: ModuleType, folder: Path, kilobytes: int, argv: list[str]) -> dict[str, int]:
    """Run a verb on a disk too small for it; return what is left under a final name."""
    folder.mkdir(exist_ok=True)
    ending = small_disk.run_on(folder, kilobytes, argv)
    assert ending.code == 1, ending
    assert ending.said.count("\n") == 1, ending.said
    assert "the disk is full" in ending.said
    assert not [name for name in ending.left if name.endswith((".part", ".tmp"))], ending.left
    left: dict[str, int] = ending.left
    return left


@pytest.mark.parametrize("kilobytes", [4, 20])
def test_segment(small_disk: ModuleType, tmp_path: Path, bundled: str, pictures: Path, kilobytes: int) -> None:
    folder = tmp_path / "out"
    picture = sorted(pictures.iterdir())[0]
    left = full(small_disk, folder, kilobytes, ["segment", bundled, str(picture), "-o", str(folder)])
    assert "instances.json" not in left


def test_live_says_where_its_recording_is(small_disk: ModuleType, tmp_path: Path, bundled: str) -> None:
    folder = tmp_path / "out"
    argv = ["live", bundled, "--headless", "--source", "test://64x48?fps=0&frames=40", "--record"]
    folder.mkdir()
    ending = small_disk.run_on(folder, 8, [*argv, str(folder / "a.mp4")])
    assert ending.code == 1
    assert ending.said.count("\n") == 1
    assert "a.recording.mkv" in ending.said
    assert set(ending.left) == {"a.recording.mkv"}


def test_convert(small_disk: ModuleType, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    folder = tmp_path / "out"
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "net.safetensors", tiny_spec, SOLOv2(tiny_spec).state_dict())
    argv = ["convert", str(tmp_path / "net.safetensors"), "--input-size", "64x64", "-o", str(folder)]
    assert full(small_disk, folder, 64, argv) == {}


def test_train(small_disk: ModuleType, tmp_path: Path, write_discs: Callable[..., Path]) -> None:
    annotations = write_discs(tmp_path)
    folder = tmp_path / "run"
    argv = ["train", "--annotations", str(annotations), "--images", str(annotations.parent), "--variant", "nano"]
    left = full(small_disk, folder, 12000, [*argv, "--input-size", "64x64", "--epochs", "1", "-o", str(folder)])
    assert "state.pt" not in left
