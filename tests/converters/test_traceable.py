import numpy as np
import pytest
import torch

from solov2_edge.converters import traceable as module
from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.converters.traceable import Traceable
from solov2_edge.errors import InputError
from solov2_edge.layers import resize
from solov2_edge.manifest import InputContract


@pytest.mark.parametrize("name", ["plain", "bgr", "v1", "v2"])
@pytest.mark.parametrize("lowering", ["native", "lowered"])
@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_equals_the_model(name, lowering, size, specs, make_model):
    model = make_model(specs[name])
    batch = np.random.default_rng(5).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    reference = model_outputs(model, batch, "image")
    assert reference.class_scores.max() > 0.3
    for kind, given in (("image", batch), ("tensor", normalised(batch, model.spec))):
        got = Traceable(model, InputContract(kind, *size), lowering).run(given)
        assert max(differences(got, reference).values()) < 3e-5, kind
        assert got.mask_features.shape == (8, size[0] // 4, size[1] // 4)


def test_the_model_is_left_alone(specs, make_model):
    model = make_model(specs["v2"]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [type(module) for module in model.modules()]
    Traceable(model, InputContract("image", 64, 96), "lowered")
    assert [type(module) for module in model.modules()] == modules
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_coordinates_are_constants_of_the_size(specs, make_model):
    traceable = Traceable(make_model(specs["plain"]), InputContract("image", 64, 96))
    maps = [traceable.get_buffer(f"coordinates{level}") for level in range(5)]
    assert [tuple(m.shape) for m in maps] == [(1, 2, s, s) for s in (10, 8, 6, 4, 2)]
    assert all(m[0, 0, 0, 0] < m[0, 0, 0, -1] and m[0, 1, 0, 0] < m[0, 1, -1, 0] for m in maps)
    assert traceable.get_buffer("mask_coordinates").shape == (1, 2, 2, 3)


def test_an_unknown_lowering_is_refused(specs, make_model):
    with pytest.raises(InputError, match="native, lowered"):
        Traceable(make_model(specs["plain"]), InputContract("image", 64, 96), "magic")


def test_levels_of_the_mask_branch_are_added_before_one_last_resize(specs, make_model, monkeypatch):
    resized = []
    monkeypatch.setattr(module, "resize", lambda x, *size: resized.append(size) or resize(x, *size))
    traceable = Traceable(make_model(specs["plain"]), InputContract("image", 64, 96))
    resized.clear()
    traceable.run(np.zeros((1, 64, 96, 3), np.uint8))
    assert resized.count((16, 24)) == 1
