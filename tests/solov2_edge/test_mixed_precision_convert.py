"""A network that plain int8 spoils: the layers that do it stay float, no others; and a budget that cannot be met.

Channels of one map are made many times larger and the weights that read them as many times smaller: float computes the
same, and one step for the whole map no longer tells the other channels apart.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model, save_checkpoint
from solov2_edge.cli import main
from solov2_edge.converters import mixed_search
from solov2_edge.manifest import Manifest, manifest_path

FACTOR = 256.0  # a power of two: float32 computes the very same
PICTURES = 8
BUDGET = 2.0  # points on so few pictures
KERNEL_TOWER = ("mask_head.kernel_convs.0.gn", ("mask_head.kernel_convs.1.conv",))
CLASS_TOWER = ("mask_head.cls_convs.0.gn", ("mask_head.cls_convs.1.conv",))
KERNELS = ("mask_head.kernel_convs.1.gn", ("mask_head.conv_kernel",))
CLASSES = ("mask_head.cls_convs.1.gn", ("mask_head.conv_cls",))
HEADS = ("mask_head.kernel_convs.0.conv", "mask_head.cls_convs.0.conv")
BRANCH = "mask_head.mask_feature_head.convs_all_levels"
PYRAMID = tuple(
    (f"neck.fpn_convs.{level}.conv", (f"{BRANCH}.{level}.conv0.conv", *(HEADS if level == 0 else ())))
    for level in range(4)
)

pytestmark = pytest.mark.slow


def planted(folder: Path, *places: tuple[str, tuple[str, ...]]) -> Path:
    """Save the bundled model with heavy channels between each module and those that read it."""
    model, checkpoint = load_model(bundle().checkpoint)
    state = model.state_dict()
    for maker, readers in places:
        heavy = slice(0, None, 24)
        for part in ("weight", "bias"):
            state[f"{maker}.{part}"][heavy] *= FACTOR
        for reader in readers:
            state[f"{reader}.weight"][:, : len(state[f"{maker}.weight"])][:, heavy] /= FACTOR
    path = folder / "planted.safetensors"
    save_checkpoint(path, checkpoint.spec, state)
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> list[str]:
    """Few pictures to calibrate, few others to validate on: what is planted is far beyond their noise."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(bundle().calibration.iterdir())[::8]:
        shutil.copy(path, folder)
    data = checkout / "tests" / "data" / "nuclei_val"
    truth = json.loads((data / "instances.json").read_text(encoding="utf-8"))
    truth["images"] = truth["images"][:PICTURES]
    kept = {picture["id"] for picture in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
    (folder / "few.json").write_text(json.dumps(truth), encoding="utf-8")
    words = ["--precision", "int8", "--input-size", "448x448", "--calibrate", str(folder), "--allow-small"]
    return [*words, "--val-annotations", str(folder / "few.json"), "--val-images", str(data / "images"), "--quiet"]


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_the_harmful_layer_and_no_other_stays_float(
    format_: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = planted(tmp_path, KERNEL_TOWER)
    assert main(["convert", str(path), "--to", format_, *options, "--max-drop", f"{BUDGET}", "-o", str(tmp_path)]) == 0
    artefact = tmp_path / f"planted.int8.{format_}"
    record = Manifest.from_json(manifest_path(artefact).read_text(encoding="utf-8")).quantisation
    assert record is not None
    assert record["kept_float"] == ["mask_head.kernel_convs.1"]
    assert record["drop"] <= BUDGET < record["drop_all_int8"]
    assert record["pictures"]["count"] == PICTURES
    assert 0.01 < record["kept_share"] < 0.2
    assert all(record["milliseconds"][name] > 0 for name in ("chosen", "all_int8", "float32"))
    capsys.readouterr()
    assert main(["inspect", str(artefact)]) == 0
    out = capsys.readouterr().out
    assert "kept float: mask_head.kernel_convs.1, " in out
    assert f"on {PICTURES} validation pictures" in out


def test_a_budget_that_cannot_be_met_ends_with_3_and_no_file(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is planted than half of the convolutions can make good; blocks are looked at, as in a large network."""
    monkeypatch.setattr(mixed_search, "MOST_LAYERS", 0)
    path = planted(tmp_path, KERNEL_TOWER, CLASS_TOWER, KERNELS, CLASSES, *PYRAMID)
    out = tmp_path / "out"
    assert main(["convert", str(path), *options, "--max-drop", f"{BUDGET}", "-o", str(out)]) == 3
    assert "the network still loses" in capsys.readouterr().err
    assert list(out.iterdir()) == []
