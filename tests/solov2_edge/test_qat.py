"""The network that imitates integers: the same function without rounding, trainable throughout, ordinary weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from solov2_edge.errors import InputError
from solov2_edge.fake_quant import round_weight
from solov2_edge.model import SOLOv2
from solov2_edge.qat import calibrate, rounded_network
from solov2_edge.qat_network import RoundedSOLOv2
from solov2_edge.qat_rules import RULES
from solov2_edge.qat_steps import weights_on_steps
from solov2_edge.spec import BackboneSpec, ModelSpec

SPEC = ModelSpec(
    name="custom",
    class_names=("ant", "bee"),
    backbone=BackboneSpec("basic", (1, 1, 1, 1), (8, 8, 16, 16), 8, stem="conv3x2"),
    pyramid_width=16,
    tower_width=16,
    mask_width=16,
    mask_channels=8,
    norm_groups=4,
    grids=(10, 8, 6, 4, 2),
    mean=(123.0, 117.0, 104.0),  # whole, because files for CPUs surround pictures with whole pixel values
)
BOTTLENECK = BackboneSpec("bottleneck", (1, 1, 1, 1), (8, 8, 8, 8), 8)
SPECS = {
    "basic": SPEC,
    "bottleneck": replace(SPEC, backbone=BOTTLENECK),
    "v2": replace(SPEC, backbone=replace(BOTTLENECK, dcn="v2"), tower_dcn="v2"),
    "3x3 kernels without coordinates": replace(
        SPEC, kernel_size=3, kernel_coordinates=False, feature_coordinates=False
    ),
    "in groups, deformable everywhere": replace(
        SPEC,
        backbone=BackboneSpec("bottleneck", (1, 1, 1, 1), (16, 16, 16, 16), 8, dcn="v2", groups=4, base_width=16),
        tower_dcn="v2",
        tower_dcn_convs="all",
        mask_dcn="v2",
    ),
}


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 3, 64, 96, generator=generator) for _ in range(count)]


def trained(spec: ModelSpec) -> SOLOv2:
    """A network with weights of a usual size and statistics of real activations."""
    torch.manual_seed(0)
    model = SOLOv2(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 4:
                torch.nn.init.normal_(parameter, std=1.4 / parameter[0].numel() ** 0.5)
        for _ in range(10):
            model(torch.randn(2, 3, 64, 96))
    return model.eval()


def rounded(model: SOLOv2, target: str) -> RoundedSOLOv2:
    return rounded_network(model.spec, model.state_dict(), target, pictures(4))


@pytest.mark.parametrize("target", RULES)
@pytest.mark.parametrize("name", SPECS)
def test_without_rounding_it_is_the_same_function(name: str, target: str) -> None:
    model = trained(SPECS[name])
    network = rounded(model, target)
    places = []
    network.watch = lambda place, values: places.append(place)
    with torch.no_grad():
        for got, expected in zip(network(pictures(1, seed=5)[0]), model(pictures(1, seed=5)[0]), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert set(places) == set(network.scales), "a place without a scale, or a scale without a place"


def test_separate_mask_features_are_refused() -> None:
    with pytest.raises(InputError, match="train it without --qat"):
        RoundedSOLOv2(replace(SPEC, mask_features="separate"), next(iter(RULES.values())))


@pytest.mark.parametrize("target", RULES)
def test_rounding_adds_noise_and_never_touches_the_statistics(target: str) -> None:
    model = trained(SPEC)
    network = rounded(model, target).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    (picture,) = pictures(1, seed=5)
    with torch.no_grad():
        got, expected = network(picture).kernels, model(picture).kernels
    noise = float((got - expected).square().mean().sqrt() / expected.std())
    assert 0.001 < noise < 0.5
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())


@pytest.mark.parametrize("target", RULES)
@pytest.mark.parametrize("name", SPECS)
def test_gradients_reach_every_weight(name: str, target: str) -> None:
    network = rounded(trained(SPECS[name]), target).train()
    outputs = network(torch.cat(pictures(2, seed=7)))
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not without


def test_names_and_shapes_are_those_of_the_ordinary_network() -> None:
    network = rounded(trained(SPEC), "cpu")
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in SOLOv2(SPEC).state_dict().items()
    }
    assert copy.deepcopy(network).scales == network.scales  # what the moving average starts as


@pytest.mark.parametrize("target", RULES)
@pytest.mark.parametrize("name", ["basic", "v2"])
def test_weights_on_steps_compute_the_same_and_stay_there(name: str, target: str) -> None:
    network = rounded(trained(SPECS[name]), target)
    moved = RoundedSOLOv2(network.spec, network.rules)
    moved.load_state_dict(weights_on_steps(network))
    moved.scales = network.scales
    changed = [k for k, v in network.state_dict().items() if not torch.equal(moved.state_dict()[k], v)]
    integer = {k for k, v in network.state_dict().items() if v.dim() == 4 and "offset" not in k}
    deformable = {k for k in integer if f"{k.removesuffix('weight')}conv_offset.weight" in network.state_dict()}
    first = set() if network.rules.first else {"backbone.conv1.weight"}
    assert set(changed) == integer - deformable - first
    for name_, again in weights_on_steps(moved).items():
        torch.testing.assert_close(again, moved.state_dict()[name_], rtol=1e-5, atol=1e-6)
    for got, expected in zip(_integer_weights(moved), _integer_weights(network), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def _integer_weights(network: RoundedSOLOv2) -> list[Tensor]:
    """Return the rounded weights in the order they are used, folded."""

    class Recorder(RoundedSOLOv2):
        def _multiply(self, x, weight, *others):  # type: ignore[no-untyped-def]  # as in the class above
            used.append(round_weight(weight.detach()))
            return super()._multiply(x, weight, *others)

    used: list[Tensor] = []
    recorder = Recorder(network.spec, network.rules)
    recorder.load_state_dict(network.state_dict())
    recorder.scales = network.scales
    with torch.no_grad():
        recorder(pictures(1)[0])
    return used


def test_ranges_are_of_the_present_weights() -> None:
    network = rounded(trained(SPEC), "cpu")
    before = network.scales["backbone.conv1"].step
    with torch.no_grad():
        network.backbone.bn1.weight *= 3
        network.backbone.bn1.bias *= 3
    calibrate(network, pictures(4))
    assert network.scales["backbone.conv1"].step == pytest.approx(3 * before, rel=1e-3)


def test_what_cannot_be_imitated_is_refused() -> None:
    model = trained(SPEC)
    with pytest.raises(InputError, match="target must be one of cpu, tensorrt"):
        rounded_network(SPEC, model.state_dict(), "abacus", pictures(1))
    with pytest.raises(InputError, match="same network and classes"):
        rounded_network(replace(SPEC, class_names=("ant",)), model.state_dict(), "cpu", pictures(1))
    with pytest.raises(InputError, match="needs pictures"):
        rounded_network(SPEC, model.state_dict(), "cpu", [])
