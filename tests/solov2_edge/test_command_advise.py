"""What is asked, measured and said; never a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge import bench_run, command_advise
from solov2_edge.bundled import bundle
from solov2_edge.cli import main
from solov2_edge.manifest import InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.engine_record import CACHE_VARIABLE, recorded
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.rle import encode_mask
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.variants import variant

SHAPE = (60, 80)
DISCS = 4


class Slowed(FakeSession):
    """A session that takes its time, far beyond what decoding and the machine's moods add."""

    milliseconds = 0

    def run(self, batch: Any) -> Any:
        time.sleep(self.milliseconds / 1e3)
        return super().run(batch)


@pytest.fixture
def artefacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Files ``<ms>-<discs>.<precision>.onnx`` that take so long and find so many of the four discs of the picture."""
    spec = variant("nano")
    geometry = fixed_geometry(*SHAPE, 224, 224)

    def open_segmenter(path: Path, **options: Any) -> Segmenter:
        for name in ("threads", "input_size"):
            options.pop(name, None)
        milliseconds, discs = (int(part) for part in path.stem.split(".")[0].split("-"))
        if options.pop("engine", None) == "openvino":
            milliseconds = 0
        manifest = Manifest.from_json(manifest_path(path).read_text())
        raw = planted_outputs(spec, geometry, DISCS)
        raw.class_scores[:, discs:] = 0  # every disc is of a class of its own
        session = Slowed(manifest, raw)
        session.milliseconds = milliseconds
        return Segmenter(session, DecodeOptions(**options))

    monkeypatch.setattr(bench_run, "open_segmenter", open_segmenter)
    monkeypatch.setattr(command_advise, "open_segmenter", open_segmenter)
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    (tmp_path / "in").mkdir()
    assert cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((*SHAPE, 3), np.uint8))

    def make(*names: str, parity: float = 1e-3, source: str = "a") -> list[str]:
        for name in names:
            path = tmp_path / name
            path.write_bytes(name.encode())
            precision = path.stem.split(".")[1]
            manifest = Manifest(
                spec,
                "onnx",
                precision,
                InputContract("image", 224, 224),
                sha256=sha256_of(path),
                size_bytes=1,
                source_sha256=source * 64,
                parity={"kernels": parity},
            )
            manifest_path(path).write_text(manifest.to_json())
        return [*(str(tmp_path / name) for name in names), "--images", str(tmp_path / "in"), "--seconds", "0.2"]

    return make


@pytest.fixture
def annotations(artefacts: Callable[..., list[str]], tmp_path: Path) -> Path:
    """The discs of the picture as COCO annotations."""
    artefacts("0-4.fp32.onnx")
    truth = bench_run.open_segmenter(tmp_path / "0-4.fp32.onnx")(np.zeros((*SHAPE, 3), np.uint8))
    assert len(truth) == DISCS
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(truth.class_names, start=1)],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": int(truth.labels[number]) + 1,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": [0, 0, 1, 1],
                "segmentation": encode_mask(mask),
            }
            for number, mask in enumerate(truth.masks)
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    return path


def test_the_fast_one_is_shipped_and_the_others_told_why_not(
    artefacts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", *artefacts("0-4.int8.onnx", "60-4.fp32.onnx", "30-4.fp16.onnx")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["artefact", "precision", "size", "frame", "ratio", "AP", "drop", "from", "PyTorch"]
    assert out[1].split()[:2] == ["60-4.fp32.onnx", "fp32"]  # the baseline comes first
    (shipped,) = [line for line in out if line.endswith("<- ship")]
    assert shipped.startswith("0-4.int8.onnx")
    assert any(line.startswith("not 30-4.fp16.onnx: it takes") for line in out)
    assert any(line.startswith("note: accuracy was not measured") for line in out)
    assert out[-1].startswith("ship 0-4.int8.onnx: ")
    assert "times as fast as 60-4.fp32.onnx" in out[-1]


def test_the_engine_to_ship_in_is_part_of_the_advice(
    artefacts: Callable[..., list[str]], annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["advise", *artefacts("40-4.fp32.onnx"), "--engine", "onnxruntime", "openvino"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (Path(document["choice"]).name, document["engine"]) == ("40-4.fp32.onnx", "openvino")
    assert Path(document["baseline"]).name == "40-4.fp32.onnx"
    assert [c["name"] for c in document["candidates"]] == [
        "40-4.fp32.onnx in onnxruntime",
        "40-4.fp32.onnx in openvino",
    ]
    assert "40-4.fp32.onnx in openvino: what its manifest records was measured in onnxruntime" in document["notes"]
    assert "ship 40-4.fp32.onnx in openvino: " in document["verdict"]
    assert main([*words, "--annotations", str(annotations), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [c["drop"] for c in document["candidates"]] == [0, 0]
    assert not any("measured in onnxruntime" in note for note in document["notes"])


def test_the_fastest_engine_is_remembered_where_that_is_asked(
    artefacts: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    words = ["advise", *artefacts("40-4.fp32.onnx"), "--engine", "onnxruntime", "openvino", "--json"]
    path = tmp_path / "40-4.fp32.onnx"
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["remembered"] == []
    assert recorded(path) is None
    assert main([*words, "--remember"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["remembered"]
    record = recorded(path)
    assert record is not None
    assert (record.engine, record.milliseconds) == ("openvino", entry["milliseconds"])
    assert record.milliseconds["openvino"] < record.milliseconds["onnxruntime"]


def test_a_file_in_an_engine_it_was_not_made_for_is_noted(
    artefacts: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = artefacts("5-4.fp32.onnx", "0-4.int8.onnx")
    beside = manifest_path(tmp_path / "0-4.int8.onnx")
    manifest = replace(Manifest.from_json(beside.read_text()), quantisation={"target": "openvino"})
    beside.write_text(manifest.to_json())
    assert main(["advise", *words, "--engine", "onnxruntime", "openvino", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note for note in notes if "made for" in note] == [
        "0-4.int8.onnx in onnxruntime: the file was made for OpenVINO"
    ]


def test_the_bundled_pictures_are_run_on_where_none_are_named(
    artefacts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = artefacts("9-4.fp32.onnx", "0-4.int8.onnx")
    place = words.index("--images")
    assert main(["advise", *words[:place], *words[place + 2 :], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["measurement"]["settings"]["source"] == [str(bundle().pictures)]


def test_int8_that_is_slower_is_said_to_be(
    artefacts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", *artefacts("40-4.int8.onnx", "0-4.fp32.onnx"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert Path(document["choice"]).name == "0-4.fp32.onnx"
    assert document["verdict"].endswith("int8 is no faster than fp32 here")
    assert document["accuracy_known"] is False
    assert {c["name"]: c["drop"] for c in document["candidates"]} == {"0-4.fp32.onnx": None, "40-4.int8.onnx": None}
    assert document["measurement"]["settings"]["seconds"] == 0.2


def test_accuracy_decides_where_it_is_measured(
    artefacts: Callable[..., list[str]], annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["advise", *artefacts("40-4.fp32.onnx", "0-2.int8.onnx"), "--annotations", str(annotations)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "not 0-2.int8.onnx: it loses" in out
    assert out.splitlines()[-1].startswith("ship 40-4.fp32.onnx: ")
    assert "too few to say how far the drop can be trusted" in out
    assert main([*words, "--max-drop", "90"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ship 0-2.int8.onnx: ")


def test_what_makes_the_advice_doubtful_is_said(
    artefacts: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0), raising=False)
    first = artefacts("0-4.fp32.onnx", source="a")[0]
    assert main(["advise", first, *artefacts("40-4.int8.onnx", source="b")]) == 0
    out = capsys.readouterr().out
    assert "note: the artefacts were made from different checkpoints" in out
    assert "note: the machine was busy with other work (load 99.0" in out


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (["0-4.fp32.onnx"], [], "at least two artefacts"),
        (["0-4.fp32.onnx", "gone.onnx"], [], "gone.onnx: no such artefact"),
        (["0-4.fp32.onnx", "model.pth"], [], "model.pth is a checkpoint"),
        (["0-4.fp32.onnx", "0-4.int8.onnx"], ["--seconds", "0"], "--seconds must be above 0"),
        (["0-4.fp32.onnx", "0-4.int8.onnx"], ["--max-drop", "-1"], "--max-drop must be"),
        (["0-4.fp32.onnx", "0-4.int8.onnx"], ["--annotations", "gone.json"], "gone.json does not exist"),
        (["0-4.fp32.onnx", "0-4.int8.onnx"], ["--threads", "0"], "--threads must be at least 1"),
        (["0-4.fp32.onnx", "0-4.int8.onnx"], ["--remember"], "--remember needs an artefact in two engines"),
    ],
)
def test_what_cannot_be_advised_on_is_refused(
    artefacts: Callable[..., list[str]],
    tmp_path: Path,
    names: list[str],
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = artefacts("0-4.fp32.onnx", "0-4.int8.onnx")[2:]
    (tmp_path / "model.pth").write_bytes(b"x")
    assert main(["advise", *(str(tmp_path / name) for name in names), *options, *more]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_changed_artefact_is_refused(artefacts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    words = artefacts("0-4.fp32.onnx", "0-4.int8.onnx")
    Path(words[1]).write_bytes(b"changed")
    assert main(["advise", *words]) == 2
    assert "has SHA-256" in capsys.readouterr().err
