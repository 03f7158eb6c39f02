"""One optimiser step: passes that equal one, what is frozen, float32 under autocast, nothing learnt from NaN."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solov2_edge.distributed import World
from solov2_edge.errors import InputError, MissingDependencyError
from solov2_edge.loss import BatchTargets, count_targets
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.train_network import autocast, compiled, float32_norms, freeze, make_optimizer, training_mode
from solov2_edge.train_options import TrainOptions
from solov2_edge.train_step import Batch, NotFiniteError, Stepper

OPTIONS = TrainOptions(input_size=(64, 64), optimizer="sgd", learning_rate=0.01, clip_norm=1e9, norm_eval=True)


def _batch(spec: ModelSpec, pairs: list[int], seed: int) -> Batch:
    """One picture a number in ``pairs``, which says how many (object, cell) pairs it has."""
    generator = torch.Generator().manual_seed(seed)
    count = len(pairs)
    class_maps = torch.full((count, spec.num_cells), spec.num_classes)
    cells = [torch.randint(0, spec.num_cells, (n,), generator=generator) for n in pairs]
    for row, picked in zip(class_maps, cells, strict=True):
        row[picked] = 1
    masks = [(torch.rand(max(n, 1), 16, 16, generator=generator) > 0.5).float() for n in pairs]
    images = torch.randn(count, 3, 64, 64, generator=generator)
    return images, BatchTargets(class_maps, cells, [torch.arange(n) for n in pairs], masks)


def _joined(a: Batch, b: Batch) -> Batch:
    parts = ([*one, *other] for one, other in zip(a[1][1:4], b[1][1:4], strict=True))
    return torch.cat([a[0], b[0]]), BatchTargets(torch.cat([a[1].class_maps, b[1].class_maps]), *parts)


def _stepper(spec: ModelSpec, options: TrainOptions = OPTIONS) -> Stepper:
    torch.manual_seed(0)
    model = SOLOv2(spec)
    freeze(model.backbone, options.frozen_stages)
    training_mode(model, options)
    if options.precision != "fp32":
        float32_norms(model)
    return Stepper(model, make_optimizer(model, options), options, World())


@pytest.mark.parametrize("dice_norm", ["pairs", "cells"])
def test_two_passes_learn_what_one_of_both_does(tiny_spec: ModelSpec, dice_norm: str) -> None:
    """Passes of very different numbers of objects: the average of their own losses would be another."""
    options = replace(OPTIONS, dice_norm=dice_norm)
    first, second = _batch(tiny_spec, [9, 1], 1), _batch(tiny_spec, [0, 2], 2)
    whole, shared = _stepper(tiny_spec, options), _stepper(tiny_spec, options)
    start = copy.deepcopy(whole.model.state_dict())
    for _ in range(3):
        one = whole.step([_joined(first, second)])
        two = shared.step([first, second])
        assert two == pytest.approx(one, rel=1e-5)
    for name, value in whole.model.state_dict().items():
        if value.is_floating_point() and not torch.equal(value, start[name]):
            moved = float((value - start[name]).abs().max())
            assert float((shared.model.state_dict()[name] - value).abs().max()) < 1e-3 * moved + 1e-7, name


def test_counts_are_pairs_and_distinct_cells(tiny_spec: ModelSpec) -> None:
    _, targets = _batch(tiny_spec, [3, 0], 1)
    doubled = targets._replace(cells=[torch.cat([targets.cells[0]] * 2), targets.cells[1]])
    assert count_targets(doubled, 3).tolist() == [6, len(set(targets.cells[0].tolist()))]


def test_a_step_without_any_object_is_a_step(tiny_spec: ModelSpec) -> None:
    stepper = _stepper(tiny_spec)
    losses = stepper.step([_batch(tiny_spec, [0], 1), _batch(tiny_spec, [0], 2)])
    assert losses.mask == 0 < losses.classes
    assert losses.norm > 0


def test_what_is_frozen_stays(tiny_spec: ModelSpec) -> None:
    options = replace(OPTIONS, frozen_stages=1, weight_decay=0.1, decay_norms=True)
    stepper = _stepper(tiny_spec, options)
    start = copy.deepcopy(stepper.model.state_dict())
    stepper.step([_batch(tiny_spec, [4, 3], 1)])
    changed = {name for name, value in stepper.model.state_dict().items() if not torch.equal(value, start[name])}
    assert not [name for name in changed if name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1"))]
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    assert {"backbone.layer2.0.conv1.weight", "backbone.layer2.0.bn1.weight", "mask_head.conv_cls.bias"} <= changed


def test_batch_norms_gather_statistics_unless_they_keep_them(tiny_spec: ModelSpec) -> None:
    stepper = _stepper(tiny_spec, replace(OPTIONS, norm_eval=False, frozen_stages=1))
    stepper.step([_batch(tiny_spec, [1, 1], 1)])
    state = stepper.model.state_dict()
    assert int(state["backbone.layer1.0.bn1.num_batches_tracked"]) == 0
    assert int(state["backbone.layer2.0.bn1.num_batches_tracked"]) == 1


@pytest.mark.parametrize(("decay_norms", "decayed"), [(False, False), (True, True)])
def test_weight_decay_reaches_norms_only_if_asked(tiny_spec: ModelSpec, decay_norms: bool, decayed: bool) -> None:
    groups = make_optimizer(SOLOv2(tiny_spec), replace(OPTIONS, weight_decay=0.5, decay_norms=decay_norms)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.5 if decayed else 0.0]
    assert all(parameter.ndim <= 1 for parameter in groups[1]["params"])


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_norms_and_losses_stay_float32_in_half_precision(
    tiny_spec: ModelSpec, precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[torch.dtype]] = {"group": set(), "conv": set(), "loss": set()}
    group_norm, conv = nn.functional.group_norm, nn.Conv2d.forward

    def watched_norm(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = group_norm(x, *args, **kwargs)
        seen["group"] |= {x.dtype, out.dtype}
        return out

    def watched_conv(self: nn.Conv2d, x: Tensor) -> Tensor:
        out = conv(self, x)
        seen["conv"].add(out.dtype)
        return out

    def watched_dice(p: Tensor, g: Tensor) -> Tensor:
        seen["loss"] |= {p.dtype, g.dtype}
        return dice(p, g)

    from solov2_edge.loss import dice_loss as dice

    monkeypatch.setattr("torch.nn.functional.group_norm", watched_norm)
    monkeypatch.setattr(nn.Conv2d, "forward", watched_conv)
    monkeypatch.setattr("solov2_edge.loss.dice_loss", watched_dice)
    stepper = _stepper(tiny_spec, replace(OPTIONS, precision=precision))
    assert stepper.scaler.is_enabled() == (precision == "fp16")
    exact = _stepper(tiny_spec).step([_batch(tiny_spec, [4, 3], 1)])
    for kinds in seen.values():
        kinds.clear()
    half = stepper.step([_batch(tiny_spec, [4, 3], 1)])
    assert seen["group"] == {torch.float32}
    assert seen["loss"] == {torch.float32}
    assert seen["conv"] == {dtype}
    assert half == pytest.approx(exact, rel=0.02)
    assert {value.dtype for value in stepper.model.parameters()} == {torch.float32}


def test_float16_gradients_are_scaled_and_a_step_that_overflows_is_left_out(tiny_spec: ModelSpec) -> None:
    stepper = _stepper(tiny_spec, replace(OPTIONS, precision="fp16"))
    batch = _batch(tiny_spec, [4], 1)
    stepper.step([batch])
    stepper.scaler.load_state_dict({**stepper.scaler.state_dict(), "scale": 2.0**40})  # beyond float16
    start = copy.deepcopy(stepper.model.state_dict())
    stepper.step([batch])
    assert stepper.scaler.get_scale() == 2.0**39
    assert all(torch.equal(value, start[name]) for name, value in stepper.model.state_dict().items())


@pytest.mark.parametrize("where", ["image", "gradient"])
def test_nothing_is_learnt_from_what_is_not_finite(tiny_spec: ModelSpec, where: str) -> None:
    stepper = _stepper(tiny_spec)
    images, targets = _batch(tiny_spec, [2], 1)
    if where == "image":
        images[0, 0, 3, 3] = float("nan")
    else:
        stepper.model.mask_head.conv_cls.bias.register_hook(lambda gradient: gradient * float("inf"))
    start = copy.deepcopy(stepper.model.state_dict())
    with pytest.raises(NotFiniteError, match="the loss" if where == "image" else "the gradient"):
        stepper.step([(images, targets)])
    assert all(torch.equal(value, start[name]) for name, value in stepper.model.state_dict().items())


def test_compiling_needs_a_compiler(tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SOLOv2(tiny_spec)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"C\+\+ compiler"):
        compiled(model, torch.device("cpu"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        compiled(model, torch.device("cpu"))
    monkeypatch.setattr("solov2_edge.train_network.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="triton"):
        compiled(model, torch.device("cuda"))


def test_a_network_that_cannot_be_compiled_is_one_sentence(
    tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def refuse(images: Tensor) -> None:
        raise BackendCompilerFailed(refuse, RuntimeError("no header Python.h"), None)

    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("torch.compile", lambda model: refuse)
    stepper = _stepper(tiny_spec, replace(OPTIONS, compile=True))
    with pytest.raises(InputError, match=r"Python\.h.*leave --compile out"):
        stepper.step([_batch(tiny_spec, [1], 1)])


def test_fp32_is_not_autocast() -> None:
    with autocast(torch.device("cpu"), "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
