import numpy as np
import pytest
import torch

from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.converters.tflite_norm import ChannelwiseGroupNorm
from solov2_edge.converters.tflite_traceable import GUARD, TfliteTraceable, with_named_outputs
from solov2_edge.manifest import InputContract


@pytest.mark.parametrize("name", ["plain", "bgr", "v1", "v2"])
@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_equals_the_model(name, size, specs, make_model):
    model = make_model(specs[name])
    batch = np.random.default_rng(5).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    reference = model_outputs(model, batch, "image")
    assert reference.class_scores.max() > 0.3
    for kind, given in (("image", batch), ("tensor", normalised(batch, model.spec))):
        traceable = TfliteTraceable(model, InputContract(kind, *size))
        assert max(differences(traceable.run(given), reference).values()) < 3e-5, kind


def test_what_group_norms_square_is_scaled_down(specs, make_model):
    model = make_model(specs["v2"])
    traceable = TfliteTraceable(model, InputContract("image", 64, 96))
    before, after = model.mask_head.cls_convs[0], traceable.network.mask_head.cls_convs[0]
    assert torch.equal(after.conv.weight, before.conv.weight * GUARD)
    norms = [module for module in traceable.modules() if isinstance(module, ChannelwiseGroupNorm)]
    assert {norm.eps for norm in norms} == {before.gn.eps * GUARD**2}
    assert before.gn.eps == 1e-5  # the network itself is left alone


def test_outputs_carry_the_contracts_names(specs, make_model):
    traceable = TfliteTraceable(make_model(specs["plain"]), InputContract("image", 64, 96))
    outputs = with_named_outputs(traceable)(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "class_scores": (220, 3),
        "kernels": (220, 8),
        "mask_features": (8, 16, 24),
    }
