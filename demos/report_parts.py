"""The sections of the report, each a function from facts to HTML."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from typing import Protocol

from solov2_edge.demos.report_data import ArtefactFacts, PictureFacts, Report, StageParity

__all__ = ["commands", "embedded", "gallery", "notes", "parity", "power", "provenance", "table", "tiles", "times"]

STAGES = (("preprocess", "pre"), ("network", "net"), ("decode", "dec"))
# Ends of the parity scale, as powers of ten of the range: float32's own rounding is near -7.
LEAST, MOST = -8.0, 0.0


def gallery(pictures: tuple[PictureFacts, ...], things: str) -> str:
    """Return the pictures with one switch for all of them; it works without any script."""
    views = [("picture", "Picture"), ("found", f"Found {things}")]
    if any(picture.annotated for picture in pictures):
        views.append(("annotated", "Annotated"))
    inputs = "".join(
        f'<input type="radio" name="show" id="show-{view}"{" checked" if view == "found" else ""}>' for view, _ in views
    )
    labels = "".join(f'<label for="show-{view}">{escape(text)}</label>' for view, text in views)
    figures = "".join(_figure(picture) for picture in pictures)
    return f'<div class="viewer">{inputs}<div class="switch">{labels}</div><div class="gallery">{figures}</div></div>'


def _figure(picture: PictureFacts) -> str:
    images = "".join(
        f'<img class="{view}" alt="{escape(picture.caption)}, {view}" src="data:image/jpeg;base64,{embedded(data)}">'
        for view, data in (("picture", picture.picture), ("found", picture.found), ("annotated", picture.annotated))
        if data
    )
    annotated = f", {picture.annotated_count} annotated" if picture.annotated else ""
    total = sum(picture.timings.values())
    return (
        f'<figure style="--aspect:{picture.width / picture.height:.4f}"><div class="frame">{images}</div><figcaption>'
        f"<b>{picture.found_count} found{annotated}</b>"
        f"<span>{escape(picture.caption)}. {total:.0f} ms.</span></figcaption></figure>"
    )


def embedded(data: bytes) -> str:
    """Return bytes as a data address has them."""
    return base64.b64encode(data).decode("ascii")


def tiles(report: Report) -> str:
    """Return the headline numbers of the artefact that made the pictures."""
    first = report.artefacts[0]
    entries = []
    if first.ap is not None:
        entries.append((f"{first.ap:.1f}", "mask AP on these pictures"))
    if first.ap50 is not None:
        entries.append((f"{first.ap50:.1f}", "AP at IoU 0.5"))
    if first.parity:
        worst = max(stage.difference for stage in first.parity)
        entries.append((power(worst), "largest difference from PyTorch, of range"))
    whole = sorted(sum(picture.timings.values()) for picture in report.pictures)
    if whole:
        entries.append((f"{whole[len(whole) // 2]:.0f} <small>ms</small>", "a picture, all stages"))
    entries.append((f"{first.size_bytes / 1e6:.1f} <small>MB</small>", "the file that did it"))
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{b}</b><span>{s}</span></div>' for b, s in entries)
        + "</div>"
    )


def table(artefacts: tuple[ArtefactFacts, ...]) -> str:
    """Return one row per file."""
    rows = "".join(
        f"<tr><td>{escape(a.name)}<small>{escape(a.engine)}</small></td>"
        f'<td data-label="size">{a.size_bytes / 1e6:.1f} MB</td><td data-label="AP">{_points(a.ap)}</td>'
        f'<td data-label="AP50">{_points(a.ap50)}</td><td data-label="network">{_milliseconds(a.network_ms)}</td>'
        f"<td>{_verdict(a)}</td></tr>"
        for a in artefacts
    )
    head = "<tr><th>file</th><th>size</th><th>AP</th><th>AP50</th><th>network</th><th>against PyTorch</th></tr>"
    return f'<div class="card"><table>{head}{rows}</table></div>'


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"  # noqa: RUF001 - an en dash marks an empty cell


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"  # noqa: RUF001 - an en dash marks an empty cell


def _verdict(artefact: ArtefactFacts) -> str:
    if artefact.passed is None:
        return "–"  # noqa: RUF001 - an en dash marks an empty cell
    mark, kind = ("passed", "good") if artefact.passed else ("failed", "bad")
    return f'<span class="{kind}">{mark}</span><small>{escape(artefact.verdict)}</small>'


class Compared(Protocol):
    """A file whose outputs were compared with PyTorch's."""

    @property
    def name(self) -> str: ...

    @property
    def parity(self) -> tuple[StageParity, ...]: ...


def parity(artefacts: Sequence[Compared]) -> str:
    """Return the differences per stage on a logarithmic scale with their bounds; empty if nothing was verified."""
    checked = [artefact for artefact in artefacts if artefact.parity]
    if not checked:
        return ""
    stages = dict.fromkeys(stage.stage for artefact in checked for stage in artefact.parity)
    rows = ""
    for name in stages:
        bars = "".join(
            _scale(_short(artefact.name), stage)
            for artefact in checked
            for stage in artefact.parity
            if stage.stage == name
        )
        rows += f'<div class="stage"><span>{escape(name)}</span><div class="bars">{bars}</div></div>'
    return f'<div class="card">{rows}</div>'


def _short(name: str) -> str:
    """Return ``onnx fp16`` for ``name.fp16.onnx``, with ``coreml`` for a package; else the name."""
    parts = name.split(".")
    format_ = "coreml" if parts[-1] == "mlpackage" else parts[-1]
    return f"{format_} {parts[-2]}" if len(parts) > 2 else name


def _scale(label: str, stage: StageParity) -> str:
    kind = "" if stage.difference <= stage.bound else ' class="over-bound"'
    return (
        f'<div class="scale"><i>{escape(label)}</i><div class="bar">'
        f'<span{kind} style="width:{_place(stage.difference):.1f}%"></span>'
        f'<u style="left:{_place(stage.bound):.1f}%" title="bound {stage.bound:g}"></u></div>'
        f"<em>{power(stage.difference)}</em></div>"
    )


def _place(value: float) -> float:
    """Return the place of a difference on the scale, in percent."""
    power = math.log10(value) if value > 0 else LEAST
    return 100.0 * min(1.0, max(0.0, (power - LEAST) / (MOST - LEAST)))


def power(value: float) -> str:
    """Write 0.0000031 as 3.1 x 10^-6, with real superscripts."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "not finite"
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.1f}·10<sup>{exponent}</sup>".replace("-", "−")  # noqa: RUF001 - a real minus sign


def times(pictures: tuple[PictureFacts, ...]) -> str:
    """Return the stage times per picture as stacked bars on one scale."""
    longest = max((sum(picture.timings.values()) for picture in pictures), default=0.0) or 1.0
    rows = ""
    for picture in pictures:
        parts = "".join(
            f'<span class="{kind}" style="width:{100 * picture.timings.get(stage, 0.0) / longest:.2f}%" '
            f'title="{stage} {picture.timings.get(stage, 0.0):.1f} ms"></span>'
            for stage, kind in STAGES
        )
        total = sum(picture.timings.values())
        rows += (
            f'<div class="times"><span class="name">{escape(picture.name)}</span>'
            f'<div class="stack">{parts}</div><em>{total:.0f} ms</em></div>'
        )
    dots = "".join(f'<span style="--dot:var(--{kind})">{stage}</span>' for stage, kind in STAGES)
    return f'<div class="card">{rows}</div><p class="legend">{dots}</p>'


def notes(sentences: tuple[str, ...]) -> str:
    """Return what a reader must know, if anything."""
    if not sentences:
        return ""
    return '<div class="notes">' + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences) + "</div>"


def provenance(entries: dict[str, str]) -> str:
    """Return names and values."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{_value(value)}</dd>" for name, value in entries.items())
    return f'<div class="card"><dl>{rows}</dl></div>'


def _value(value: str) -> str:
    is_hash = len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    return f"<code>{value}</code>" if is_hash else escape(value)


def commands(entries: tuple[tuple[str, str], ...]) -> str:
    """Return command lines to go on with."""
    rows = "".join(
        f'<div class="command"><span>{escape(purpose)}</span><code>{escape(line)}</code></div>'
        for purpose, line in entries
    )
    return f'<div class="card">{rows}</div>'
