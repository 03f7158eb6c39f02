from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from solov2_edge.runtime import doctor_engines
from solov2_edge.runtime.doctor_engines import engine_findings, installed
from solov2_edge.runtime.finding import Finding

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
Pretend = Callable[..., dict[str, Finding]]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pretend:
    """Look at engines with other packages installed, on a machine that is a Jetson or not."""

    def look(
        builds: dict[str, str], providers: list[str] | Exception, *, jetson: bool = False, nvidia: bool = False
    ) -> dict[str, Finding]:
        real = metadata.version

        def version(name: str) -> str:
            known = name.startswith(("onnxruntime", "ort-", "ncnn", "openvino"))
            if known and name not in builds:
                raise metadata.PackageNotFoundError(name)
            return builds[name] if known else real(name)

        engine: Any = ModuleType("onnxruntime")
        engine.__version__ = next(iter(builds.values()), "0")

        def get_available_providers() -> list[str]:
            if isinstance(providers, Exception):
                raise providers
            return providers

        engine.get_available_providers = get_available_providers
        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setitem(sys.modules, "onnxruntime", engine)
        if jetson:
            (tmp_path / "etc").mkdir()
            (tmp_path / "etc/nv_tegra_release").touch()
        if nvidia:
            (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
            (tmp_path / "proc/driver/nvidia/version").touch()
        return {finding.name: finding for finding in engine_findings(tmp_path)}

    return look


def test_a_build_for_cpus(pretend: Pretend) -> None:
    finding = pretend({"onnxruntime": "1.32.0"}, ["AzureExecutionProvider", CPU])["ONNX Runtime"]
    assert (finding.state, finding.text) == ("ok", "onnxruntime 1.32.0, runs on CPU")


def test_a_gpu_that_is_left_idle(pretend: Pretend) -> None:
    finding = pretend({"onnxruntime": "1.32.0"}, [CPU], nvidia=True)["ONNX Runtime"]
    assert (finding.state, finding.text) == (
        "warning",
        "onnxruntime 1.32.0, runs on CPU; this build leaves the NVIDIA GPU idle",
    )
    assert finding.cure == "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


def test_a_jetson_with_the_build_for_cpus(pretend: Pretend) -> None:
    finding = pretend({"onnxruntime": "1.32.0"}, [CPU], jetson=True)["ONNX Runtime"]
    assert finding.state == "warning"
    assert finding.cure.startswith("pip uninstall -y onnxruntime && pip install --no-deps --index-url $JETPACK_INDEX")


def test_a_jetson_with_the_right_build(pretend: Pretend) -> None:
    finding = pretend({"onnxruntime-gpu": "1.23.0"}, [TENSORRT, CUDA, CPU], jetson=True)["ONNX Runtime"]
    assert finding.state == "ok"
    assert finding.text == (
        "onnxruntime-gpu 1.23.0, runs on Tensorrt, CUDA, CPU; deformable convolutions need 1.25, or --dcn lowered"
    )


def test_two_builds_in_one_folder(pretend: Pretend) -> None:
    findings = pretend({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"}, [CPU])
    assert findings["ONNX Runtime builds"].state == "warning"
    assert "own the same folder `onnxruntime`" in findings["ONNX Runtime builds"].text
    assert findings["ONNX Runtime builds"].cure == (
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install --no-deps onnxruntime-gpu"
    )


def test_an_engine_that_is_broken(pretend: Pretend) -> None:
    finding = pretend({"onnxruntime": "1.32.0"}, ImportError("libcudart.so.12:\ncannot open"))["ONNX Runtime"]
    assert (finding.state, finding.text) == ("missing", "cannot be imported: libcudart.so.12: cannot open")
    assert finding.cure == "pip install --force-reinstall --no-deps onnxruntime"


def test_no_engine_at_all(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        from solov2_edge.errors import MissingDependencyError

        raise MissingDependencyError("ai-edge-litert", "tflite", "running .tflite artefacts")

    monkeypatch.setattr(doctor_engines, "find_package", absent)
    monkeypatch.setattr(doctor_engines, "installed", lambda name: None)
    findings = pretend({}, ModuleNotFoundError("onnxruntime"))
    assert {name: finding.state for name, finding in findings.items()} == dict.fromkeys(
        ("ONNX Runtime", "LiteRT", "Core ML"), "missing"
    )
    assert findings["ONNX Runtime"].cure == "pip install 'solov2-edge[onnx]'"
    assert findings["LiteRT"].text == "running .tflite artefacts needs ai-edge-litert, which is not installed"
    assert findings["LiteRT"].cure == "pip install 'solov2-edge[tflite]'"


def test_a_broken_litert(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        from solov2_edge.errors import SolovEdgeError

        raise SolovEdgeError("running .tflite artefacts failed: tensorflow is installed but cannot be imported (x)")

    monkeypatch.setattr(doctor_engines, "find_package", broken)
    finding = pretend({}, [CPU])["LiteRT"]
    assert (finding.state, finding.cure) == ("missing", "pip install --force-reinstall ai-edge-litert")


@pytest.mark.parametrize(
    ("system", "version", "state"), [("Darwin", "9.0", "ok"), ("Linux", "9.0", "ok"), ("Darwin", None, "missing")]
)
def test_core_ml(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch, system: str, version: str | None, state: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(doctor_engines, "installed", lambda name: version if name == "coremltools" else None)
    finding = pretend({}, [CPU])["Core ML"]
    assert finding.state == state
    if state == "missing":
        assert finding.cure == "pip install 'solov2-edge[coreml]'"
    else:
        assert ("cpu_and_ne" in finding.text) == (system == "Darwin")


def test_other_engines_are_told_where_they_are_installed(pretend: Pretend) -> None:
    findings = pretend({"ncnn": "1.0.20", "onnxruntime": "1.32.0"}, [CPU])
    assert findings["ncnn"].text == "1.0.20, runs .ncnn artefacts"
    assert "OpenVINO" not in findings
    assert "--engine openvino" in pretend({"openvino": "2026.4.1"}, [CPU])["OpenVINO"].text


def test_installed() -> None:
    assert installed("numpy") == metadata.version("numpy")
    assert installed("no-such-distribution") is None
