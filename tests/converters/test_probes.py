import numpy as np
import pytest

from solov2_edge.converters.parity import differences, model_outputs
from solov2_edge.converters.probes import Probes, drawn_frame, noise_frame
from solov2_edge.errors import GateError
from solov2_edge.manifest import InputContract
from solov2_edge.runtime.session import RawOutputs

CONTRACT = InputContract("image", 64, 96)


@pytest.fixture(scope="module")
def model(specs, make_model):
    return make_model(specs["plain"])


@pytest.fixture(scope="module")
def probes(model):
    return Probes(model, CONTRACT)


def shifted(model, part, value):
    """PyTorch's outputs with one number of one output moved by ``value`` of the range."""

    def run(batch):
        raw = model_outputs(model, batch, "image")
        arrays = {name: getattr(raw, name).copy() for name in ("class_scores", "kernels", "mask_features")}
        spread = 1.0 if part == "class_scores" else np.ptp(arrays[part])
        arrays[part].flat[7] += value * spread
        return RawOutputs(**arrays)

    return run


@pytest.mark.parametrize("part", ["class_scores", "kernels", "mask_features"])
def test_one_wrong_number_in_any_output_is_caught(probes, model, part):
    with pytest.raises(GateError, match=rf"after the trick: {part} by 0\.0003.*nothing was written"):
        probes.judge("the trick", shifted(model, part, 3e-4), "fp32")
    measured = probes.judge("the trick", shifted(model, part, 3e-4), "fp16")
    assert measured[part] == pytest.approx(3e-4, rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_caught(probes, model, value):
    with pytest.raises(GateError, match="kernels by inf"):
        probes.judge("the trick", shifted(model, "kernels", value), "fp16")


def test_noise_moves_the_bound(probes, model, monkeypatch):
    monkeypatch.setattr(Probes, "_noise_of", lambda *_: 5e-5)
    assert probes.judge("x", shifted(model, "kernels", 3e-4), "fp32")["kernels"] == pytest.approx(3e-4, rel=0.01)
    with pytest.raises(GateError, match=r"0\.0005 is allowed"):
        probes.judge("x", shifted(model, "kernels", 1e-3), "fp32")


def test_a_network_too_sensitive_on_every_probe_is_refused(probes, model, monkeypatch):
    monkeypatch.setattr(Probes, "_noise_of", lambda *_: 0.1)
    with pytest.raises(GateError, match="cannot be judged"):
        probes.judge("x", shifted(model, "kernels", 3e-4), "fp32")


def test_noise_of_a_steady_network_is_small(probes):
    assert probes._noise_of(0, "fp32") < 1e-5 < probes._noise_of(0, "fp16")


def test_frames_are_repeatable_and_full_of_detail():
    for make in (drawn_frame, lambda h, w: noise_frame(h, w, 3)):
        frame = make(64, 96)
        assert frame.shape == (64, 96, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 30
        np.testing.assert_array_equal(frame, make(64, 96))


def test_shapes_must_agree(probes, model):
    raw = model_outputs(model, probes.batches[0], "image")
    smaller = RawOutputs(raw.class_scores[1:], raw.kernels[1:], raw.mask_features)
    with pytest.raises(GateError, match="expected shape"):
        differences(smaller, raw)
