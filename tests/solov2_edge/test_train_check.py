"""``solov2-edge train --check``: each kind of fault by name, the counts, and the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.cli import main


@pytest.fixture
def forms(annotation_forms: ModuleType, tmp_path: Path) -> Any:
    return annotation_forms.write_forms(tmp_path)


def _check(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["train", "--check", "--annotations", str(path), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("form", ["coco", "labelme", "yolo"])
def test_a_good_set_of_any_form_passes_with_the_same_counts(
    forms: Any, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    images = ("--images", str(forms.images)) if form == "coco" else ()
    code, data = _check(getattr(forms, form), capsys, *images, "--input-size", "192x256")
    training = data["training"]
    assert (code, data["passed"], training["fault_count"]) == (0, True, 0)
    assert (training["pictures"], training["pictures_with_objects"], training["objects"]) == (3, 2, 3)
    assert training["classes"] == [
        {"name": "cup", "pictures": 1, "objects": 1},
        {"name": "plate", "pictures": 2, "objects": 2},
    ]
    # Boxes of about 40 x 42, 40 x 40 and 40 x 50 pixels, twice as large at the input: 82, 80 and 90.
    assert [level["objects"] for level in training["levels"]] == [0, 3, 3, 0, 0]
    assert training["untaught"]["count"] == 0


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "a missing picture": (lambda d: d["images"][0].update(file_name="gone.png"), "picture 1 (gone.png)", "not there"),
    "another size": (lambda d: d["images"][0].update(height=90), "picture 1 (a.png)", "given as 90 x 128"),
    "a size of 0": (lambda d: d["images"][2].update(height=0), "picture 3 (c.png)", "given as 0 x 128"),
    "two pictures of one id": (lambda d: d["images"][1].update(id=1), "picture 1 (sub/b.png)", "id of another"),
    "a picture twice": (lambda d: d["images"][2].update(file_name="a.png"), "picture 3 (a.png)", "listed twice"),
    "two points": (lambda d: d["annotations"][0].update(segmentation=[[1, 1, 9, 9]]), "annotation 10", "2 points"),
    "half a point": (lambda d: d["annotations"][0].update(segmentation=[[1] * 7]), "annotation 10", "x y pairs"),
    "NaN": (lambda d: d["annotations"][0].update(segmentation=[[float("nan")] * 6]), "annotation 10", "NaN"),
    "no mask": (lambda d: d["annotations"][0].pop("segmentation"), "annotation 10", "no segmentation"),
    "outside": (
        lambda d: d["annotations"][0].update(segmentation=[[1, 1, 300, 1, 300, 9]]),
        "annotation 10",
        "172 pixels outside",
    ),
    "a line": (
        lambda d: d["annotations"][0].update(segmentation=[[1, 1, 9, 9, 5, 5]]),
        "annotation 10",
        "degenerate",
    ),
    "an empty RLE": (
        lambda d: d["annotations"][0].update(segmentation={"size": [96, 128], "counts": [96 * 128]}),
        "annotation 10",
        "covers no pixel",
    ),
    "an RLE too long": (
        lambda d: d["annotations"][0].update(segmentation={"size": [96, 128], "counts": [96 * 128, 9]}),
        "annotation 10",
        "broken RLE",
    ),
    "an RLE of another size": (
        lambda d: d["annotations"][0].update(segmentation={"size": [9, 9], "counts": [40, 41]}),
        "annotation 10",
        "RLE of 9 x 9",
    ),
    "a category": (lambda d: d["annotations"][0].update(category_id=5), "annotation 10", "category 5"),
    "a picture": (lambda d: d["annotations"][0].update(image_id=99), "annotation 10", "picture 99"),
    "an id twice": (lambda d: d["annotations"][1].update(id=10), "annotation 10", "id of another"),
    "an area of NaN": (lambda d: d["annotations"][0].update(area=float("nan")), "annotation 10", "area"),
    "a crowd in words": (lambda d: d["annotations"][0].update(iscrowd="maybe"), "annotation 10", "crowd flag"),
    "two categories of one id": (lambda d: d["categories"][1].update(id=3), "category 3", "twice"),
    "two categories of one name": (lambda d: d["categories"][1].update(name="cup"), "category 7", "of another"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_with_its_place_and_cure(forms: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, where, what = FAULTS[name]
    data = json.loads(forms.coco.read_text())
    edit(data)
    forms.coco.write_text(json.dumps(data))
    code, result = _check(forms.coco, capsys, "--images", str(forms.images))
    assert (code, result["passed"]) == (3, False)
    found = [fault for fault in result["training"]["faults"] if fault["where"] == where and what in fault["what"]]
    assert len(found) == 1
    assert found[0]["cure"]
    assert found[0]["file"] == str(forms.coco)


def test_faults_of_the_other_forms_name_the_shape_and_the_line(
    forms: Any, annotation_forms: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = [
        annotation_forms.shape("cup", [[1, 1], [5, 5]], "line"),
        annotation_forms.shape("cup", [[0, 0], [400, 0], [400, 50]]),
    ]
    (forms.labelme / "c.json").write_text(annotation_forms.document("c.png", shapes))
    (forms.labelme / "sub" / "b.png").write_bytes(b"")
    code, result = _check(forms.labelme, capsys)
    places = {(fault["file"], fault["where"]) for fault in result["training"]["faults"]}
    assert code == 3
    assert places >= {("c.json", "shape 1"), ("c.json", "shape 2")}
    assert any("sub/b.png" in fault["where"] for fault in result["training"]["faults"])

    (forms.yolo / "labels" / "c.txt").write_text("0 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.2 0.2 0.3 0.3\n")
    code, result = _check(forms.yolo, capsys)
    places = {(fault["file"], fault["where"]) for fault in result["training"]["faults"]}
    assert (code, places) == (3, {("c.txt", "line 1"), ("c.txt", "line 2")})


def test_a_picture_that_is_cut_short_is_named(forms: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = forms.images / "a.png"
    path.write_bytes(path.read_bytes()[:-20])
    code, result = _check(forms.coco, capsys, "--images", str(forms.images))
    assert code == 3
    assert ["cut short" in fault["what"] for fault in result["training"]["faults"]] == [True]


def test_objects_that_no_level_learns_are_counted(forms: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(forms.coco.read_text())
    data["annotations"][0]["segmentation"] = [[1, 1, 3, 1, 3, 3, 1, 3]]
    forms.coco.write_text(json.dumps(data))
    code, result = _check(forms.coco, capsys, "--images", str(forms.images), "--input-size", "64x64")
    assert code == 0  # nothing is wrong with it; the input is too small
    assert result["training"]["untaught"]["count"] == 1
    assert result["training"]["untaught"]["examples"][0].startswith("annotation 10: 1 x 1 pixels")


def test_the_validation_set_is_checked_too_and_words_say_the_same(
    forms: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (forms.yolo / "labels" / "c.txt").write_text("7 0 0 1 0 1 1\n")
    words = ["train", "--check", "--annotations", str(forms.labelme), "--val-annotations", str(forms.yolo)]
    assert main(words) == 3
    out = capsys.readouterr().out
    assert "training set" in out
    assert "bad: c.txt: line 1 has the class 7, of 2 named ones; use 0 to 1, or name it" in out
    assert out.rstrip().endswith("1 fault")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--classes", "cup,plat"),
            "plat: no such class in .*[(]did you mean plate[?][)]; it has cup, plate",
        ),
        (("--rename", "cup"), "OLD=NEW"),
        (("--rename", "bowl=cup"), "--rename bowl: no such class"),
        (("--rename", "cup=mug", "--classes", "cup"), "after --rename"),
        (("--classes", "cup,,plate"), "empty name"),
        (("--classes", "cup,cup"), "twice"),
    ],
)
def test_names_that_are_no_class_are_refused(
    forms: Any, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    assert main(["train", "--check", "--annotations", str(forms.yolo), *more]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_chosen_and_merged_classes_are_counted(forms: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = _check(forms.yolo, capsys, "--rename", "cup=plate")
    assert (code, result["training"]["classes"]) == (0, [{"name": "plate", "pictures": 2, "objects": 3}])
    code, result = _check(forms.labelme, capsys, "--classes", "plate,cup")
    assert [entry["name"] for entry in result["training"]["classes"]] == ["plate", "cup"]
    code, result = _check(forms.labelme, capsys, "--classes", "plate")
    assert (code, result["training"]["objects"]) == (0, 2)


def test_a_picture_turned_by_exif_has_the_size_one_sees(
    annotation_forms: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    # APP1 with one tag: orientation 6, a quarter turn.
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    (tmp_path / "x.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:])
    shapes = [annotation_forms.shape("a", [[0, 0], [30, 0], [30, 50]])]
    for size, code in (((60, 40), 0), ((40, 60), 3)):
        document = annotation_forms.document("x.jpg", shapes, imageHeight=size[0], imageWidth=size[1])
        (tmp_path / "x.json").write_text(document)
        assert _check(tmp_path, capsys)[0] == code
