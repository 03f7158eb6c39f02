"""The three forms of annotations: told apart, equal where they say the same, refused by name where they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.annotation_faults import Fault
from solov2_edge.runtime.annotation_sets import AnnotationSet, locate, open_annotations, read_located
from solov2_edge.runtime.annotations import read_annotated, read_picture_of
from solov2_edge.runtime.evaluate import evaluate
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.masks import CroppedMasks
from solov2_edge.runtime.measured import drawn
from solov2_edge.runtime.rle import decode_rle


@pytest.fixture(scope="module")
def forms(annotation_forms: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return annotation_forms.write_forms(tmp_path_factory.mktemp("forms"))


def _masks(found: AnnotationSet) -> dict[tuple[str, str], np.ndarray[Any, Any]]:
    """Return (picture, class) -> mask (H, W); the fixture has at most one object of a class per picture."""
    pictures = {entry["id"]: entry for entry in found.data["images"]}
    names = {entry["id"]: entry["name"] for entry in found.data["categories"]}
    masks = {}
    for entry in found.data["annotations"]:
        picture = pictures[entry["image_id"]]
        rle = drawn(entry["segmentation"], picture["height"], picture["width"])
        masks[picture["file_name"], names[entry["category_id"]]] = decode_rle(rle).view(np.uint8)
    return masks


def test_the_same_objects_are_the_same_masks_and_names_in_every_form(forms: Any) -> None:
    sets = [open_annotations(forms.coco, forms.images), open_annotations(forms.labelme), open_annotations(forms.yolo)]
    assert [found.form for found in sets] == ["COCO json", "LabelMe", "YOLO"]
    expected = _masks(sets[0])
    assert len(expected) == 3
    for found in sets:
        assert [c["name"] for c in sorted(found.data["categories"], key=lambda c: c["id"])] == ["cup", "plate"]
        assert {entry["file_name"] for entry in found.data["images"]} == {"a.png", "sub/b.png", "c.png"}
        masks = _masks(found)
        assert masks.keys() == expected.keys()
        for key, mask in masks.items():
            assert (mask & expected[key]).sum() / (mask | expected[key]).sum() > 0.99
            np.testing.assert_allclose(cv2.boundingRect(mask), cv2.boundingRect(expected[key]), atol=1)
        for entry in found.data["images"]:
            assert read_picture_of(found.images, entry).shape == (96, 128, 3)


@pytest.mark.parametrize("form", ["coco", "labelme", "yolo"])
def test_evaluation_takes_every_form(forms: Any, form: str) -> None:
    perfect = _perfect(open_annotations(forms.coco, forms.images))
    result = evaluate(perfect, getattr(forms, form), forms.images if form == "coco" else None)
    assert result.ap == pytest.approx(100.0)
    assert (result.pictures, result.instances) == (3, 3)


def _perfect(found: AnnotationSet) -> Callable[[Any], Instances]:
    """Return a segmenter that answers a picture with its annotated objects."""
    names = tuple(c["name"] for c in found.data["categories"])
    order = {c["id"]: i for i, c in enumerate(found.data["categories"])}
    known = {}
    for entry in found.data["images"]:
        own = [a for a in found.data["annotations"] if a["image_id"] == entry["id"]]
        masks = tuple(decode_rle(drawn(a["segmentation"], 96, 128)) for a in own)
        known[read_annotated(found.images / entry["file_name"]).tobytes()] = Instances(
            np.ones(len(own), np.float32),
            np.array([order[a["category_id"]] for a in own], np.int64),
            names,
            CroppedMasks(96, 128, tuple((0, 0) for _ in masks), masks),
        )
    return lambda frame: known[frame.tobytes()]


def test_a_labelme_object_may_be_a_circle_or_have_parts(annotation_forms: ModuleType, tmp_path: Path) -> None:
    shape = annotation_forms.shape
    shapes = [
        shape("a", [[64, 48], [64, 28]], "circle"),
        shape("b", [[0, 0], [9, 0], [9, 9], [0, 9]], group=1),
        shape("b", [[20, 0], [29, 0], [29, 9], [20, 9]], group=1),
        shape("a", [[0, 0], [9, 0], [9, 9]], group=1),
    ]
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((96, 128, 3), np.uint8))
    (tmp_path / "x.json").write_text(annotation_forms.document("x.png", shapes))
    annotations = open_annotations(tmp_path).data["annotations"]
    assert [a["source"] for a in annotations] == ["x.json: shape 1", "x.json: shape 2, 3", "x.json: shape 4"]
    assert [len(a["segmentation"]) for a in annotations] == [1, 2, 1]
    from pycocotools import mask as coco_mask

    areas = [float(coco_mask.area(drawn(a["segmentation"], 96, 128))) for a in annotations]
    assert areas[0] == pytest.approx(np.pi * 400, rel=0.01)
    assert areas[1] == 162


def test_a_labelme_document_may_carry_its_picture(annotation_forms: ModuleType, tmp_path: Path) -> None:
    import base64

    picture = np.full((96, 128, 3), 7, np.uint8)
    text = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
    shapes = [annotation_forms.shape("a", [[0, 0], [9, 0], [9, 9]])]
    document = annotation_forms.document("gone.png", shapes, imageData=text, imageHeight=None)
    (tmp_path / "x.json").write_text(document)
    found = open_annotations(tmp_path)
    (entry,) = found.data["images"]
    assert (entry["height"], entry["width"]) == (96, 128)
    np.testing.assert_array_equal(read_picture_of(found.images, entry), picture)


def test_what_segment_writes_can_be_corrected_and_read_back(forms: Any, tmp_path: Path) -> None:
    """Documents of pictures that lie elsewhere, with a COCO file among them."""
    expected = open_annotations(forms.coco, forms.images)
    segment = _perfect(expected)
    for entry in expected.data["images"]:
        path = forms.images / entry["file_name"]
        instances = segment(read_annotated(path))
        document = instances.to_labelme(f"../elsewhere/{path.name}", tolerance=0)
        (tmp_path / f"{path.stem}.json").write_text(json.dumps(document))
    (tmp_path / "instances.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(InputError, match="--images"):
        open_annotations(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "sub/b.png", "c.png"):
        shutil.copy(forms.images / name, tmp_path / "pictures" / Path(name).name)
    masks, truth = _masks(open_annotations(tmp_path, tmp_path / "pictures")), _masks(expected)
    assert len(masks) == 3
    for (name, label), mask in truth.items():
        got = masks[Path(name).name, label]
        assert (got & mask).sum() / (got | mask).sum() > 0.99


@pytest.mark.parametrize(
    ("kind", "points", "message"),
    [
        ("polygon", [[0, 0], [9, 9]], "polygon of 2 points"),
        ("line", [[0, 0], [9, 9]], "shape 1 is a line"),
        ("point", [[0, 0]], "shape 1 is a point"),
        ("circle", [[4, 4], [4, 4]], "circle without extent"),
        ("rectangle", [[0, 0], [9, 9], [1, 2]], "rectangle of 3 points"),
        ("polygon", [[0, 0], [9, 9], [float("nan"), 1]], "finite"),
        ("polygon", [[0, 0], [9, 9], [1e9, 1]], "beyond"),
        ("polygon", "words", "finite"),
    ],
)
def test_bad_shapes_are_refused_by_name(
    annotation_forms: ModuleType, tmp_path: Path, kind: str, points: Any, message: str
) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((96, 128, 3), np.uint8))
    (tmp_path / "x.json").write_text(annotation_forms.document("x.png", [annotation_forms.shape("a", points, kind)]))
    with pytest.raises(InputError, match=message):
        open_annotations(tmp_path)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "..\\..\\secret.png", "sub/../../secret.png"])
def test_an_image_path_may_not_leave_the_folder(annotation_forms: ModuleType, tmp_path: Path, path: str) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    for place in (tmp_path, tmp_path / "pictures"):
        place.mkdir(exist_ok=True)
        cv2.imwrite(str(place / "secret.png"), np.zeros((96, 128, 3), np.uint8))
    shapes = [annotation_forms.shape("a", [[0, 0], [9, 0], [9, 9]])]
    (folder / "x.json").write_text(annotation_forms.document(path, shapes))
    with pytest.raises(InputError, match=r"leads out of the folder.*--images"):
        open_annotations(folder)
    if "secret" in path:  # the cure that the message names: the bare name, in the pictures' folder
        found = open_annotations(folder, tmp_path / "pictures")
        assert [entry["file_name"] for entry in found.data["images"]] == ["secret.png"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.1 0.1 0.5 0.1 0.5 0.5", "line 2 has the class 2, of 2"),
        ("0 0.5 0.5 0.2 0.2", "is a box"),
        ("0 0.1 0.1 0.5 0.1 0.5", "5 coordinates"),
        ("0 0.1 0.1 0.5", "3 coordinates"),
        ("0 10 10 50 10 50 50", "shares of the picture"),
        ("0 nan 0.1 0.5 0.1 0.5 0.5", "not finite"),
        ("cup 0.1 0.1 0.5 0.1 0.5 0.5", "not a class number"),
    ],
)
def test_bad_yolo_lines_are_refused_by_number(forms: Any, tmp_path: Path, line: str, message: str) -> None:
    shutil.copytree(forms.yolo, tmp_path / "yolo")
    (tmp_path / "yolo/labels/c.txt").write_text(f"0 0.1 0.1 0.5 0.1 0.5 0.5\n{line}\n")
    with pytest.raises(InputError, match=message):
        open_annotations(tmp_path / "yolo")


def test_two_pictures_of_one_label_file_are_refused(forms: Any, tmp_path: Path) -> None:
    shutil.copytree(forms.yolo, tmp_path / "yolo")
    cv2.imwrite(str(tmp_path / "yolo/images/a.jpg"), np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(InputError, match=r"a.txt labels both a.jpg and a.png"):
        open_annotations(tmp_path / "yolo")


def test_faults_can_be_collected_and_the_rest_read(forms: Any, tmp_path: Path) -> None:
    shutil.copytree(forms.yolo, tmp_path / "yolo")
    (tmp_path / "yolo/labels/c.txt").write_text("9 0 0 1 0 1 1\n0 0 0 1 0 1 1\n")
    (tmp_path / "yolo/labels/lost.txt").write_text("0 0 0 1 0 1 1\n")
    faults: list[Fault] = []
    found = read_located(locate(tmp_path / "yolo"), split="val", report=faults.append)
    assert [(fault.file, fault.where) for fault in faults] == [("c.txt", "line 1"), ("lost.txt", "")]
    assert len(found.data["annotations"]) == 4


@pytest.mark.parametrize(
    "text",
    [
        "names: [cup, plate]\n",
        "names: ['cup', \"plate\"]  # two\nnc: 2\n",
        "names: [ 'cup',\n         'plate' ]\n",
        "names:\n- cup\n- plate\n",
        "names:\n  - cup\n  - 'plate'\nnc: 2\ndownload: |\n  anything\n  names: no\n",
        "names: {0: cup, 1: plate}\n",
        "train: ../train/images\nval: images\nnames:\n  0: cup\n  1: plate\n",
    ],
)
def test_class_names_as_data_yaml_has_them(forms: Any, tmp_path: Path, text: str) -> None:
    shutil.copytree(forms.yolo, tmp_path / "yolo")
    (tmp_path / "yolo/data.yaml").write_text(text)
    found = open_annotations(tmp_path / "yolo")
    assert [c["name"] for c in found.data["categories"]] == ["cup", "plate"]
    assert len(found.data["annotations"]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 2\n", "has no names"),
        ("names: [cup, plate]\nnc: 3\n", "nc: 3"),
        ("names: {0: cup, 2: plate}\n", "without a gap"),
        ("names: [cup, cup]\n", "twice"),
        ("names: [cup, plate]\ntrain: images\n", "names no val"),
        ("names: [cup, plate]\nval: [images, more]\n", "several folders"),
    ],
)
def test_a_data_yaml_that_cannot_be_used(forms: Any, tmp_path: Path, text: str, message: str) -> None:
    shutil.copytree(forms.yolo, tmp_path / "yolo")
    (tmp_path / "yolo/data.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_annotations(tmp_path / "yolo/data.yaml")


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}"])
@pytest.mark.parametrize("given", ["", "data.yaml", "{pictures}", "{labels}"])
def test_both_usual_layouts_of_splits(forms: Any, tmp_path: Path, layout: str, given: str) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            place = tmp_path / layout.format(kind=kind, split=split)
            shutil.copytree(forms.yolo / kind, place)
    (tmp_path / layout.format(kind="labels", split="train") / "a.txt").unlink()
    pictures = {split: layout.format(kind="images", split=split) for split in ("train", "val")}
    # As exports write it: one folder too high.
    (tmp_path / "data.yaml").write_text(
        f"train: ../{pictures['train']}\nval: ../{pictures['val']}\nnames: [cup, plate]\n"
    )
    counts = {}
    for split in ("train", "val"):
        place = tmp_path / given.format(pictures=pictures[split], labels=layout.format(kind="labels", split=split))
        counts[split] = len(open_annotations(place, split=split).data["annotations"])
    assert counts == {"train": 1, "val": 3}


def test_names_in_a_text_file_and_labels_beside_the_pictures(forms: Any, tmp_path: Path) -> None:
    shutil.copytree(forms.yolo / "images", tmp_path / "all")
    shutil.copytree(forms.yolo / "labels", tmp_path / "all", dirs_exist_ok=True)
    (tmp_path / "all/classes.txt").write_text("cup\nplate\n")
    assert len(open_annotations(tmp_path / "all").data["annotations"]) == 3


def test_folders_of_nothing_and_of_two_forms(forms: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no annotations"):
        open_annotations(tmp_path)
    shutil.copytree(forms.labelme, tmp_path / "both")
    shutil.copytree(forms.yolo, tmp_path / "both", dirs_exist_ok=True)
    with pytest.raises(InputError, match="give a folder of one"):
        open_annotations(tmp_path / "both")


def test_a_folder_with_one_coco_json_is_that_json(forms: Any, tmp_path: Path) -> None:
    shutil.copytree(forms.images, tmp_path / "export")
    shutil.copy(forms.coco, tmp_path / "export" / "_annotations.coco.json")
    found = open_annotations(tmp_path / "export")
    assert (found.form, len(found.data["annotations"])) == ("COCO json", 3)
    assert json.dumps(found.data)
