"""Two saved measurements side by side, with everything that makes their ratio mean less than it seems to.

Times of two machines, thread counts or workloads are not comparable: that is refused. Another file, another version
or another clock is what one may want to compare: that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from solov2_edge.errors import InputError

__all__ = ["Comparison", "Difference", "StageRatio", "compare"]

# What must be equal for a ratio to mean anything, and what may differ but has to be said.
MACHINE_MUST = ("cpu", "board", "architecture", "cores", "usable_cores", "cpu_quota")
MACHINE_SAID = ("system", "distribution", "memory_bytes")
SETTINGS_MUST = ("masks", "thread_variables")
SETTINGS_SAID = ("frames_sha256", "engine_config")
ENTRY_MUST = ("threads", "input_size", "frame_sizes", "decode_options")
ENTRY_SAID = ("sha256", "engine", "providers", "precision")
CLOCK_DRIFT = 0.1  # clocks that differ by more than this, as a share of the larger, are mentioned
QUANTILES = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something the two measurements do not share.

    Attributes:
        what: for example ``"machine: cpu"``.
        before: its value in the first document.
        after: its value in the second one.
        fatal: ratios of times mean nothing with it.
    """

    what: str
    before: Any
    after: Any
    fatal: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.before} against {self.after}"


@dataclass(frozen=True, slots=True)
class StageRatio:
    """One stage of one artefact in both documents.

    Attributes:
        name: the artefact.
        threads: of the network, or None where the engine chose.
        instances: the scene's number of instances; None for what the frames really held.
        stage: for example ``"network"``.
        before_ms: median of the first document.
        after_ms: median of the second.
        ratios: ``p50``, ``p95`` and ``p99`` of the second over those of the first.
    """

    name: str
    threads: int | None
    instances: int | None
    stage: str
    before_ms: float
    after_ms: float
    ratios: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything two documents share, and everything they do not."""

    stages: tuple[StageRatio, ...]
    differences: tuple[Difference, ...]
    unpaired: tuple[str, ...]

    @property
    def fatal(self) -> tuple[Difference, ...]:
        """The differences with which ratios mean nothing."""
        return tuple(difference for difference in self.differences if difference.fatal)


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compare two documents of :func:`solov2_edge.runtime.bench_report.report`.

    Artefacts are paired by file name, threads and frame sizes; where nothing pairs and both documents hold one
    artefact, those two are.

    Raises:
        InputError: a document lacks a field, or there is nothing to pair.
    """
    try:
        return _compare(before, after)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"a saved measurement lacks or misspells {error}; measure again with bench --save") from error


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    pairs, unpaired = _pairs(before["results"], after["results"])
    differences = [
        *_differing("machine", MACHINE_MUST, before["machine"], after["machine"], fatal=True),
        *_differing("machine", MACHINE_SAID, before["machine"], after["machine"], fatal=False),
        *_clocks(before["machine"]["clocks"], after["machine"]["clocks"]),
        *_differing("setting", SETTINGS_MUST, before["settings"], after["settings"], fatal=True),
        *_differing("setting", SETTINGS_SAID, before["settings"], after["settings"], fatal=False),
        *_differing(
            "version", sorted({*before["versions"], *after["versions"]}), before["versions"], after["versions"]
        ),
    ]
    stages: list[StageRatio] = []
    for one, other in pairs:
        differences += _differing(one["name"], ENTRY_MUST, one, other, fatal=True)
        differences += _differing(one["name"], ENTRY_SAID, one, other)
        for entry in (one, other):
            if not entry["meaningful"]:
                differences.append(Difference(f"{entry['name']}: {entry['note']}", "-", "-", fatal=True))
                break
        stages += _stage_ratios(one, other)
    return Comparison(tuple(stages), tuple(differences), tuple(unpaired))


def _pairs(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[str]]:
    key = {**_keys(before), **_keys(after)}
    others = {key[id(entry)]: entry for entry in after}
    pairs = [(entry, others[key[id(entry)]]) for entry in before if key[id(entry)] in others]
    if not pairs and len(before) == len(after) == 1:
        pairs = [(before[0], after[0])]
    if not pairs:
        names = [", ".join(sorted({str(entry["name"]) for entry in entries})) for entries in (before, after)]
        raise InputError(
            f"the two measurements share no artefact with equal name, threads and frame size: {names[0]} and {names[1]}"
        )
    paired = {id(entry) for pair in pairs for entry in pair}
    left = [entry for entry in (*before, *after) if id(entry) not in paired]
    return pairs, [f"{entry['name']}, {entry['threads'] or 'default'} threads" for entry in left]


def _keys(entries: list[dict[str, Any]]) -> dict[int, tuple[Any, ...]]:
    """Return what each entry is known by; of several sources of one frame size, the place among them counts."""
    keys: dict[int, tuple[Any, ...]] = {}
    for entry in entries:
        known = entry["name"], entry["threads"], str(entry["frame_sizes"])
        keys[id(entry)] = (*known, sum(other[:3] == known for other in keys.values()))
    return keys


def _differing(
    where: str, names: Any, before: Mapping[str, Any], after: Mapping[str, Any], fatal: bool = False
) -> Iterator[Difference]:
    for name in names:
        if before.get(name) != after.get(name):
            yield Difference(f"{where}: {name}", before.get(name), after.get(name), fatal)


def _clocks(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    yield from _differing("machine", ("governor", "max_mhz"), before, after)
    now, then = before["now_mhz"], after["now_mhz"]
    if now and then and abs(now - then) > CLOCK_DRIFT * max(now, then):
        yield Difference("machine: clock in MHz", now, then, False)


def _stage_ratios(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[StageRatio]:
    counts = {scene["instances"]: scene for scene in after["counts"]}
    scenes = [(None, _times(before), _times(after))] + [
        (scene["instances"], scene["stages_ms"], counts[scene["instances"]]["stages_ms"])
        for scene in before["counts"]
        if scene["instances"] in counts and scene["origin"] == counts[scene["instances"]]["origin"]
    ]
    for instances, one, other in scenes:
        for stage in one:
            if stage in other:
                ratios = {q: other[stage][q] / one[stage][q] if one[stage][q] else None for q in QUANTILES}
                yield StageRatio(
                    before["name"],
                    before["threads"],
                    instances,
                    stage,
                    one[stage]["p50"],
                    other[stage]["p50"],
                    ratios,
                )


def _times(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame's times by stage, with a stream's time per frame where one was measured."""
    stream = entry.get("stream")
    return {**entry["stages_ms"], **({f"stream of {stream['depth']}": stream["stream_ms"]} if stream else {})}
