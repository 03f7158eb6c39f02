"""What ``solov2-edge bench`` says: one table for the frames, one against instance count, one for a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import size_text
from solov2_edge.console import Console

if TYPE_CHECKING:
    from solov2_edge.runtime.bench_compare import Comparison

__all__ = ["print_comparison", "print_report", "when_busy"]

NO_VALUE = "-"
FEW_ROUNDS = 100  # below, the 99th percentile is little more than the slowest round


def print_report(document: Mapping[str, Any], console: Console) -> None:
    """Print machine, frames and the two tables."""
    console.say(_machine(document["machine"]))
    results, settings = document["results"], document["settings"]
    console.say(f"frame: {settings['frame_includes']}; milliseconds, ratios round by round to the first line")
    console.table(*_frames_table(results, settings["masks"]))
    if any(entry["counts"] for entry in results):
        console.say("")
        console.say("against the number of instances")
        console.table(*_counts_table(results))
    streams = [entry for entry in results if entry.get("stream")]
    if streams:
        console.say("")
        console.say("frames per second, and a frame's latency in a stream")
        console.table(*_streams_table(results, streams))
    for line in _notes(document):
        console.say(line)


def print_comparison(comparison: Comparison, names: Sequence[Path], console: Console) -> None:
    """Print what differs, then ratio by ratio."""
    for difference in comparison.differences:
        console.say(f"{'NOT COMPARABLE' if difference.fatal else 'differs'}: {difference}")
    for name in comparison.unpaired:
        console.say(f"in one file only: {name}")
    rows = []
    for stage in comparison.stages:
        ratios = [NO_VALUE if ratio is None else f"{ratio:.2f}" for ratio in stage.ratios.values()]
        rows.append(
            (
                stage.name,
                _threads(stage.threads),
                "frames" if stage.instances is None else str(stage.instances),
                stage.stage,
                _ms(stage.before_ms),
                _ms(stage.after_ms),
                *ratios,
            )
        )
    header = ("artefact", "threads", "instances", "stage", names[0].name, names[1].name, "p50 x", "p95 x", "p99 x")
    console.table(header, rows)


def _machine(machine: Mapping[str, Any]) -> str:
    clocks = machine["clocks"]
    parts = [machine["cpu"], f"{machine['usable_cores']} of {machine['cores']} cores"]
    if clocks["now_mhz"]:
        parts.append(f"{clocks['now_mhz']:.0f} MHz before, {machine['clock_after_mhz'] or 0:.0f} after")
    parts.append(f"governor {clocks['governor'] or 'unknown'}")
    if machine["load"] is not None:
        parts.append(f"load {machine['load']:.1f}")
    return ", ".join(parts)


def _frames_table(results: Sequence[Mapping[str, Any]], masks: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    stages = ["preprocess", "network", "decode", *(["masks"] if masks != "crops" else [])]
    header = ("artefact", "threads", "frames", "found", *stages, "frame", "p95", "p99", "cpu", "ratio", "5..95 %")
    rows = []
    for entry in results:
        times, ratio = entry["stages_ms"], entry["ratio_to_first"]["frame"]
        if entry["meaningful"] and results[0]["meaningful"]:
            compared = (f"{ratio['p50']:.2f}", f"{ratio['p05']:.2f}..{ratio['p95']:.2f}")
        else:
            compared = (NO_VALUE, NO_VALUE)
        rows.append(
            (
                entry["name"],
                _threads(entry["threads"]),
                _frames(entry, results),
                f"{entry['instances']['p50']:.0f}",
                *(_ms(times[stage]["p50"]) for stage in stages),
                *(_ms(times["frame"][quantile]) for quantile in ("p50", "p95", "p99")),
                _ms(times["cpu"]["p50"]),
                *compared,
            )
        )
    return header, rows


def _counts_table(results: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header = (
        "artefact",
        "threads",
        "frames",
        "instances",
        "candidates",
        "from",
        "decode",
        "p95",
        "p99",
        "frame",
        "p95",
    )
    rows = [
        (
            entry["name"],
            _threads(entry["threads"]),
            _frames(entry, results),
            str(scene["instances"]),
            str(scene["candidates"]),
            scene["origin"],
            *(_ms(scene["stages_ms"]["decode"][quantile]) for quantile in ("p50", "p95", "p99")),
            *(_ms(scene["stages_ms"]["frame"][quantile]) for quantile in ("p50", "p95")),
        )
        for entry in results
        for scene in entry["counts"]
    ]
    return header, rows


def _streams_table(
    results: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header: tuple[str, ...] = (
        "artefact",
        "threads",
        "frames",
        "depth",
        "calls",
        "stream",
        "gain",
        "5..95 %",
        "latency ms",
        "p95",
    )
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        stream = entry["stream"]
        gain, latency = stream["gain"], stream["latency_ms"]
        rows.append(
            (
                entry["name"],
                _threads(entry["threads"]),
                _frames(entry, results),
                str(stream["depth"]),
                f"{1e3 / stream['calls_ms']['p50']:.1f}",
                f"{1e3 / stream['stream_ms']['p50']:.1f}",
                f"{gain['p50']:.2f}",
                f"{gain['p05']:.2f}..{gain['p95']:.2f}",
                _ms(latency["p50"]),
                _ms(latency["p95"]),
            )
        )
    return header, rows


def _frames(entry: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """Name the frames: by their sizes, and by their source where there are several."""
    sizes = " ".join(size_text(*size) for size in entry["frame_sizes"])
    return f"{entry['source']} {sizes}" if len({other["source"] for other in results}) > 1 else sizes


def when_busy(machine: Mapping[str, Any]) -> str:
    """Return a sentence if a measurement's machine was not quiet, else ``""``."""
    load, cores = machine["load"], machine["usable_cores"]
    if load is None or load <= cores:
        return ""
    return f"load {load:.1f} on {cores} cores before the start: others are at work, and times are theirs as well"


def _notes(document: Mapping[str, Any]) -> list[str]:
    results = document["results"]
    notes = [f"{entry['name']}: {entry['engine']}: {entry['note']}" for entry in results if entry["note"]]
    rounds = results[0]["rounds"]
    if rounds < FEW_ROUNDS:
        notes.append(f"{rounds} rounds: p99 needs {FEW_ROUNDS} to be more than the slowest one (--repeats, --seconds)")
    busy = when_busy(document["machine"])
    return list(dict.fromkeys([*notes, *([busy] if busy else [])]))


def _threads(threads: int | None) -> str:
    return "default" if threads is None else str(threads)


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
