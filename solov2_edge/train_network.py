"""The network as it is trained: what is frozen, what stays float32, what is compiled, and its optimiser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from solov2_edge.backbone import Backbone
from solov2_edge.errors import InputError, MissingDependencyError, require
from solov2_edge.model import SOLOv2
from solov2_edge.train_options import TrainOptions

__all__ = ["autocast", "building", "compiled", "float32_norms", "freeze", "make_optimizer", "training_mode"]


def freeze(backbone: Backbone, stages: int) -> None:
    """Take the backbone's stem and its first ``stages`` stages out of training; 0 freezes nothing."""
    for module in _frozen(backbone, stages):
        module.requires_grad_(False)


def training_mode(model: SOLOv2, options: TrainOptions) -> None:
    """Put ``model`` in training mode, batch norms that keep their statistics and frozen stages excepted."""
    model.train()
    for module in _frozen(model.backbone, options.frozen_stages):
        module.eval()
    if options.norm_eval:
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _frozen(backbone: Backbone, stages: int) -> list[nn.Module]:
    if stages == 0:
        return []
    stem = [module for name, module in backbone.named_children() if not name.startswith("layer")]
    return [*stem, *backbone.stages()[:stages]]


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Return the optimiser of what is trained; weight decay on convolution weights, elsewhere if asked for."""
    trained = [p for p in model.parameters() if p.requires_grad]
    others = options.weight_decay if options.decay_norms else 0.0
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": others},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the network runs at that precision."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def float32_norms(model: nn.Module) -> None:
    """Let every GroupNorm of ``model`` compute in float32, whatever autocast makes of the layers around it.

    A group of the largest maps holds a hundred thousand values; half precision loses their mean.
    """
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_as_float32)


def _as_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in inputs)


def compiled(model: nn.Module, device: torch.device) -> Callable[[Tensor], Any]:
    """Return ``model`` compiled; its weights stay the model's own.

    Raises:
        InputError: there is no C++ compiler, which CPU code needs.
        MissingDependencyError: there is no Triton, which GPU code needs.
    """
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise MissingDependencyError("triton", "", "--compile on a GPU", line="pip install triton")
    else:
        wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
        require(
            any(shutil.which(name) for name in wanted),
            f"--compile on a CPU needs a C++ compiler, and none of {', '.join(wanted)} is there; install one or "
            "leave --compile out",
        )
    forward: Callable[[Tensor], Any] = torch.compile(model)
    return forward


@contextmanager
def building() -> Iterator[None]:
    """Turn what torch.compile cannot build into a sentence: it builds at the first forward and backward pass.

    Raises:
        InputError: it cannot.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        told = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise InputError(f"torch.compile cannot build this network here ({told}); leave --compile out") from error
