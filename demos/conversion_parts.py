"""The sections of a conversion's page that are tables, each a function from facts to HTML."""

from __future__ import annotations

from html import escape

from solov2_edge.demos.conversion_data import ConversionReport, ConvertedFile, Disagreement, Figure, StageRow
from solov2_edge.demos.report_parts import embedded, power, provenance

__all__ = ["NO_VALUE", "between", "files", "origins", "points", "stages", "tiles", "worst"]

NO_VALUE = "–"  # noqa: RUF001 - an en dash marks an empty cell
PANELS = ("PyTorch", "this file", "where they disagree")


def points(value: float, digits: int = 2) -> str:
    """Write points of AP with a real minus sign, and never a negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")  # noqa: RUF001


def between(figure: Figure, digits: int = 2) -> str:
    """Write a figure's range."""
    if figure.low is None or figure.high is None:
        return "too few pictures for an interval"
    return f"{points(figure.low, digits)} to {points(figure.high, digits)}"


def tiles(report: ConversionReport) -> str:
    """Return the headline numbers: the baseline, the largest drop, the smallest and the fastest file."""
    entries = [(points(report.baseline_ap.value, 1), f"mask AP of {report.baseline}")]
    dropped = [file for file in report.files if file.drop is not None]
    if dropped:
        deepest = max(dropped, key=lambda file: file.drop.value if file.drop else 0.0)
        value = deepest.drop.value if deepest.drop else 0.0
        entries.append((f"{points(value)} <small>points</small>", f"largest drop in AP: {deepest.title}"))
    smallest = min(report.files, key=lambda file: file.size_bytes)
    entries.append((f"{smallest.size_bytes / 1e6:.1f} <small>MB</small>", f"smallest file: {smallest.title}"))
    timed = [file for file in report.files if file.network is not None and file.network.value > 0]
    if report.timing is not None and len(timed) > 1:
        fastest = min(timed, key=lambda file: file.network.value if file.network else 0.0)
        ratio = fastest.network.value if fastest.network else 1.0
        entries.append((f"{1 / ratio:.1f} <small>×</small>", f"as fast a network: {fastest.title}"))  # noqa: RUF001
    passed = sum(file.passed for file in report.files)
    entries.append((f"{passed} <small>of {len(report.files)}</small>", "files verified against PyTorch"))
    cells = "".join(f'<div class="tile"><b>{big}</b><span>{escape(small)}</span></div>' for big, small in entries)
    return f'<div class="tiles">{cells}</div>'


def files(report: ConversionReport) -> str:
    """Return one row per file."""
    names = ("file", "size", "AP", "drop", "network time", "instances", "parity")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_row(file) for file in report.files)
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(file: ConvertedFile) -> str:
    drop = NO_VALUE if file.drop is None else f"{points(file.drop.value)}<small>{between(file.drop)}</small>"
    network = NO_VALUE
    if file.network is not None and file.network_ms is not None:
        network = f"{file.network.value:.2f} ×<small>{file.network_ms:.1f} ms</small>"  # noqa: RUF001
    mark, kind = ("passed", "good") if file.passed else ("failed", "bad")
    return (
        f"<tr><td>{escape(file.title)}<small>{escape(file.name)}</small></td>"
        f'<td data-label="size">{file.size_bytes / 1e6:.1f} MB</td>'
        f'<td data-label="AP">{points(file.ap.value, 1)}<small>{between(file.ap, 1)}</small></td>'
        f'<td data-label="drop">{drop}</td><td data-label="network time">{network}</td>'
        f'<td data-label="instances">{file.matched}<small>of {file.expected}</small></td>'
        f'<td data-label="parity"><span class="{kind}">{mark}</span></td></tr>'
    )


def stages(report: ConversionReport) -> str:
    """Return per file the verdict of each stage, and every quantity with its bound behind a fold."""
    return "".join(
        f"<details{'' if file.passed else ' open'}><summary><b>{escape(file.title)}</b>{_marks(file)}</summary>"
        f'<p class="said">{escape(file.verdict)}</p><div class="card"><table class="quantities">'
        '<thead><tr><th scope="col">quantity</th><th scope="col">worst</th><th scope="col">bound</th>'
        '<th scope="col">on</th><th scope="col"></th></tr></thead>'
        f"<tbody>{''.join(_quantity(row) for row in file.stages)}</tbody></table></div></details>"
        for file in report.files
    )


def _marks(file: ConvertedFile) -> str:
    return '<span class="marks">' + "".join(
        f'<span class="{"good" if good else "bad"}">{escape(stage)} {"✓" if good else "✗ failed"}</span>'
        for stage, good in file.verdicts.items()
    ) + "</span>"  # fmt: skip


def _quantity(row: StageRow) -> str:
    bound = NO_VALUE if row.bound is None else f"{'≥' if row.at_least else '≤'} {_number(row.bound)}"
    value = "not finite" if row.worst is None else _number(row.worst)
    mark = "" if row.bound is None else '<span class="good">ok</span>'
    mark = mark if row.passed else '<span class="bad">failed</span>'
    return (
        f'<tr><td>{escape(row.stage)}: {escape(row.quantity.replace("_", " "))}</td><td data-label="worst">{value}</td>'
        f'<td data-label="bound">{bound}</td><td data-label="on">{escape(row.picture)}</td><td>{mark}</td></tr>'
    )


def _number(value: float) -> str:
    return power(value) if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def worst(report: ConversionReport) -> str:
    """Return the pictures of most disagreement, a fold per file; the file that lost most is open."""
    shown = [file for file in report.files if any(view.panels for view in file.worst)]
    if not shown:
        return ""
    first = max(shown, key=lambda file: file.drop.value if file.drop else float("-inf"))
    return "".join(
        f"<details{' open' if file is first else ''}><summary><b>{escape(file.title)}</b>"
        f'<span class="marks">{len(file.worst)} shown</span></summary>'
        f"{''.join(_disagreement(view) for view in file.worst if view.panels)}</details>"
        for file in shown
    )


def _disagreement(view: Disagreement) -> str:
    panels = "".join(
        f'<div><img alt="{escape(view.picture)}: {title}" width="{view.width}" height="{view.height}" '
        f'src="data:image/jpeg;base64,{embedded(data)}"><span>{title}</span></div>'
        for title, data in zip(PANELS, view.panels, strict=True)
    )
    return (
        f'<figure class="apart"><div class="panels">{panels}</div><figcaption><b>{escape(view.picture)}</b><span>'
        f'<i class="first"></i>{view.missed} only in PyTorch, <i class="second"></i>{view.extra} only in this file, '
        f"{view.loose} with other outlines; panoptic quality {view.quality:.3f}</span></figcaption></figure>"
    )


def origins(report: ConversionReport) -> str:
    """Return where everything comes from: what is shared, then a fold per file."""
    own = "".join(
        f"<details><summary><b>{escape(file.title)}</b></summary>{provenance(file.provenance)}</details>"
        for file in report.files
    )
    return provenance(report.provenance) + own
