from __future__ import annotations

import copy
from typing import Any

import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.bench_compare import compare


def quantiles(value: float) -> dict[str, float]:
    return {"p50": value, "p95": 2 * value, "p99": 3 * value, "mean": value, "min": value, "max": 3 * value}


def entry(name: str = "a.onnx", threads: int | None = 1, **changes: Any) -> dict[str, Any]:
    scene = {"instances": 20, "origin": "real outputs", "stages_ms": {"decode": quantiles(4.0)}}
    return {
        "name": name,
        "threads": threads,
        "sha256": "ab",
        "engine": "onnxruntime 1.32.0",
        "providers": ["CPUExecutionProvider"],
        "precision": "fp32",
        "input_size": [448, 448],
        "frame_sizes": [[480, 640]],
        "decode_options": {"score_threshold": 0.1},
        "meaningful": True,
        "note": "",
        "stages_ms": {"network": quantiles(10.0), "frame": quantiles(20.0)},
        "counts": [scene],
        **changes,
    }


def document(*entries: dict[str, Any]) -> dict[str, Any]:
    clocks = {"governor": "performance", "now_mhz": 2000.0, "max_mhz": 2100.0}
    machine = {"cpu": "X", "cores": 4, "usable_cores": 4, "architecture": "x86_64", "system": "Linux 6"}
    return {
        "machine": {**machine, "clocks": clocks},
        "versions": {"numpy": "2.4.6"},
        "settings": {"masks": "crops", "thread_variables": {}, "frames_sha256": "cd"},
        "results": list(entries) or [entry()],
    }


def test_the_same_twice() -> None:
    found = compare(document(), document())
    assert not found.differences
    assert not found.unpaired
    assert [(s.stage, s.instances, s.ratios) for s in found.stages] == [
        ("network", None, {"p50": 1.0, "p95": 1.0, "p99": 1.0}),
        ("frame", None, {"p50": 1.0, "p95": 1.0, "p99": 1.0}),
        ("decode", 20, {"p50": 1.0, "p95": 1.0, "p99": 1.0}),
    ]


def test_ratios_are_after_over_before() -> None:
    after = document(entry(stages_ms={"network": {**quantiles(5.0), "p99": 60.0}, "frame": quantiles(30.0)}))
    network, frame, _ = compare(document(), after).stages
    assert network.ratios == {"p50": 0.5, "p95": 0.5, "p99": 2.0}
    assert (network.before_ms, network.after_ms) == (10.0, 5.0)
    assert frame.ratios["p50"] == 1.5


def test_streams_of_equal_depth_are_a_stage() -> None:
    def streaming(depth: int, value: float) -> dict[str, Any]:
        return document(entry(stream={"depth": depth, "stream_ms": quantiles(value)}))

    stages = {stage.stage: stage for stage in compare(streaming(3, 8.0), streaming(3, 4.0)).stages}
    assert stages["stream of 3"].ratios["p50"] == 0.5
    assert stages["stream of 3"].instances is None
    other = (streaming(2, 8.0), document(), document(entry(stream=None)))
    assert not [
        stage for after in other for stage in compare(streaming(3, 8.0), after).stages if "stream" in stage.stage
    ]


def test_several_sources_pair_in_their_order() -> None:
    def two(first: float, second: float) -> dict[str, Any]:
        return document(*(entry(stages_ms={"frame": quantiles(value)}, counts=[]) for value in (first, second)))

    found = compare(two(10.0, 20.0), two(30.0, 20.0))
    assert [stage.ratios["p50"] for stage in found.stages] == [3.0, 1.0]
    assert compare(two(10.0, 20.0), document(entry(counts=[]))).unpaired == ("a.onnx, 1 threads",)


def test_a_stage_that_took_no_time_has_no_ratio() -> None:
    before = document(entry(stages_ms={"network": quantiles(0.0)}))
    assert compare(before, document()).stages[0].ratios == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize(
    ("part", "key", "value", "fatal"),
    [
        ("machine", "cpu", "Y", True),
        ("machine", "usable_cores", 2, True),
        ("machine", "board", "Jetson", True),
        ("machine", "system", "Linux 7", False),
        ("settings", "masks", "full", True),
        ("settings", "thread_variables", {"OMP_NUM_THREADS": "1"}, True),
        ("settings", "frames_sha256", "ef", False),
        ("versions", "numpy", "1.26.4", False),
        ("versions", "torch", "2.13.0", False),
    ],
)
def test_what_differs_around_the_artefacts(part: str, key: str, value: Any, fatal: bool) -> None:
    after = document()
    after[part][key] = value
    (difference,) = compare(document(), after).differences
    assert difference.fatal is fatal
    assert difference.what.endswith(key)
    assert str(difference) == f"{difference.what}: {document()[part].get(key)} against {value}"


@pytest.mark.parametrize(
    ("key", "value", "mentioned"),
    [("governor", "powersave", True), ("max_mhz", 1000.0, True), ("now_mhz", 1500.0, True), ("now_mhz", 1950.0, False)],
)
def test_clocks_are_mentioned_when_they_moved(key: str, value: Any, mentioned: bool) -> None:
    after = document()
    after["machine"]["clocks"][key] = value
    found = compare(document(), after)
    assert [d.fatal for d in found.differences] == [False] * mentioned


@pytest.mark.parametrize(
    ("changes", "fatal"),
    [
        ({"sha256": "other"}, False),
        ({"engine": "onnxruntime 2"}, False),
        ({"input_size": [224, 224]}, True),
        ({"decode_options": {"score_threshold": 0.3}}, True),
        ({"threads": 2}, True),
        ({"meaningful": False, "note": "times mean nothing"}, True),
    ],
)
def test_what_differs_in_an_artefact(changes: dict[str, Any], fatal: bool) -> None:
    found = compare(document(), document(entry(**changes)))
    assert [d.fatal for d in found.differences] == [fatal]
    assert bool(found.fatal) is fatal
    assert found.stages, "what differs is said, and the ratios are there for who insists"


def test_pairs_are_of_one_name_and_one_number_of_threads() -> None:
    before = document(entry("a.onnx", 1), entry("a.onnx", 2), entry("b.onnx", 1))
    after = document(entry("b.onnx", 1), entry("a.onnx", 2, stages_ms={"network": quantiles(30.0)}))
    found = compare(before, after)
    network = {(s.name, s.threads): s.ratios["p50"] for s in found.stages if s.stage == "network"}
    assert network == {("a.onnx", 2): 3.0, ("b.onnx", 1): 1.0}
    assert found.unpaired == ("a.onnx, 1 threads",)


def test_one_of_each_is_a_pair_whatever_its_name() -> None:
    found = compare(document(entry("a.onnx")), document(entry("b.tflite")))
    assert len(found.stages) == 3


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(InputError, match=r"share no artefact .*: a.onnx, b.onnx and c.onnx"):
        compare(document(entry("a.onnx"), entry("b.onnx")), document(entry("c.onnx")))


def test_scenes_of_another_origin_or_number_are_left_out() -> None:
    other = entry()
    other["counts"] = copy.deepcopy(other["counts"])
    other["counts"][0]["origin"] = "planted discs"
    assert [s.instances for s in compare(document(), document(other)).stages] == [None, None]


def test_a_damaged_document_is_one_sentence() -> None:
    broken = document()
    del broken["results"][0]["stages_ms"]
    for wrong in (broken, {}, {**document(), "results": 3}, {**document(), "machine": None}):
        with pytest.raises(InputError, match="lacks or misspells"):
            compare(document(), wrong)
