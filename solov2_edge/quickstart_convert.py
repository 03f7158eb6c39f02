"""What the quickstart converts the bundled checkpoint to: every format whose toolchain is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from solov2_edge.bundled import Bundle
from solov2_edge.console import Console
from solov2_edge.conversions import exporter, plan

__all__ = ["convert_all", "missing_packages"]

# format -> (the precisions the quickstart shows, import names of its toolchain, the extra that installs it)
SHOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "onnx": (("fp32", "fp16"), ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime"), "convert"),
    "tflite": (("fp32", "int8"), ("litert_torch", "ai_edge_quantizer", "ai_edge_litert"), "convert-tflite"),
    "coreml": (("fp16",), ("coremltools",), "convert-coreml"),
}
TITLES = {"onnx": "ONNX", "tflite": "TFLite", "coreml": "Core ML"}


def missing_packages(format_: str) -> list[str]:
    """Return which packages of a format's toolchain are not installed."""
    return [name for name in SHOWN[format_][1] if importlib.util.find_spec(name) is None]


def convert_all(files: Bundle, folder: Path, console: Console) -> tuple[list[Path], list[str]]:
    """Convert the bundled checkpoint at its default size; PyTorch and ONNX's toolchain must be there.

    Returns:
        The artefacts, ONNX first, and one sentence for every format that was left out.

    Raises:
        GateError: parity with PyTorch is lost.
    """
    from solov2_edge.checkpoint import load_model
    from solov2_edge.choices import default_size, size_text
    from solov2_edge.converters.calibration import read_calibration

    model, checkpoint = load_model(files.checkpoint)
    height, width = default_size(checkpoint.spec)
    paths, notes = [], []
    for format_, (precisions, _, extra) in SHOWN.items():
        if missing := missing_packages(format_):
            notes.append(
                f"{TITLES[format_]} was left out: it needs {', '.join(missing)} (pip install 'solov2-edge[{extra}]')."
            )
            continue
        export = exporter(format_)
        for conversion in plan([format_], precisions, folder, files.checkpoint.stem):
            console.log(f"converting to {conversion.path.name} at {size_text(height, width)}")
            calibration = {"calibration": read_calibration(files.calibration)} if conversion.calibrated else {}
            export(
                model,
                conversion.path,
                height=height,
                width=width,
                precision=conversion.precision,
                source_sha256=checkpoint.sha256,
                weights_licence=checkpoint.licence or "unknown",
                **calibration,
            )
            paths.append(conversion.path)
    return paths, notes
