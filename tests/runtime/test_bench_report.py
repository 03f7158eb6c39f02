from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.bench import Contender, Measured
from solov2_edge.runtime.bench_report import SCHEMA, percentiles, read_report, report, result_entry
from solov2_edge.runtime.bench_scenes import PLANTED, Scene
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import RawOutputs


def test_percentiles_interpolate() -> None:
    found = percentiles([float(value) for value in range(101)])
    assert found == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "mean": 50.0, "min": 0.0, "max": 100.0}
    assert percentiles([2.0, 4.0])["p50"] == 3.0
    assert set(percentiles([7]).values()) == {7.0}


def measured(scale: float) -> Measured:
    times = {stage: [scale * value for value in (1.0, 2.0, 3.0)] for stage in ("preprocess", "network", "decode")}
    return Measured(
        {**times, "frame": [scale, 20 * scale, 30 * scale], "cpu": [1.0] * 3}, [1, 2, 1], ({"decode": [5.0]},)
    )


def test_an_entry_holds_frames_stages_counts_and_ratios(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw), DecodeOptions(score_threshold=0.2))
    frames = tuple(np.zeros((*size, 3), np.uint8) for size in ((8, 9), (20, 30), (8, 9)))
    one = Contender("tiny", segment, segment.spec, segment.options, frames, lambda h, w: fixed_geometry(h, w, 64, 96))
    scene = Scene(4, PLANTED, 12, tiny_raw, one.geometry(8, 9), one.options)
    entry = result_entry({"name": "tiny.onnx", "threads": 1}, one, measured(2), [scene], measured(1))
    assert (entry["name"], entry["threads"], entry["frames"], entry["rounds"]) == ("tiny.onnx", 1, 3, 3)
    assert entry["input_size"] == [64, 96]
    assert entry["frame_sizes"] == [[8, 9], [20, 30]]
    assert entry["decode_options"]["score_threshold"] == 0.2
    assert entry["stages_ms"]["network"]["p50"] == 4.0
    assert entry["instances"]["max"] == 2.0
    (count,) = entry["counts"]
    assert (count["instances"], count["origin"], count["candidates"]) == (4, PLANTED, 12)
    assert count["stages_ms"]["decode"]["p99"] == 5.0
    # Round by round: the times drift by a factor of 30, their ratio does not.
    assert entry["ratio_to_first"]["frame"] == {"p05": 2.0, "p50": 2.0, "p95": 2.0}
    assert set(entry["ratio_to_first"]) == {"preprocess", "network", "decode", "frame"}
    assert result_entry({}, one, measured(1), [scene], None)["ratio_to_first"] is None


def test_a_document_survives_its_file(tmp_path: Path) -> None:
    document = report({"cpu": "X"}, {"numpy": "2"}, {"masks": "crops"}, [{"name": "a"}])
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_report(path) == document
    assert document["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*a.json"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1]", "must be a 'solov2-edge bench 1' document, got None"),
        (b'{"schema": "solov2-edge bench 9"}', "got 'solov2-edge bench 9'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_report(path)
