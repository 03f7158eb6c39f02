"""Panoptic annotations through the verbs: train, convert, verify, eval, segment; and what does not go with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from solov2_edge.checkpoint import read_checkpoint, save_checkpoint
from solov2_edge.cli import main
from solov2_edge.model import SOLOv2
from solov2_edge.panoptic_data import read_panoptic_pictures, with_stuff
from solov2_edge.reference import load_reference
from solov2_edge.runtime import PanopticOptions, load
from solov2_edge.runtime.panoptic_annotations import read_panoptic, read_segment_ids
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.spec import ModelSpec
from solov2_edge.train import train
from solov2_edge.train_options import TrainOptions

SIZE = "64x96"


@pytest.fixture(scope="module")
def scenes(write_panoptic: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_panoptic(tmp_path_factory.mktemp("panoptic-verbs"), count=5)


def _data(scenes: Path) -> list[str]:
    folder = scenes.parent
    return ["--annotations", str(scenes), "--images", str(folder / "images"), "--panoptic", str(folder / "panoptic")]


@pytest.fixture(scope="module")
def checkpoint(scenes: Path, tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, trained until it knows sand from water."""
    pictures = read_panoptic_pictures(scenes, scenes.parent / "images", scenes.parent / "panoptic")
    spec = with_stuff(replace(tiny_spec, class_names=pictures.class_names, resize_box=(64, 96)), pictures)
    folder = tmp_path_factory.mktemp("panoptic-run")
    size, rate = (64, 96), {"learning_rate": 1e-2, "warmup_steps": 2, "ema_decay": 0.5}
    options = TrainOptions(epochs=14, batch_size=5, input_size=size, keep_every=14, **rate)  # type: ignore[arg-type]
    train(pictures, spec, folder, options)
    rows = (folder / "log.csv").read_text().splitlines()
    column = rows[0].split(",").index("semantic_loss")
    first, last = (float(row.split(",")[column]) for row in (rows[1], rows[-1]))
    assert last < 0.6 * first
    return folder / "last.safetensors"


@pytest.fixture(scope="module")
def artefact(checkpoint: Path) -> Path:
    words = [
        "convert",
        str(checkpoint),
        "--to",
        "onnx",
        "--input-size",
        SIZE,
        "--name",
        "p",
        "-o",
        str(checkpoint.parent),
    ]
    assert main([*words, "--quiet"]) == 0
    return checkpoint.parent / "p.fp32.onnx"


def test_the_artefact_gives_the_oracles_map(checkpoint: Path, artefact: Path, scenes: Path) -> None:
    reference = load_reference(checkpoint, input_size=(64, 96))
    with load(artefact) as segment:
        assert segment.manifest.outputs == ("class_scores", "kernels", "mask_features", "semantic_logits")
        assert segment.manifest.parity["semantic_logits"] < 1e-4
        assert segment.spec.stuff_names == ("sand", "water")
        options = PanopticOptions(stuff_area=100)
        for path in sorted((scenes.parent / "images").iterdir()):
            frame = read_picture(path)
            got, expected = segment.panoptic(frame, options), reference.panoptic(frame, options)
            assert (got.ids == expected.ids).mean() > 0.999  # a float32 rounding may tip a pixel on a border
            assert [s.label for s in got.segments] == [s.label for s in expected.segments]
            assert {2, 3} <= {s.label for s in got.segments}


def test_eval_measures_panoptic_quality(
    checkpoint: Path, artefact: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(artefact), str(checkpoint), *_data(scenes), "--stuff-area", "100", "--input-size", SIZE]
    assert main([*words, "--json"]) == 0
    one, other = json.loads(capsys.readouterr().out)["results"]
    assert one["all"]["pq"] == pytest.approx(other["all"]["pq"], abs=0.5)
    assert one["stuff"]["pq"] > 60
    assert one["by_name"]["sand"]["tp"] == 5
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "PQ of disc" in table
    assert " things " in table


def test_segment_writes_coco_panoptic(artefact: Path, scenes: Path, tmp_path: Path) -> None:
    words = ["segment", str(artefact), str(scenes.parent / "images"), "--panoptic", "--stuff-area", "100", "--quiet"]
    assert main([*words, "-o", str(tmp_path)]) == 0
    truth = read_panoptic(tmp_path / "panoptic.json")
    assert truth.names(things=True) == ("disc", "bar")
    assert truth.names(things=False) == ("sand", "water")
    assert len(truth.pictures) == 5
    with load(artefact) as segment:
        for image, annotation in truth.pictures:
            ids = read_segment_ids(tmp_path / "panoptic", image, annotation)
            found = segment.panoptic(read_picture(tmp_path / image["file_name"]), PanopticOptions(stuff_area=100))
            assert (ids == found.ids).all()
    overlay = cv2.imread(str(tmp_path / "1.panoptic.png"))
    assert overlay is not None
    assert overlay.shape == (64, 96, 3)
    assert (tmp_path / "1.overlay.png").is_file()
    # What was written is a data set to train on.
    pictures = read_panoptic_pictures(tmp_path / "panoptic.json", tmp_path, tmp_path / "panoptic")
    assert len(pictures.files) == 5


def test_train_takes_panoptic_annotations(scenes: Path, checkpoint: Path, tmp_path: Path) -> None:
    start = ["--init", str(checkpoint), "--batch-size", "2", "--epochs", "1", "--input-size", SIZE]
    with pytest.raises(InputErrorExit):
        _train([*_data(scenes), *start, "--variant", "nano", "-o", str(tmp_path / "other")])
    _train([*_data(scenes), "--batch-size", "5", "--epochs", "1", "--input-size", SIZE, "-o", str(tmp_path / "run")])
    assert read_checkpoint(tmp_path / "run" / "last.safetensors").spec.stuff_names == ("sand", "water")


class InputErrorExit(Exception):
    """The verb ended with exit code 2."""


def _train(words: list[str]) -> None:
    code = main(["train", *words, "--quiet"])
    if code == 2:
        raise InputErrorExit
    assert code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--copy-paste", "0.5"], "--copy-paste cannot be combined with --panoptic"),
        (["--classes", "disc"], "--classes cannot be combined with --panoptic"),
        (["--cache", "ram"], "--cache cannot be combined with --panoptic"),
    ],
)
def test_train_refuses_what_does_not_go_with_panoptic(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["train", *_data(scenes), *more, "-o", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--to", "tflite"], "TFLite"),
        (["--to", "coreml"], "Core ML"),
        (["--to", "ncnn"], "ncnn"),
        (["--to", "onnx", "--decode", "graph"], "a graph that decodes"),
    ],
)
def test_other_targets_refuse_stuff_in_one_sentence(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], what: str
) -> None:
    assert main(["convert", str(checkpoint), *words, "--input-size", SIZE, "-o", str(tmp_path)]) == 2
    assert f"{what} has no semantic branch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_networks_without_stuff_and_gates_are_refused(
    scenes: Path, tiny_spec: ModelSpec, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain.safetensors"
    save_checkpoint(plain, tiny_spec, SOLOv2(tiny_spec).state_dict())
    picture = str(scenes.parent / "images" / "1.png")
    assert main(["segment", str(plain), picture, "--panoptic", "-o", str(tmp_path / "out")]) == 2
    assert "segments instances only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["eval", str(plain), *_data(scenes)]) == 2
    assert "trained without stuff" in capsys.readouterr().err
    assert main(["eval", str(artefact), *_data(scenes), "--baseline", str(artefact)]) == 2
    assert "--baseline cannot be combined with --panoptic" in capsys.readouterr().err
