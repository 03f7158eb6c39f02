import re

import cv2
import numpy as np
import pytest

from solov2_edge.converters import ncnn_int8
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.ncnn_graph import INT8_TAG, Network
from solov2_edge.converters.ncnn_layers import Layer, Weight
from solov2_edge.converters.ncnn_traceable import NcnnTraceable
from solov2_edge.converters.parity import model_outputs, noise
from solov2_edge.converters.probes import drawn_frame
from solov2_edge.converters.to_ncnn import export_ncnn
from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import InputContract, Manifest, manifest_path
from solov2_edge.runtime import load

NETWORKS = ("trunk", "head")
WORD = 4  # bytes


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    frame = drawn_frame(160, 224)
    for number in range(4):
        y, x = 30 * number, 40 * number
        cv2.imwrite(str(folder / f"{number:02}.png"), frame[y : y + 64, x : x + 96])
    return read_calibration(folder, allow_small=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, make_model, specs, calibration):
    """A network with deformable convolutions, its 8-bit artefact, and what was said of it."""
    model, folder, said = make_model(specs["v2"]), tmp_path_factory.mktemp("int8"), []
    given = {"precision": "int8", "calibration": calibration, "log": said.append}
    export_ncnn(model, folder / "a.int8.ncnn", height=64, width=96, **given)
    return model, folder / "a.int8.ncnn", said


def convolutions(path):
    """Number of output channels, of weights, and parameter 8, of every Convolution in both networks."""
    lines = [line for name in NETWORKS for line in (path / f"{name}.param").read_text().splitlines()]
    found = []
    for line in lines:
        if line.startswith("Convolution "):
            values = dict(pair.split("=") for pair in re.findall(r"(?:^|\s)(\d+=\S+)", line))
            found.append((int(values["0"]), int(values["6"]), int(values.get("8", 0))))
    return found


def test_it_computes_nearly_the_same_and_not_the_same(exported):
    model, path, _ = exported
    frame = drawn_frame(64, 96)  # of the kind it was calibrated for
    with load(path, threads=1) as segment:
        apart = noise(segment.raw(frame[..., ::-1]), model_outputs(model, frame[None], "image"))
    for name, (error, signal) in apart.items():
        assert 1e-7 * signal < error < 0.1 * signal, name


def test_which_convolutions_are_integers(exported):
    """Float stay what normalises, the first, deformable ones and what says where they look."""
    model, path, said = exported
    found = convolutions(path)
    integer = [term for *_, term in found if term]
    assert set(integer) == {2}
    offsets = sum(name.endswith("conv_offset.weight") for name in model.state_dict())
    assert offsets > 0
    assert len(found) - len(integer) == 2 + offsets
    assert f"int8: {len(integer)} integer and {2 + 2 * offsets} float convolutions" in said[-1]


def test_their_weights_take_a_byte_each(exported):
    model, path, _ = exported
    found = convolutions(path)
    integers = sum(size for _, size, term in found if term)
    floats = NcnnTraceable(model, InputContract("image", 64, 96)).numbers - integers
    stored = sum(file.stat().st_size for file in path.glob("*.bin"))
    assert 0.9 * (integers + WORD * floats) < stored < 1.2 * (integers + WORD * floats)
    tags = sum((path / f"{name}.bin").read_bytes().count(INT8_TAG.to_bytes(WORD, "little")) for name in NETWORKS)
    assert tags == sum(bool(term) for *_, term in found)


def test_manifest_says_how_it_was_calibrated(exported, calibration):
    _, path, _ = exported
    manifest = Manifest.from_json(manifest_path(path).read_text())
    assert manifest.precision == "int8"
    assert manifest.calibration == calibration.to_manifest()
    assert 1e-3 < max(manifest.parity.values()) < 1


def test_a_wrong_scale_ends_at_the_gate(tmp_path, make_model, specs, calibration, monkeypatch):
    def coarse(low, high, *, symmetric):
        return ncnn_int8.Scale(32 * max(-low, high) / 127, 0, symmetric)

    monkeypatch.setattr(ncnn_int8, "scale_of", coarse)
    with pytest.raises(GateError, match=r"the noise of \w+ is [\d.]+ of its standard deviation after going to int8"):
        export_ncnn(
            make_model(specs["plain"]),
            tmp_path / "a.ncnn",
            height=64,
            width=96,
            precision="int8",
            calibration=calibration,
        )
    assert list(tmp_path.iterdir()) == []


def test_float_takes_no_pictures(tmp_path, make_model, specs, calibration):
    options = {"height": 64, "width": 96, "precision": "fp16", "calibration": calibration}
    with pytest.raises(InputError, match="fp16 takes no calibration pictures"):
        export_ncnn(make_model(specs["plain"]), tmp_path / "a.ncnn", **options)


def counts_of(values):
    counts = ValueCounts()
    counts.add(np.asarray(values, np.float32))
    return counts


def test_steps_are_those_of_the_range_and_of_each_channel():
    weight = np.zeros((2, 4, 1, 1), np.float32)
    weight[0, 0], weight[1, :] = 1.27, -0.254
    layer = Layer("Convolution", ("x",), ("y",), {0: 2}, (Weight(weight, typed=True), Weight(np.ones(2, np.float32))))
    found = ncnn_int8.in_integers(Network((layer,), ("y",)), {"x": counts_of([-6.35, 2.0])})
    integers, bias, factors, factor = found.network.layers[0].weights
    assert (found.integer, found.floating) == (1, 0)
    assert integers.values.dtype == np.int8
    assert integers.values.ravel().tolist() == [127, 0, 0, 0, -127, -127, -127, -127]
    np.testing.assert_allclose(factors.values, [100, 500], rtol=1e-6)
    np.testing.assert_allclose(factor.values, [20], rtol=1e-6)
    assert bias.values.tolist() == [1, 1]


def test_a_network_of_pictures_alone_has_nothing_to_round():
    weight = Weight(np.ones((2, 3, 1, 1), np.float32), typed=True)
    layer = Layer("Convolution", ("x",), ("y",), {0: 2}, (weight,))
    with pytest.raises(GateError, match="no convolution of this network can run in integers"):
        ncnn_int8.in_integers(Network((layer,), ("y",)), {})
