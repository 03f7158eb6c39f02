"""The plots of a conversion's page, drawn with nothing but boxes: they scale with the page and follow its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from solov2_edge.demos.conversion_data import ConversionReport, LayerCost
from solov2_edge.demos.conversion_parts import points

__all__ = ["drops", "sensitivity", "times"]

LEAST_SPAN = 0.2  # points of AP: a smaller axis would magnify noise
TICKS = 5
MOST_RATIO = 3.0  # a file that is many times slower would leave all others without a bar to compare
MOST_LAYERS = 40  # the worst ones; a page is no spreadsheet, and the JSON file beside it has them all


def drops(report: ConversionReport) -> str:
    """Return each file's drop in AP with its interval, on one axis that holds zero and what is allowed."""
    shown = [(file.title, file.drop) for file in report.files if file.drop is not None]
    if not shown:
        return ""
    ends = [0.0, *(value for _, f in shown for value in (f.value, f.low, f.high) if value is not None)]
    if report.max_drop is not None:
        ends.append(report.max_drop)
    low, high, step = _axis(min(ends), max(ends))
    rows = "".join(
        f'<div class="forest"><span>{escape(title)}</span><div class="axis">{_zero(low, high)}'
        f"{_allowed(report.max_drop, low, high)}{_whisker(figure.low, figure.high, low, high)}"
        f'<b style="left:{_place(figure.value, low, high):.2f}%"'
        f"{' class=over' if report.max_drop is not None and figure.value > report.max_drop else ''}></b></div>"
        f"<em>{points(figure.value)}</em></div>"
        for title, figure in shown
    )
    ticks = "".join(
        f'<i style="left:{_place(value, low, high):.2f}%">{points(value, _digits(step))}</i>'
        for value in (low + step * index for index in range(round((high - low) / step) + 1))
    )
    return (
        f'<div class="card">{rows}<div class="forest ticks"><span></span><div class="axis">{ticks}</div><em></em></div>'
        "</div>"
    )


def _axis(low: float, high: float) -> tuple[float, float, float]:
    """Return round ends and the step between ticks."""
    raw = max(high - low, LEAST_SPAN) / TICKS
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, max(last, first + 1) * step, step


def _digits(step: float) -> int:
    return max(0, -math.floor(math.log10(step)))


def _place(value: float, low: float, high: float) -> float:
    return 100 * min(1.0, max(0.0, (value - low) / (high - low)))


def _zero(low: float, high: float) -> str:
    return f'<u style="left:{_place(0.0, low, high):.2f}%"></u>'


def _allowed(max_drop: float | None, low: float, high: float) -> str:
    if max_drop is None:
        return ""
    return f'<u class="allowed" style="left:{_place(max_drop, low, high):.2f}%" title="{max_drop:g} are allowed"></u>'


def _whisker(start: float | None, end: float | None, low: float, high: float) -> str:
    if start is None or end is None:
        return ""
    left, right = _place(start, low, high), _place(end, low, high)
    return f'<span style="left:{left:.2f}%;width:{max(right - left, 0.3):.2f}%"></span>'


def times(report: ConversionReport) -> str:
    """Return each file's network time as a bar, over the reference's."""
    shown = [(file.title, file.network, file.network_ms) for file in report.files]
    longest = max((min(network.value, MOST_RATIO) for _, network, _ in shown if network is not None), default=0.0)
    if longest <= 0:
        return ""
    rows = ""
    for title, network, milliseconds in shown:
        if network is None or milliseconds is None:
            continue
        spread = "" if network.low is None or network.high is None else f"{network.low:.2f} to {network.high:.2f}"
        rows += (
            f'<div class="plot"><span>{escape(title)}</span><div class="bar" title="{spread}">'
            f"<span{' class=beyond' if network.value > MOST_RATIO else ''} "
            f'style="width:{min(100.0, 100 * network.value / longest):.2f}%"></span></div>'
            f"<em>{network.value:.2f} ×<small>{milliseconds:.1f} ms</small></em></div>"  # noqa: RUF001
        )
    return f'<div class="card">{rows}</div>'


def sensitivity(layers: Sequence[LayerCost]) -> str:
    """Return one bar per layer, most harmful first, by noise where every layer's is known, else by points of AP lost.

    Noise is steady on a few pictures, and single layers move AP by less than the choice of pictures does.
    """
    by_drop = [layer for layer in layers if layer.drop is not None]
    if all(layer.sqnr_db is not None for layer in layers) or not by_drop:
        ranked = sorted(
            (layer for layer in layers if layer.sqnr_db is not None), key=lambda layer: layer.sqnr_db or 0.0
        )
        if not ranked:
            return ""
        # Decibels grow as harm shrinks, so that the bar is the noise: its amplitude against the worst layer's.
        worst = ranked[0].sqnr_db or 0.0
        bars = [
            (
                layer,
                10 ** ((worst - (layer.sqnr_db or 0.0)) / 20),
                f"{layer.sqnr_db:.1f} dB" + ("" if layer.drop is None else f", {points(layer.drop)} points"),
            )
            for layer in ranked
        ]
        said = "Signal to noise of the outputs with this layer alone reduced; the bar is the noise, longer is worse."
        if by_drop:
            said += " Beside it, the points of mask AP lost that way, which chance moves as well."
    else:
        ranked = sorted(by_drop, key=lambda layer: -(layer.drop or 0.0))
        most = max(max(layer.drop or 0.0 for layer in ranked), 1e-9)
        bars = [(layer, max(layer.drop or 0.0, 0.0) / most, f"{points(layer.drop or 0.0)} points") for layer in ranked]
        said = "Points of mask AP lost with this layer alone reduced; a longer bar is worse."
    rows = "".join(
        f'<div class="plot layer"><span title="{escape(layer.layer)}">{escape(layer.layer)}</span><div class="bar">'
        f'<span style="width:{100 * share:.2f}%"></span></div><em>{text}{_work(layer)}</em></div>'
        for layer, share, text in bars[:MOST_LAYERS]
    )
    left = len(layers) - min(len(bars), MOST_LAYERS)
    more = f" The {MOST_LAYERS} worst of {len(layers)} layers; the JSON file beside this page has all." if left else ""
    return f'<p class="said">{said}{more}</p><div class="card">{rows}</div>'


def _work(layer: LayerCost) -> str:
    return "" if layer.macs is None else f"<small>{layer.macs / 1e6:.1f} M MAC</small>"
