"""A full disk is one sentence, and nothing half written is left; on a real one of a few kilobytes where possible."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from solov2_edge import command_download
from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.zoo import published


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


def test_report(small_disk: ModuleType, tmp_path: Path) -> None:
    folder, files = tmp_path / "out", bundle()
    argv = ["report", str(files.artefact), "--against", str(files.checkpoint), "--images", str(files.pictures)]
    argv += ["--annotations", str(files.annotations), "--limit", "1", "--verify-limit", "1", "--seconds", "0.1"]
    argv += ["--settle", "0", "--threads", "1", "-o", str(folder)]
    assert full(small_disk, folder, 16, argv).keys() <= {"report.json"}


def test_download_keeps_what_has_come(small_disk: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 20))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(bytes(1 << 20))

        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "out"
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/weights.pth"
        entry = replace(published("mmdet-light-448-r18"), url=url)
        monkeypatch.setattr(command_download, "published", lambda name: entry)
        folder.mkdir()
        ending = small_disk.run_on(folder, 100, ["download", entry.name, "-o", str(folder)])
        thread.join()
    assert ending.code == 1
    assert ending.said.count("\n") == 1
    assert "the disk is full" in ending.said
    assert ending.left.keys() == {f"{entry.file_name}.part"}, "what has come so far is kept to be resumed"
