"""Both formats seen through one face: names, blocks, work, and files that the runtime opens."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.converters.calibration import Calibration
from solov2_edge.converters.held_out import HeldOut, read_held_out
from solov2_edge.converters.probes import drawn_frame
from solov2_edge.converters.quantisable import Layer, Quantisable, block_of, groups_of
from solov2_edge.converters.tflite_census import take_census
from solov2_edge.converters.tflite_metadata import embed_manifest
from solov2_edge.converters.tflite_pack import packed
from solov2_edge.converters.tflite_quantisable import TfliteQuantisable
from solov2_edge.converters.tflite_quantise import count_for
from solov2_edge.converters.to_onnx import onnx_quantisable
from solov2_edge.converters.trials import Trials
from solov2_edge.errors import InputError
from solov2_edge.manifest import InputContract, Manifest

CONTRACT = InputContract("image", 64, 96)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    frame = drawn_frame(64, 96)
    for number in range(12):
        cv2.imwrite(str(folder / f"{number:02}.png"), np.roll(frame, (7 * number, 11 * number), (0, 1)))
    return folder


@pytest.fixture(scope="module")
def calibration(pictures: Path) -> Calibration:
    return Calibration(tuple(sorted(pictures.iterdir())[:8]), "")


@pytest.fixture(scope="module")
def held_out(pictures: Path, calibration: Calibration) -> HeldOut:
    return HeldOut(tuple(sorted(pictures.iterdir())[8:]), pictures, None, "")


@pytest.fixture(scope="module")
def onnx_network(plain: Any, calibration: Calibration) -> Quantisable:
    return onnx_quantisable(plain.model, CONTRACT, calibration, target="tensorrt")


@pytest.fixture(scope="module")
def tflite_network(tflite_plain: Any, calibration: Calibration) -> TfliteQuantisable:
    model = tflite_plain.model

    def finish(content: bytes, precision: str) -> bytes:
        manifest = Manifest(spec=model.spec, format="tflite", precision=precision, input=CONTRACT)
        return embed_manifest(packed(content), manifest.embedded().to_json())

    counts = count_for(tflite_plain.flatbuffer, calibration.batches(model.spec, CONTRACT))
    return TfliteQuantisable(tflite_plain.flatbuffer, tflite_plain.traceable, counts, finish)


@pytest.fixture(params=["onnx", "tflite"])
def network(request: pytest.FixtureRequest) -> Quantisable:
    found: Quantisable = request.getfixturevalue(f"{request.param}_network")
    return found


def test_layers_have_the_checkpoints_names_in_both_formats(
    onnx_network: Quantisable, tflite_network: Quantisable, plain: Any
) -> None:
    weights = {
        name.removesuffix(".weight").removesuffix(".conv"): parameter
        for name, parameter in plain.model.named_parameters()
        if parameter.dim() == 4
    }
    for network in (onnx_network, tflite_network):
        assert {layer.name for layer in network.layers} <= set(weights)
    left_out = set(weights) - {layer.name for layer in tflite_network.layers}
    assert left_out == {"backbone.conv1"}  # the recipe leaves the first layer float
    assert {layer.name: layer.runs for layer in tflite_network.layers}["mask_head.conv_cls"] == 5


def test_work_is_counted_alike(onnx_network: Quantisable, tflite_network: Quantisable) -> None:
    first, second = ({layer.name: layer.work for layer in n.layers} for n in (onnx_network, tflite_network))
    # 3x3, 16 to 16 channels, on all levels of the grids
    assert first["mask_head.kernel_convs.1"] == 9 * 16 * 16 * sum(side**2 for side in (10, 8, 6, 4, 2))
    # ONNX takes the coordinates, which are constants, out of the convolutions.
    coordinates = {"mask_head.kernel_convs.0", "mask_head.mask_feature_head.convs_all_levels.3.conv0"}
    assert {name for name, work in second.items() if work != first[name]} == coordinates


def test_one_layer_alone_makes_less_noise_than_all(network: Quantisable, held_out: HeldOut) -> None:
    everything = frozenset(layer.name for layer in network.layers)
    trials = Trials(network.suffix, network.build(everything), held_out, threads=1)
    assert trials.compared == 4
    name = "mask_head.conv_kernel"
    alone, reduced = trials.noise(network.build(everything - {name})), trials.noise(network.build())
    without = trials.noise(network.build(frozenset({name})))
    assert trials.noise(network.build(everything))["kernels"] == 150  # the float32 file itself
    assert reduced["kernels"] < alone["kernels"] < 80
    assert alone["class_scores"] > 100 > reduced["class_scores"]
    assert without["kernels"] > reduced["kernels"]


def test_times_are_of_each_file(network: Quantisable, held_out: HeldOut) -> None:
    everything = frozenset(layer.name for layer in network.layers)
    trials = Trials(network.suffix, network.build(everything), held_out, threads=1)
    times = trials.milliseconds({"float32": network.build(everything), "int8": network.build()})
    assert set(times) == {"float32", "int8"}
    assert all(value > 0 for value in times.values())


def test_a_file_called_int8_is_at_least_half_int8(network: Quantisable) -> None:
    names = [layer.name for layer in network.layers]
    assert network.still_int8(frozenset())
    assert not network.still_int8(frozenset(names))
    towers = [name for name in names if "mask_head" in name and "convs_all" not in name]
    assert not network.still_int8(frozenset(towers))  # they run on five levels each


def test_tflite_counts_what_the_file_holds(tflite_network: TfliteQuantisable) -> None:
    kept = frozenset({"mask_head.kernel_convs.1"})
    before, after = (take_census(tflite_network.build(layers)) for layers in (frozenset[str](), kept))
    assert (before.int8 - after.int8, after.floating - before.floating) == (5, 5)
    assert before.dynamic == after.dynamic == 10


def test_an_unknown_layer_is_refused(network: Quantisable) -> None:
    with pytest.raises(InputError, match="no layer is called nothing; the layers are backbone"):
        network.build(frozenset({"nothing"}))


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("backbone.conv1", "backbone.conv1"),
        ("backbone.layer2.0.downsample.0", "backbone.layer2.0"),
        ("backbone.layer2.1.conv2", "backbone.layer2.1"),
        ("neck.lateral_convs.3", "neck.lateral_convs"),
        ("mask_head.kernel_convs.0", "mask_head.kernel_convs"),
        ("mask_head.conv_cls", "mask_head.conv_cls"),
        ("mask_head.mask_feature_head.convs_all_levels.3.conv0", "mask_head.mask_feature_head"),
        ("conv37", "conv37"),
    ],
)
def test_blocks(name: str, block: str) -> None:
    assert block_of(name) == block


def test_groups_keep_the_order() -> None:
    layers = [Layer(name, 1) for name in ("backbone.conv1", "neck.fpn_convs.0", "neck.fpn_convs.1")]
    assert groups_of(layers, "block") == {
        "backbone.conv1": ("backbone.conv1",),
        "neck.fpn_convs": ("neck.fpn_convs.0", "neck.fpn_convs.1"),
    }
    assert list(groups_of(layers, "layer")) == [layer.name for layer in layers]
    with pytest.raises(InputError, match="by layer or block, got 'channel'"):
        groups_of(layers, "channel")


def test_held_out_pictures_are_known_by_content(pictures: Path, calibration: Calibration, tmp_path: Path) -> None:
    read = partial(read_held_out, calibration.pictures)
    with pytest.raises(InputError, match="8 of the 12 pictures to measure on calibrate as well"):
        read(pictures)
    for number in (9, 10, 11):
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.imread(str(pictures / f"{number:02}.png")))
    found = read(tmp_path, limit=2)
    assert [path.name for path in found.pictures] == ["10.png", "11.png"]
    assert found.to_manifest() == {"count": 2, "sha256": found.sha256}
    assert found.sha256 != read(tmp_path).sha256
    with pytest.raises(InputError, match="is no folder"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match="limit must be at least 1"):
        read(tmp_path, limit=0)
    document = {"images": [{"id": 1, "file_name": "x.png"}], "categories": [], "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=r"a picture that is not there: .*x\.png"):
        read(tmp_path, tmp_path / "a.json")
