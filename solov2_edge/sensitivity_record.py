"""What a sensitivity analysis found, as the document, the table, the CSV and the picture that users get."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from solov2_edge.manifest import OUTPUT_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from solov2_edge.converters.quantisable import Layer
    from solov2_edge.converters.sensitivity import Figures, Sensitivity

__all__ = ["CSV_COLUMNS", "SCHEMA", "as_csv", "entries_of", "picture_of", "table_of"]

SCHEMA = "solov2-edge sensitivity 1"
CSV_COLUMNS = (
    "layer",
    "macs",
    "work_percent",
    *(f"alone_{name}_db" for name in OUTPUT_NAMES),
    *(f"left_out_{name}_db" for name in OUTPUT_NAMES),
    "ap_lost_alone",
    "ap_regained_left_out",
    "layers",
)
HEADERS = ("alone: scores / kernels / masks, dB", "left out, dB")


def entries_of(found: Sensitivity, layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return one JSON-ready entry per group, the one that makes most noise alone first.

    ``solov2-edge report --sensitivity`` reads ``layer``, ``drop`` (points of AP lost with it alone reduced),
    ``sqnr_db`` (the worst output's) and ``macs``.
    """
    from solov2_edge.converters.sensitivity import noise_power

    work = {layer.name: layer.work for layer in layers}
    whole = sum(work.values())
    entries = []
    for effect in sorted(found.effects, key=lambda effect: -noise_power(effect.alone)):
        macs = sum(work[name] for name in effect.layers)
        entries.append(
            {
                "layer": effect.name,
                "layers": list(effect.layers),
                "macs": macs,
                "work_percent": 100 * macs / whole,
                "sqnr_db": min(effect.alone[name] for name in OUTPUT_NAMES),
                "drop": _difference(found.floating, effect.alone),
                "regained": _difference(effect.without, found.reduced),
                "alone": dict(effect.alone),
                "left_out": dict(effect.without),
            }
        )
    return entries


def _difference(higher: Figures, lower: Figures) -> float | None:
    return higher["ap"] - lower["ap"] if "ap" in higher else None


def table_of(entries: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of the printed table."""
    with_ap = entries[0]["drop"] is not None
    header = ("layer", *HEADERS, *(("AP lost", "AP regained") if with_ap else ()), "work")
    rows = []
    for entry in entries:
        points = (f"{entry['drop']:+.2f}", f"{entry['regained']:+.2f}") if with_ap else ()
        share = f"{entry['work_percent']:.1f} %"
        rows.append((entry["layer"], decibels(entry["alone"]), decibels(entry["left_out"]), *points, share))
    return header, rows


def decibels(figures: Mapping[str, float]) -> str:
    """Return the three outputs' dB in a few letters; a dash where an output is as exact as float32 itself."""
    from solov2_edge.converters.sensitivity import SILENT

    words = (f"{figures[name]:.1f}" if figures[name] < SILENT else "-" for name in OUTPUT_NAMES)
    return " / ".join(f"{word:>5}" for word in words)


def as_csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the entries as CSV with :data:`CSV_COLUMNS`; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for entry in entries:
        figures = [entry[side][name] for side in ("alone", "left_out") for name in OUTPUT_NAMES]
        numbers = [*figures, entry["drop"], entry["regained"]]
        cells = ["" if number is None else f"{number:.3f}" for number in numbers]
        share = f"{entry['work_percent']:.3f}"
        writer.writerow([entry["layer"], entry["macs"], share, *cells, " ".join(entry["layers"])])
    return text.getvalue()


def picture_of(document: Mapping[str, Any], title: str, said: str) -> NDArray[np.uint8]:
    """Return the plot of a document's entries, BGR uint8 (H, W, 3)."""
    from solov2_edge.demos.sensitivity_plot import LayerNoise, draw_sensitivity

    whole = _percent(document["reduced"])
    layers = []
    for entry in document["layers"]:
        without = _percent(entry["left_out"])
        removed = {name: 100 * (whole[name] - without[name]) / max(whole[name], 1e-9) for name in OUTPUT_NAMES}
        layers.append(
            LayerNoise(
                entry["layer"],
                _percent(entry["alone"]),
                removed,
                entry["work_percent"],
                entry["drop"],
                entry["regained"],
            )
        )
    return draw_sensitivity(title, said, whole, layers, document["by"])


def _percent(figures: Mapping[str, float]) -> dict[str, float]:
    """Return each output's noise in percent of its signal, as amplitude."""
    return {name: 100 * 10 ** (-figures[name] / 20) for name in OUTPUT_NAMES}
