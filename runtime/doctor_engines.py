"""The engines installed beside this Python, and what each of them can run on."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from solov2_edge.errors import SolovEdgeError
from solov2_edge.runtime.coreml_units import UNITS
from solov2_edge.runtime.finding import Finding, judged
from solov2_edge.runtime.jetson import is_jetson
from solov2_edge.runtime.litert_delegates import NAMES
from solov2_edge.runtime.litert_package import ENGINE_ERRORS, find_package, one_line

__all__ = ["engine_findings", "installed"]

TOPIC = "engines"
# Builds of ONNX Runtime; all of them install the one folder `onnxruntime`.
ORT_BUILDS = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm"),
    *("onnxruntime-migraphx", "onnxruntime-qnn", "onnxruntime-silicon", "onnxruntime-training", "ort-nightly-gpu"),
)
HAS_DEFORM_CONV = (1, 25)
GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
GPU_BUILD = {
    True: "pip uninstall -y onnxruntime && pip install --no-deps --index-url $JETPACK_INDEX onnxruntime-gpu  "
    "# docs/jetson.md says which index",
    False: "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
}
# Engines told of only where they are installed: distribution -> (name, what they run).
OTHERS = {
    "openvino": ("OpenVINO", "runs .onnx artefacts where it is asked for: --engine openvino"),
    "ncnn": ("ncnn", "runs .ncnn artefacts"),
}
BROKEN = (ImportError, AttributeError, *ENGINE_ERRORS)


def engine_findings(root: Path) -> Iterator[Finding]:
    """Yield findings about ONNX Runtime, LiteRT and Core ML.

    Args:
        root: where the system's files lie, which tell whether there is a GPU to use.
    """
    yield from _onnxruntime(root)
    yield _litert()
    yield _coreml()
    for distribution, (name, runs) in OTHERS.items():
        if version := installed(distribution):
            yield Finding(TOPIC, name, "ok", f"{version}, {runs}")


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _onnxruntime(root: Path) -> Iterator[Finding]:
    jetson = is_jetson(root)
    builds = {name: version for name in ORT_BUILDS if (version := installed(name))}
    told = " and ".join(f"{name} {version}" for name, version in builds.items())
    if len(builds) > 1:
        keep = next((name for name in builds if name != "onnxruntime"), "onnxruntime")
        cure = f"pip uninstall -y {' '.join(builds)} && pip install --no-deps {keep}"
        text = f"{told} own the same folder `onnxruntime`, and the one installed last is half there"
        yield judged(TOPIC, "ONNX Runtime builds", text, cure)
    try:
        engine = importlib.import_module("onnxruntime")
        providers = tuple(engine.get_available_providers())
    except ModuleNotFoundError:
        cure = GPU_BUILD[True] if jetson else "pip install 'solov2-edge[onnx]'"
        yield Finding(TOPIC, "ONNX Runtime", "missing", "not installed; .onnx artefacts need it", cure)
        return
    except BROKEN as error:
        cure = f"pip install --force-reinstall --no-deps {next(iter(builds), 'onnxruntime')}"
        yield Finding(TOPIC, "ONNX Runtime", "missing", f"cannot be imported: {one_line(error)}", cure)
        return
    shown = [name.removesuffix("ExecutionProvider") for name in providers if not name.startswith("Azure")]
    text = f"{told or f'onnxruntime {engine.__version__}'}, runs on {', '.join(shown)}"
    if _release(engine.__version__) < HAS_DEFORM_CONV:
        text += "; deformable convolutions need 1.25, or --dcn lowered"
    # What was built in is not yet what starts: opening an artefact tells, and says why not.
    has_gpu = jetson or (root / "proc/driver/nvidia/version").is_file()
    unused = has_gpu and not set(providers) & set(GPU_PROVIDERS)
    yield judged(
        TOPIC,
        "ONNX Runtime",
        text + ("; this build leaves the NVIDIA GPU idle" if unused else ""),
        GPU_BUILD[jetson] if unused else "",
    )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _litert() -> Finding:
    try:
        package = find_package()
    except SolovEdgeError as error:
        found = re.search(r"pip install .+", str(error))
        cure = found.group() if found else "pip install --force-reinstall ai-edge-litert"
        return Finding(TOPIC, "LiteRT", "missing", str(error).partition(": pip")[0], cure)
    own = [name for name in NAMES if name != "gpu" or package.name == "ai-edge-litert"]
    return Finding(TOPIC, "LiteRT", "ok", f"{package.engine}, runs on {', '.join(own)} or a delegate library")


def _coreml() -> Finding:
    version = installed("coremltools")
    mac = platform.system() == "Darwin"
    if version is None:
        cure = f"pip install 'solov2-edge[{'coreml' if mac else 'convert-coreml'}]'"
        return Finding(TOPIC, "Core ML", "missing", "coremltools is not installed; .mlpackage artefacts need it", cure)
    where = f"runs on {', '.join(UNITS)}" if mac else "interprets packages: Apple's runtime is for Macs and iPhones"
    return Finding(TOPIC, "Core ML", "ok", f"coremltools {version}, {where}")
