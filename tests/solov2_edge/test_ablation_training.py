"""The paper's ablations learn: the losses reach every weight, and specs of before still load."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from solov2_edge.errors import InputError
from solov2_edge.loss import BatchTargets, dice_loss, solov2_losses
from solov2_edge.model import SOLOv2
from solov2_edge.spec import BackboneSpec, ModelSpec

CHANGES = (
    {},
    {"kernel_size": 3},
    {"mask_features": "separate"},
    {"mask_features": "separate", "kernel_size": 3, "kernel_coordinates": False},
    {"kernel_coordinates": False, "feature_coordinates": False},
    {"tower_dcn": "v1", "tower_dcn_convs": "all", "mask_dcn": "v1"},
)


@pytest.fixture(scope="module")
def small(tiny_spec):
    return replace(tiny_spec, grids=(5, 4, 3, 2, 1), norm_groups=4, tower_width=8, mask_width=8, mask_channels=8)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_step_changes_every_weight(small, change):
    torch.manual_seed(0)
    spec = replace(small, **change)
    model = SOLOv2(spec).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    cells = torch.tensor([0, 7, 30, 44, 51, 54])  # of every level
    class_maps = torch.full((1, spec.num_cells), 3)
    class_maps[0, cells] = torch.tensor([0, 1, 2, 0, 1, 2])
    masks = (torch.rand(6, 16, 16) > 0.5).float()
    targets = BatchTargets(class_maps, [cells], [torch.arange(6)], [masks])
    outputs = model(torch.randn(1, 3, 64, 64))
    losses = solov2_losses(outputs, targets, spec=spec)
    (losses.mask + losses.classes).backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    optimizer.step()
    # A fresh offset predictor is 0 throughout: its gradient is that of sampling, which passes through all the same.
    stuck = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert not stuck


@pytest.mark.parametrize("separate", [False, True])
def test_the_mask_loss_of_3x3_kernels_by_hand(small, separate):
    torch.manual_seed(0)
    spec = replace(small, kernel_size=3, mask_features="separate" if separate else "unified")
    kernels = torch.randn(1, spec.num_cells, 72)
    features = torch.randn(1, spec.feature_channels, 6, 6)
    masks = (torch.rand(2, 6, 6) > 0.5).float()
    cells, objects = torch.tensor([26, 50, 25]), torch.tensor([0, 1, 1])  # levels 1, 3 and 1
    maps = torch.full((1, spec.num_cells), 3)
    maps[0, cells] = 0
    model_outputs = SOLOv2(spec)(torch.zeros(1, 3, 64, 64))._replace(
        class_logits=torch.zeros(1, spec.num_cells, 3), kernels=kernels, mask_features=features
    )
    expected = []
    for cell, level, mask in ((26, 1, masks[0]), (50, 3, masks[1]), (25, 1, masks[1])):
        own = features[:, 8 * level : 8 * level + 8] if separate else features
        logits = functional.conv2d(own, kernels[0, cell].reshape(1, 8, 3, 3), padding=1)
        expected.append(dice_loss(logits.sigmoid().flatten(1), mask.flatten()[None]))
    losses = solov2_losses(model_outputs, BatchTargets(maps, [cells], [objects], [masks]), spec=spec)
    assert losses.mask.item() == pytest.approx(3 * torch.cat(expected).mean().item(), rel=1e-5)


def test_specs_of_before_still_load_and_defaults_are_readable_by_older_versions(small):
    old = json.loads(json.dumps(small.to_dict()))
    added = {
        "tower_dcn_convs", "mask_dcn", "mask_features", "feature_coordinates", "kernel_coordinates", "kernel_size",
    }  # fmt: skip
    assert not added & set(old)
    assert not {"groups", "base_width"} & set(old["backbone"])
    spec = ModelSpec.from_dict(old)
    assert spec == small
    assert (spec.kernel_size, spec.kernel_length, spec.feature_channels, spec.plain_kernels) == (1, 8, 8, True)
    for change in CHANGES[1:]:
        changed = replace(small, **change)
        assert ModelSpec.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
        assert {*change} - {"tower_dcn"} == added & set(changed.to_dict())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kernel_size": 2}, "kernel_size must be 1 or 3, got 2"),
        ({"kernel_size": True}, "kernel_size must be 1 or 3"),
        ({"mask_features": "per-level"}, "mask_features must be one of unified, separate"),
        ({"feature_coordinates": 1}, "feature_coordinates must be true or false"),
        ({"tower_dcn_convs": "all"}, "needs a deformable flavour"),
        ({"mask_features": "separate", "mask_dcn": "v2"}, "is for unified mask features"),
        ({"mask_channels": 6}, "must be a multiple of norm_groups"),
    ],
)
def test_nonsense_is_refused(small, change, text):
    with pytest.raises(InputError, match=text):
        replace(small, **change)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"groups": 4}, "shape bottlenecks"),
        ({"block": "bottleneck", "groups": 0}, "positive integers"),
        ({"block": "bottleneck", "groups": 4, "base_width": 5, "widths": (8, 8, 8, 8)}, "multiples of 64"),
    ],
)
def test_impossible_groups_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        BackboneSpec(**values)
