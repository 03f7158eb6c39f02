"""From the document of a report to what its page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from solov2_edge.budget import describe_quantisation
from solov2_edge.choices import INT8_ENGINES, size_text
from solov2_edge.demos.compare import panels_of
from solov2_edge.demos.conversion_data import (
    ConversionReport,
    ConvertedFile,
    Disagreement,
    Figure,
    LayerCost,
    StageRow,
    Timing,
)
from solov2_edge.demos.image import encode_jpeg
from solov2_edge.demos.report_data import StageParity

__all__ = ["TITLES", "conversion_report", "file_title"]

TITLES = {"onnx": "ONNX", "tflite": "TFLite", "coreml": "Core ML", "ncnn": "ncnn"}
PANEL = 448  # pixels of a panel's longer side: three share the width of a page
QUALITY = 80  # of 100: fifty overlays stay below five megabytes


def conversion_report(data: Mapping[str, Any], folder: Path) -> ConversionReport:
    """Return what the page shows.

    Args:
        data: the document of :func:`solov2_edge.report_run.gather`.
        folder: what its paths of overlays are relative to.
    """
    files = data["files"]
    baseline = data["baseline"]["eval"]
    return ConversionReport(
        model=data["model"],
        baseline=data["baseline"]["name"],
        baseline_ap=_figure(baseline["ap"], baseline["ap_interval"]),
        pictures=baseline["pictures"],
        objects=baseline["instances"],
        compared=max(file["verify"]["pictures"] for file in files),
        max_drop=data["max_drop"],
        files=tuple(_file(file, folder) for file in files),
        timing=_timing(data),
        sensitivity=tuple(LayerCost(**layer) for layer in data["sensitivity"]),
        notes=tuple(data["notes"]),
        provenance=_shared(data),
        commands=(("With these files, pictures and options", data["command"]),),
    )


def file_title(file: Mapping[str, Any]) -> str:
    """Return format and precision, and the engine where the file's name says that it is for another one."""
    title = f"{TITLES[file['format']]} {file['precision']}"
    engine = next((said for name, said in INT8_ENGINES.items() if f".int8-{name}." in file["name"]), None)
    return title if engine is None else f"{title} for {engine}"


def _figure(value: float, ends: Sequence[float] | None) -> Figure:
    return Figure(value, *(ends or (None, None)))


def _ratio(entry: Mapping[str, Any] | None, stage: str) -> Figure | None:
    if entry is None:
        return None
    ratio = entry["ratio_to_first"][stage]
    return Figure(ratio["p50"], ratio["p05"], ratio["p95"])


def _file(file: Mapping[str, Any], folder: Path) -> ConvertedFile:
    found, timed, verified = file["eval"], file["bench"], file["verify"]
    rows = tuple(StageRow(**stage) for stage in verified["stages"])
    return ConvertedFile(
        name=file["name"],
        title=file_title(file),
        engine=file["engine"],
        size_bytes=file["size_bytes"],
        ap=_figure(found["ap"], found["ap_interval"]),
        drop=_figure(found["drop"], found["drop_interval"]) if "drop" in found else None,
        network=_ratio(timed, "network"),
        frame=_ratio(timed, "frame"),
        network_ms=None if timed is None else timed["stages_ms"]["network"]["p50"],
        # A value that is no finite number fails as surely as the largest.
        parity=tuple(
            StageParity(row.quantity.replace("_", " "), float("inf") if row.worst is None else row.worst, row.bound)
            for row in rows
            if row.stage == "network" and row.bound is not None
        ),
        stages=rows,
        verdicts=dict(verified["verdicts"]),
        matched=verified["matched"],
        expected=verified["expected"],
        verdict=verified["verdict"],
        passed=verified["passed"],
        worst=tuple(_disagreement(view, folder) for view in verified["worst_pictures"]),
        provenance=_own(file),
    )


def _disagreement(view: Mapping[str, Any], folder: Path) -> Disagreement:
    overlay = np.asarray(cv2.imread(str(folder / view["path"]), cv2.IMREAD_COLOR), np.uint8)
    panels = panels_of(overlay)
    height, width = panels[0].shape[:2]
    scale = min(1.0, PANEL / max(height, width))
    width, height = round(width * scale), round(height * scale)
    small = (cv2.resize(panel, (width, height), interpolation=cv2.INTER_AREA) for panel in panels)
    return Disagreement(
        picture=view["picture"],
        panels=tuple(encode_jpeg(np.asarray(panel, np.uint8), QUALITY) for panel in small),
        width=width,
        height=height,
        quality=view["quality"],
        missed=view["missed"],
        extra=view["extra"],
        loose=view["loose"],
    )


def _timing(data: Mapping[str, Any]) -> Timing | None:
    timing = data["timing"]
    if timing is None:
        return None
    machine = timing["machine"]
    entries = [file["bench"] for file in data["files"] if file["bench"] is not None]
    threads = entries[0]["threads"]
    words = f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores"
    chosen = "as many threads as the engines chose" if threads is None else f"{threads} threads"
    words += f", {'1 thread' if threads == 1 else chosen}"
    words += f", {machine['distribution'] or machine['system']}"
    return Timing(data["reference"], words, entries[0]["rounds"], tuple(data["warnings"]))


def _shared(data: Mapping[str, Any]) -> dict[str, str]:
    timing = data["timing"]
    entries = {
        "Checkpoint": f"{data['checkpoint']['name']}, {data['checkpoint']['size_bytes'] / 1e6:.1f} MB",
        "SHA-256 of the checkpoint": data["checkpoint"]["sha256"],
        "Weights": "; ".join(dict.fromkeys(file["weights_licence"] for file in data["files"])),
        "Annotations": f"{data['annotations']['name']}, {data['baseline']['eval']['pictures']} pictures used, "
        f"{data['max_detections']} detections of a picture count",
        "SHA-256 of the annotations": data["annotations"]["sha256"],
        "Measured by": f"solov2-edge {data['version']}",
        "Date": data["when"],
    }
    if timing is not None:
        entries["Run with"] = ", ".join(f"{name} {version}" for name, version in timing["versions"].items())
    return entries


def _own(file: Mapping[str, Any]) -> dict[str, str]:
    contract, calibration = file["input"], file["calibration"]
    entries = {
        "File": f"{file['name']}, {file['size_bytes']:,} bytes",
        "SHA-256": file["sha256"],
        "Input": f"{contract['kind']}, {size_text(contract['height'], contract['width'])}",
        "Run by": file["engine"],
        "Converted with": ", ".join(f"{name} {version}" for name, version in sorted(file["tools"].items()))
        or "unknown",
        "Calibration set": "none was needed" if not calibration else f"{calibration.get('count', '?')} pictures",
    }
    if calibration and calibration.get("sha256"):
        entries["SHA-256 of the calibration set"] = calibration["sha256"]
    if quantisation := file.get("quantisation"):
        entries["Quantisation"] = "; ".join(describe_quantisation(quantisation))
    return entries
