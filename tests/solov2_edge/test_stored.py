"""Tensors in a pickle, checked before they are read, and weights that are no floats."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from solov2_edge.checkpoint import read_checkpoint
from solov2_edge.errors import InputError
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.stored import PickledFile
from solov2_edge.unpickle import Global, Opaque, Persistent


def record(shape: tuple[Any, ...], stride: tuple[Any, ...], count: Any, kind: str = "FloatStorage") -> Opaque:
    storage = Persistent(("storage", Global(f"torch.{kind}"), "0", "cpu", count))
    return Opaque("torch._utils._rebuild_tensor_v2", (storage, 0, shape, stride, False, OrderedDict()))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (record((1 << 29,), (1,), 1 << 29), "more than the file's 100 bytes can hold"),
        (record((-1,), (1,), 4), "more than the file's"),
        (record((2, 2), (1,), 4), "more than the file's"),
        (record((4,), (9,), 4), "reaches beyond its storage"),
        (record((4,), (1,), "four"), "more than the file's"),
        (record((4,), (1,), 4, "ComplexFloatStorage"), "which no SOLOv2 weight is"),
        (Opaque("torch._utils._rebuild_tensor_v2", (None, 0, (4,), (1,))), "refers to no storage"),
        (Opaque("torch._utils._rebuild_tensor_v2", ()), "cannot be read"),
    ],
)
def test_a_record_that_cannot_be_is_refused_before_anything_is_read(value: Opaque, message: str) -> None:
    def read(key: str, size: int) -> bytes:
        raise AssertionError("nothing is to be read")

    with pytest.raises(InputError, match=message):
        PickledFile({}, 100, read).stored(value)


def test_a_storage_shorter_than_it_says_is_refused() -> None:
    tensor = PickledFile({}, 100, lambda key, size: b"1234").stored(record((4,), (1,), 4))
    assert tensor is not None
    with pytest.raises(InputError, match="4 of 16 bytes"):
        tensor.load()


@pytest.mark.parametrize("kind", ["int32", "int64", "int8", "uint8", "bool"])
def test_weights_that_are_no_floats_are_refused(tmp_path: Path, tiny_spec: ModelSpec, kind: str) -> None:
    state = {name: tensor.to(getattr(torch, kind)) for name, tensor in SOLOv2(tiny_spec).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    with pytest.raises(InputError, match=rf"holds {kind} numbers, expected one of float16, bfloat16, float32, float64"):
        read_checkpoint(tmp_path / "net.pth")
