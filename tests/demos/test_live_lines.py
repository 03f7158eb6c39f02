from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from solov2_edge.demos.live_lines import JsonLines
from solov2_edge.demos.live_snapshot import run_name, save_shown
from solov2_edge.demos.live_view import Shown
from solov2_edge.errors import InputError
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.rle import decode_rle


def test_a_line_per_frame_with_everything_in_it(tmp_path: Path, show: Callable[..., Shown]) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    boxes = [(8, 8, 28, 32), (40, 0, 64, 10)]
    lines.show(show(3, boxes, seconds=0.25))
    first = json.loads((tmp_path / "a.jsonl").read_text())  # readable before the end
    lines.show(show(4, []))
    lines.show(show(4, [], repeated=True))
    lines.close()
    assert {key: first[key] for key in ("index", "name", "seconds", "latency_ms", "dropped", "height", "width")} == {
        "index": 3, "name": None, "seconds": 0.25, "latency_ms": 12.3, "dropped": 4, "height": 48, "width": 64,
    }  # fmt: skip
    assert first["timings_ms"] == {"capture": 1.0, "preprocess": 2.0, "network": 3.0, "decode": 4.0}
    assert [(i["label"], i["score"], i["track"], i["box"]) for i in first["instances"]] == [
        ("cell", 0.9, 1, [8.0, 8.0, 28.0, 32.0]),
        ("dust", 0.89, 2, [40.0, 0.0, 64.0, 10.0]),
    ]
    masks = np.stack([decode_rle(instance["rle"]) for instance in first["instances"]])
    np.testing.assert_array_equal(masks, show(3, boxes).instances.masks)
    everything = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in everything] == [3, 4]
    assert json.loads(everything[1])["instances"] == []


def test_what_json_does_not_know_is_null(show: Callable[..., Shown], capsys: pytest.CaptureFixture[str]) -> None:
    shown = show(0, [], seconds=None)
    shown.timings["network"] = math.nan
    lines = JsonLines(None)
    lines.show(shown)
    lines.close()
    line = json.loads(capsys.readouterr().out)
    assert line["seconds"] is None
    assert line["timings_ms"]["network"] is None
    sys.stdout.write("")  # still open


def test_a_reader_that_has_gone_is_an_error(show: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        JsonLines(None).show(show(0))


def test_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        JsonLines(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        JsonLines(tmp_path / "gone" / "a.jsonl")


def test_a_saved_frame_can_be_opened_and_corrected(tmp_path: Path, show: Callable[..., Shown]) -> None:
    shown = show(7)
    files = save_shown(shown, tmp_path, "live-1")
    assert [file.name for file in files] == ["live-1-000007.png", "live-1-000007.json", "live-1-000007.overlay.png"]
    np.testing.assert_array_equal(read_picture(files[0]), shown.frame.image)
    np.testing.assert_array_equal(read_picture(files[2]), shown.overlay)
    document = json.loads(files[1].read_text())
    assert document["imagePath"] == "live-1-000007.png"
    assert [shape["label"] for shape in document["shapes"]] == ["cell"]
    assert run_name().startswith("live-2")
