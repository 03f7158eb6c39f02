"""``convert --decode graph``: what reaches the exporter, what is refused, and what inspect tells of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from solov2_edge import checkpoint
from solov2_edge.cli import main
from solov2_edge.command_inspect import _of_manifest, _words
from solov2_edge.converters import to_onnx
from solov2_edge.manifest import DECODED_NAMES, GraphDecode, InputContract, Manifest
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec

Calls = list[dict[str, Any]]


@pytest.fixture
def weights(tmp_path: Path, tiny_spec: ModelSpec) -> str:
    path = tmp_path / "mine.safetensors"
    checkpoint.save_checkpoint(path, tiny_spec, SOLOv2(tiny_spec).state_dict(), licence="CC0 1.0")
    return str(path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stands in for the exporter, which has its own tests, and records what it was asked for."""
    recorded: Calls = []

    def export_onnx(model: SOLOv2, path: Path, *, decode: GraphDecode | None = None, **options: Any) -> Manifest:
        recorded.append({"path": path, "decode": decode})
        contract = InputContract(options["input_kind"], options["height"], options["width"])
        manifest = Manifest(model.spec, "onnx", options["precision"], contract)
        return manifest if decode is None else replace(manifest, decode=decode, outputs=DECODED_NAMES)

    monkeypatch.setattr(to_onnx, "export_onnx", export_onnx)
    return recorded


def test_the_host_decodes_unless_asked_otherwise(tmp_path: Path, weights: str, calls: Calls) -> None:
    assert main(["convert", weights, "-o", str(tmp_path)]) == 0
    assert main(["convert", weights, "-o", str(tmp_path), "--decode", "graph"]) == 0
    assert [(call["path"].name, call["decode"]) for call in calls] == [
        ("mine.fp32.onnx", None),
        ("mine.fp32-decoded.onnx", GraphDecode()),
    ]


def test_limits_reach_the_exporter_and_the_json(
    tmp_path: Path, weights: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--max-candidates", "60", "--score-threshold", "0.2", "--keep-threshold", "0.1", "--nms-kernel", "linear"]
    assert main(["convert", weights, "-o", str(tmp_path), "--decode", "graph", *given, "--json"]) == 0
    wanted = GraphDecode(60, 60, 0.2, 0.1, nms_kernel="linear")  # as many rows as candidates: fewer than 100
    assert calls[0]["decode"] == wanted
    assert '"max_candidates": 60' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-instances", "5"], "--max-instances is baked into graphs that decode: add --decode graph"),
        (["--decode", "graph", "--keep-threshold", "0"], "keep_threshold of a graph that decodes is out of range"),
        (["--decode", "graph", "--score-threshold", "1"], "score_threshold"),
        (["--decode", "graph", "--max-candidates", "0"], "--max-candidates must be at least 1"),
        (["--decode", "graph", "--max-candidates", "5", "--max-instances", "6"], "at most max_candidates, got 6 of 5"),
    ],
)
def test_contradictions_are_refused_before_any_work(
    tmp_path: Path, weights: str, calls: Calls, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["convert", weights, "-o", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not calls
    assert not (tmp_path / "out").exists()


def test_inspect_tells_who_decodes(tiny_spec: ModelSpec) -> None:
    host = Manifest(tiny_spec, "onnx", "fp32", InputContract("image", 64, 96))
    assert _of_manifest(host)["decode"] == "host"
    graph = replace(host, decode=GraphDecode(max_candidates=60, max_instances=20), outputs=DECODED_NAMES)
    told = _words("decode", _of_manifest(graph)["decode"])
    assert told.startswith("in graph, max_candidates 60, max_instances 20, score_threshold 0.1")
