"""One command trains on what strangers have: any COCO json, LabelMe folders, YOLO labels, and the classes they name."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from solov2_edge.annotated_pictures import decode_mask, read_pictures
from solov2_edge.checkpoint import read_checkpoint
from solov2_edge.cli import main
from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest, manifest_path
from solov2_edge.runtime.class_choice import ClassChoice
from solov2_edge.runtime.measured import drawn
from solov2_edge.runtime.rle import rle_runs
from solov2_edge.zoo import bundled_path

SHORT = ("--input-size", "64x64", "--epochs", "1", "--batch-size", "2", "--json", "--quiet")


@pytest.fixture(scope="module")
def forms(annotation_forms: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return annotation_forms.write_forms(tmp_path_factory.mktemp("forms"))


@pytest.fixture
def strange(forms: Any) -> dict[str, Any]:
    """COCO instances with as little in them as one finds: see the first test."""
    data: dict[str, Any] = json.loads(forms.coco.read_text())
    first, second, third = data["annotations"]
    compressed = drawn(second["segmentation"], 96, 128)
    second["segmentation"] = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    third["segmentation"] = {"size": [96, 128], "counts": rle_runs(drawn(third["segmentation"], 96, 128))[2].tolist()}
    data["categories"] = [{"id": 4000, "name": "plate"}, {"id": 17, "name": "cup", "supercategory": "kitchen"}]
    for entry, category in ((first, 17), (second, 4000), (third, 4000)):
        entry["category_id"] = category
    for picture in data["images"]:
        picture["id"] = f"picture-{picture['id']}"
        del picture["height"], picture["width"]
    for entry in data["annotations"]:
        entry["image_id"] = f"picture-{entry['image_id']}"
    data["annotations"].reverse()
    return data


def test_a_strangers_json_trains_and_is_measured_by_one_command(
    forms: Any, strange: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No order of categories, sparse ids, text ids, masks of three kinds, subfolders, no size, area, box or crowd."""
    path = tmp_path / "strange.json"
    path.write_text(json.dumps(strange))
    words = ["train", "--annotations", str(path), "--images", str(forms.images), "-o", str(tmp_path / "run"), *SHORT]
    assert main([*words, "--val-annotations", str(path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert read_checkpoint(result["checkpoint"]).spec.class_names == ("cup", "plate")
    assert result["ap"] is not None
    assert main(["train", "--check", "--annotations", str(path), "--images", str(forms.images)]) == 0


def test_a_strangers_json_gives_the_masks_of_a_tidy_one(forms: Any, strange: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "strange.json").write_text(json.dumps(strange))
    expected, got = read_pictures(forms.coco, forms.images), read_pictures(tmp_path / "strange.json", forms.images)
    assert (got.class_names, got.files) == (expected.class_names, expected.files)
    for theirs, ours in zip(got.annotations, expected.annotations, strict=True):
        masks = [{label: decode_mask(s, h, w) for label, s, h, w in objects} for objects in (theirs, ours)]
        assert masks[0].keys() == masks[1].keys()
        assert all((masks[0][label] == masks[1][label]).all() for label in masks[0])


@pytest.mark.parametrize("form", ["labelme", "yolo"])
def test_the_other_forms_are_read_for_training_as_coco_is(forms: Any, form: str) -> None:
    expected = read_pictures(forms.coco, forms.images)
    got = read_pictures(getattr(forms, form))
    assert got.class_names == expected.class_names
    assert [f.name for f in got.files] == [f.name for f in expected.files]
    for theirs, ours in zip(got.annotations, expected.annotations, strict=True):
        assert [entry[0] for entry in theirs] == [entry[0] for entry in ours]
        for (_, mine, h, w), (_, other, *size) in zip(theirs, ours, strict=True):
            a, b = decode_mask(mine, h, w), decode_mask(other, *size)
            assert (a & b).sum() / (a | b).sum() > 0.99


def test_chosen_classes_keep_their_order_and_merged_ones_are_one(forms: Any) -> None:
    kept = read_pictures(forms.labelme, choice=ClassChoice(("plate", "cup")))
    assert kept.class_names == ("plate", "cup")
    assert sorted(entry[0] for entry in kept.annotations[0]) == [0, 1]
    alone = read_pictures(forms.yolo, choice=ClassChoice(("cup",)))
    assert (alone.class_names, [f.name for f in alone.files]) == (("cup",), ["a.png"])
    merged = read_pictures(forms.coco, forms.images, ClassChoice(("dish",), (("cup", "dish"), ("plate", "dish"))))
    assert merged.class_names == ("dish",)
    assert [len(objects) for objects in merged.annotations] == [2, 1]
    onto = read_pictures(forms.coco, forms.images, ClassChoice((), (("cup", "plate"),)))
    assert (onto.class_names, len(onto.annotations[0])) == (("plate",), 2)
    with pytest.raises(InputError, match="no such class in"):
        read_pictures(forms.labelme, choice=ClassChoice(("fork",)))


@pytest.mark.slow
def test_own_classes_are_carried_from_labelme_into_the_artefact(
    forms: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the bundled checkpoint, whose one class is another: a fresh class layer, own names to the manifest."""
    run, artefacts = tmp_path / "run", tmp_path / "artefacts"
    words = ["train", "--annotations", str(forms.labelme), "--val-annotations", str(forms.yolo), *SHORT]
    words += ["--init", str(bundled_path()), "--rename", "cup=mug", "--classes", "plate,mug", "--cache", "ram"]
    assert main([*words, "-o", str(run)]) == 0
    result = json.loads(capsys.readouterr().out)
    checkpoint = read_checkpoint(result["checkpoint"])
    assert checkpoint.spec.class_names == ("plate", "mug")
    body, start = "backbone.conv1.weight", read_checkpoint(bundled_path())
    assert (checkpoint.state[body] - start.state[body]).abs().max() < 0.02  # trained on, not drawn anew
    assert main(["convert", result["checkpoint"], "--input-size", "64x64", "-o", str(artefacts), "--quiet"]) == 0
    (artefact,) = artefacts.glob("*.onnx")
    assert Manifest.from_json(manifest_path(artefact).read_text()).spec.class_names == ("plate", "mug")
    capsys.readouterr()
    words = ["eval", str(artefact), "--annotations", str(forms.labelme), "--rename", "cup=mug", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["instances"] == 3


def test_a_class_layer_of_as_many_other_classes_starts_fresh(forms: Any, tmp_path: Path) -> None:
    """One class in the bundled checkpoint, one here, of another name: its row would call nuclei what is none."""
    words = ["train", "--annotations", str(forms.labelme), *SHORT, "--learning-rate", "1e-9", "--batch-size", "1"]
    words += ["--init", str(bundled_path())]
    assert main([*words, "--classes", "cup", "-o", str(tmp_path / "other")]) == 0
    assert main([*words, "--classes", "nucleus", "--rename", "cup=nucleus", "-o", str(tmp_path / "same")]) == 0
    checkpoint = read_checkpoint(tmp_path / "other" / "last.safetensors")
    assert checkpoint.licence == f"fine-tuned from weights under: {read_checkpoint(bundled_path()).licence}"
    layer, start = "mask_head.conv_cls.weight", read_checkpoint(bundled_path()).state
    kept = {name: read_checkpoint(tmp_path / name / "last.safetensors").state[layer] for name in ("other", "same")}
    assert (kept["same"] - start[layer]).abs().max() < 1e-4
    assert (kept["other"] - start[layer]).abs().max() > 1e-2
