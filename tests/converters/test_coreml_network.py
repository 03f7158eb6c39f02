"""The network in Core ML's form, in PyTorch: still the same function, and safe where float16 is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from solov2_edge.converters.coreml_network import CoremlNetwork, GuardedGroupNorm
from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.manifest import InputContract


@pytest.mark.parametrize("name", ["plain", "bgr", "v1", "v2"])
@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_same_outputs_as_the_model(name, kind, specs, make_model, frame):
    model = make_model(specs[name])
    batch = frame[None] if kind == "image" else normalised(frame[None], model.spec)
    network = CoremlNetwork(model, InputContract(kind, 64, 96))
    assert max(differences(network.run(batch), model_outputs(model, batch, kind)).values()) < 1e-4
    assert network.deform_convs == (5 if name in ("v1", "v2") else 0)


def test_the_model_is_not_touched(specs, make_model):
    model = make_model(specs["bgr"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    CoremlNetwork(model, InputContract("image", 64, 96))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_guarded_norm_is_group_norm():
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    nn.init.uniform_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(1, 16, 6, 5) * 0.01  # small enough that eps counts
    torch.testing.assert_close(GuardedGroupNorm(norm)(x), norm(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("largest", [300.0, 4000.0])
def test_squares_of_what_is_normalised_stay_within_float16(largest):
    """What the guard is for: 300 squared is infinity in float16."""
    seen = []
    norm = GuardedGroupNorm(nn.GroupNorm(2, 4))
    x = torch.full((1, 4, 2, 2), largest)
    real = nn.functional.instance_norm

    def instance_norm(given, eps):
        seen.append(given)
        return real(given, eps=eps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "instance_norm", instance_norm)
        norm(x)
    assert torch.isfinite(seen[0].half() * seen[0].half()).all()
    assert torch.isinf(x.half() * x.half()).all()


def test_pixels_enter_in_rgb_order_whatever_the_network_takes(specs, make_model):
    red, blue = (np.zeros((1, 64, 96, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    for name in ("plain", "bgr"):
        network = CoremlNetwork(make_model(specs[name]), InputContract("image", 64, 96))
        mean = network.get_buffer("mean").flatten().tolist()
        assert mean[0] > mean[2]  # of red and of blue, both near ImageNet's
        assert differences(network.run(red), network.run(blue))["kernels"] > 0.01
