"""A small network of random weights measured block by block, and the report that shows what was found."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.cli import main
from solov2_edge.demos.sensitivity_plot import WIDTH
from solov2_edge.manifest import OUTPUT_NAMES, sha256_of
from solov2_edge.model import SOLOv2
from solov2_edge.report_sensitivity import read_sensitivity
from solov2_edge.sensitivity_record import CSV_COLUMNS
from solov2_edge.spec import ModelSpec


@dataclass(frozen=True)
class Case:
    checkpoint: Path
    calibration: Path
    images: Path
    annotations: Path

    def words(self, out: Path, *more: str) -> list[str]:
        words = ["sensitivity", str(self.checkpoint), "--input-size", "64x64", "--calibrate", str(self.calibration)]
        return [*words, "--allow-small", "--images", str(self.images), "-o", str(out), "--threads", "1", *more]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec, write_discs: Callable[..., Path]) -> Case:
    folder = tmp_path_factory.mktemp("case")
    spec = replace(tiny_spec, class_names=("odd", "even"))
    torch.manual_seed(0)
    save_checkpoint(folder / "small.safetensors", spec, SOLOv2(spec).state_dict())
    for name, seed in (("calibration", 1), ("images", 2)):
        (folder / name).mkdir()
        write_discs(folder / name, count=3, seed=seed)
    annotations = folder / "images" / "annotations.json"
    return Case(folder / "small.safetensors", folder / "calibration", folder / "images", annotations)


@pytest.fixture(scope="module")
def measured(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an analysis for ONNX Runtime, with AP."""
    out = tmp_path_factory.mktemp("sensitivity")
    annotated = ["--annotations", str(case.annotations), "--limit", "2"]
    assert main(case.words(out, "--by", "block", *annotated, "--quiet", "--json")) == 0
    return out


def test_the_document_has_every_block_from_both_sides(measured: Path, case: Case) -> None:
    document = json.loads((measured / "small.int8.onnx.sensitivity.json").read_text(encoding="utf-8"))
    assert (document["format"], document["target"], document["by"]) == ("onnx", "cpu", "block")
    assert document["source_sha256"] == sha256_of(case.checkpoint)
    assert document["engine"].startswith("onnxruntime")
    assert (document["calibration"]["count"], document["pictures"]["count"], document["compared"]) == (3, 2, 2)
    blocks = {entry["layer"]: entry for entry in document["layers"]}
    assert {"backbone.layer1.0", "neck.lateral_convs", "mask_head.kernel_convs", "mask_head.mask_feature_head"} <= set(
        blocks
    )
    kernels = blocks["mask_head.conv_kernel"]
    assert kernels["alone"]["kernels"] < 60 < kernels["alone"]["mask_features"]  # reaches the one, not the other
    assert kernels["left_out"]["kernels"] >= document["reduced"]["kernels"]
    powers = [sum(10 ** (-entry["alone"][name] / 10) for name in OUTPUT_NAMES) for entry in document["layers"]]
    assert powers == sorted(powers, reverse=True)
    assert sum(entry["work_percent"] for entry in document["layers"]) == pytest.approx(100)
    assert all(
        entry["drop"] == pytest.approx(document["floating"]["ap"] - entry["alone"]["ap"]) for entry in blocks.values()
    )


def test_csv_and_picture_show_the_same(measured: Path) -> None:
    document = json.loads((measured / "small.int8.onnx.sensitivity.json").read_text(encoding="utf-8"))
    with (measured / "small.int8.onnx.sensitivity.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["layer"] for row in rows] == [entry["layer"] for entry in document["layers"]]
    worst = document["layers"][0]
    assert float(rows[0]["alone_kernels_db"]) == pytest.approx(worst["alone"]["kernels"], abs=1e-3)
    assert rows[0]["layers"].split() == worst["layers"]
    picture = cv2.imread(str(measured / "small.int8.onnx.sensitivity.png"))
    assert picture is not None
    assert picture.shape[1] == WIDTH


def test_the_report_shows_what_the_verb_wrote(measured: Path, case: Case, tmp_path: Path) -> None:
    """From the verb to the page, with no file between them touched."""
    path = measured / "small.int8.onnx.sensitivity.json"
    layers = read_sensitivity(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [(layer.layer, layer.macs) for layer in layers] == [(e["layer"], e["macs"]) for e in document["layers"]]
    assert main(["convert", str(case.checkpoint), "--input-size", "64x64", "-o", str(tmp_path), "--quiet"]) == 0
    words = ["report", str(tmp_path / "small.fp32.onnx"), "--against", str(case.checkpoint), "--threads", "1"]
    words += ["--images", str(case.images), "--annotations", str(case.annotations), "--sensitivity", str(path)]
    words += ["--verify-limit", "1", "--seconds", "0.1", "--settle", "0", "--quiet", "-o", str(tmp_path / "report")]
    assert main(words) == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert all(f'title="{layer.layer}"' in page for layer in layers)
    assert f"{min(layer.sqnr_db for layer in layers if layer.sqnr_db is not None):.1f} dB, " in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "tflite", "--for", "tensorrt"], "--for is for --to onnx"),
        (["--to", "tflite", "--dcn", "lowered"], "--dcn is for --to onnx"),
        (["--input-size", "65x64"], "the next is 96x64"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--name", "a/b"], "--name must be a bare file name"),
        (["--images", "gone"], "gone is no folder"),
    ],
)
def test_what_is_refused_before_any_work(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*case.words(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_that_calibrate_are_refused_whatever_they_are_called(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(case.images, mixed)
    picture: Any = cv2.imread(str(case.calibration / "1.png"))
    cv2.imwrite(str(mixed / "another.bmp"), picture)  # the same pixels in another format
    words = [str(mixed) if word == str(case.images) else word for word in case.words(tmp_path / "out")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "1 of the 4 pictures to measure on calibrate as well" in err
    assert "another.bmp" in err
    assert not (tmp_path / "out").exists()
