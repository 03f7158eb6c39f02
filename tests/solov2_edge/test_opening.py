from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from solov2_edge import opening, reference, runtime
from solov2_edge.errors import InputError


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(runtime, "load", lambda path, **options: calls.append(("runtime", options)))
    monkeypatch.setattr(reference, "load_reference", lambda path, **options: calls.append(("reference", options)))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: calls.append(("threads", {"threads": threads})))
    return calls


@pytest.mark.parametrize("name", ["a.pth", "a.PT", "a.pkl", "a.ckpt", "a.safetensors"])
def test_checkpoints_open_in_pytorch(tmp_path: Path, recorded: list[Any], name: str) -> None:
    (tmp_path / name).touch()
    opening.open_segmenter(tmp_path / name, threads=2, score_threshold=0.3)
    assert recorded == [("threads", {"threads": 2}), ("reference", {"input_size": None, "score_threshold": 0.3})]


def test_artefacts_open_in_their_engine(tmp_path: Path, recorded: list[Any]) -> None:
    (tmp_path / "a.onnx").touch()
    opening.open_segmenter(tmp_path / "a.onnx", threads=2, providers="cpu", score_threshold=0.3)
    assert recorded == [("runtime", {"threads": 2, "providers": "cpu", "score_threshold": 0.3})]


def test_another_engine_is_for_artefacts(tmp_path: Path, recorded: list[Any]) -> None:
    for name in ("a.onnx", "a.pth"):
        (tmp_path / name).touch()
    opening.open_segmenter(tmp_path / "a.onnx", engine="openvino")
    assert recorded == [("runtime", {"threads": None, "providers": None, "engine": "openvino"})]
    with pytest.raises(InputError, match=r"an engine is for artefacts; .* runs in PyTorch"):
        opening.open_segmenter(tmp_path / "a.pth", engine="openvino")


def test_providers_are_not_for_checkpoints(tmp_path: Path, recorded: list[Any]) -> None:
    (tmp_path / "a.pth").touch()
    with pytest.raises(InputError, match="execution providers are for artefacts"):
        opening.open_segmenter(tmp_path / "a.pth", providers="cuda")


def test_a_fixed_input_size_is_for_checkpoints(tmp_path: Path, recorded: list[Any]) -> None:
    for name in ("a.pth", "a.onnx"):
        (tmp_path / name).touch()
    opening.open_segmenter(tmp_path / "a.pth", input_size=(64, 96))
    assert recorded == [("reference", {"input_size": (64, 96)})]
    with pytest.raises(InputError, match="an input size is for checkpoints"):
        opening.open_segmenter(tmp_path / "a.onnx", input_size=(64, 96))


def test_a_missing_file_is_named(recorded: list[Any]) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx: no such file"):
        opening.open_segmenter("gone.onnx")
