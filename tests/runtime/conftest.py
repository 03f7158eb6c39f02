"""A tiny network's manifest, and .onnx files written byte by byte: these tests run where onnx is not installed."""

from __future__ import annotations

import contextlib
import gc
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from solov2_edge.manifest import METADATA_KEY, InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

ONNX_TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10}
MakeOnnx = Callable[..., Path]
MakeTflite = Callable[..., Path]
AssertTiny = Callable[..., None]


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """Turn a hang of more than 30 s into a failure, and fail where a stream's thread is left."""

    def hang(number: int, frame: Any) -> None:
        raise AssertionError("it hangs")

    guarded = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if guarded:
        before = signal.signal(signal.SIGALRM, hang)
        signal.alarm(30)
    try:
        yield
    finally:
        if guarded:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("solov2-edge ")]
    assert not left, left


@pytest.fixture
def nothing_left(no_thread_left: None) -> Iterator[None]:
    """As above; fail too where a descriptor or a child process is left, on a system that tells of them."""

    def held() -> set[str]:
        descriptors = Path("/proc/self/fd")
        found = {f"descriptor {entry.name} {_target(entry)}" for entry in descriptors.glob("*")}
        for children in Path("/proc/self/task").glob("*/children"):
            with contextlib.suppress(OSError):  # that thread ended meanwhile; its children went to another
                found |= {f"child {child}" for child in children.read_text().split()}
        return {one for one in found if not one.endswith("/fd")}  # the listing's own

    before = held()
    yield
    if held() - before:
        gc.collect()
    left = held() - before
    assert not left, left


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # closed since it was listed
        return "/fd"


@pytest.fixture
def tiny_manifest() -> Manifest:
    """19 cells, 2 classes, E = 4, an image input of 64x96, so mask features of 16x24."""
    spec = ModelSpec(
        name="tiny",
        class_names=("nut", "bolt"),
        pyramid_width=8,
        tower_width=8,
        mask_width=8,
        mask_channels=4,
        norm_groups=4,
        grids=(3, 2, 2, 1, 1),
    )
    return Manifest(spec=spec, format="onnx", precision="fp32", input=InputContract("image", 64, 96))


@pytest.fixture
def tiny_raw() -> RawOutputs:
    """One nut in the left half of the tiny network's input: cell 3 is its only candidate."""
    scores = np.zeros((19, 2), np.float32)
    scores[3, 0] = 0.9
    kernels = np.zeros((19, 4), np.float32)
    kernels[3, 0] = 1
    features = np.full((4, 16, 24), -10, np.float32)
    features[0, :, :12] = 10
    return RawOutputs(scores, kernels, features)


@pytest.fixture
def make_onnx(tmp_path: Path, tiny_manifest: Manifest, tiny_raw: RawOutputs) -> MakeOnnx:
    """Write an .onnx file that gives ``raw`` with the input's largest value / 1000 added to the mask features."""

    def make(
        name: str = "tiny.onnx",
        *,
        manifest: Manifest = tiny_manifest,
        raw: RawOutputs = tiny_raw,
        embed: bool = True,
        sidecar: bool = True,
        half: bool = False,
        batched: bool = True,
        input_name: str | None = None,
        input_shape: tuple[int | str, ...] | None = None,
        input_type: str | None = None,
    ) -> Path:
        kind, height, width = manifest.input.kind, manifest.input.height, manifest.input.width
        shape = (1, height, width, 3) if kind == "image" else (1, 3, height, width)
        arrays = {
            output: array[None] if batched else array
            for output, array in zip(manifest.outputs, (raw.class_scores, raw.kernels, raw.mask_features), strict=True)
        }
        model = _model(
            input_name or manifest.input.name,
            input_shape or shape,
            input_type or ("uint8" if kind == "image" else "float32"),
            arrays,
            half,
            {METADATA_KEY: manifest.embedded().to_json()} if embed else {},
        )
        path = tmp_path / name
        path.write_bytes(model)
        if sidecar:
            full = replace(manifest, sha256=sha256_of(path), size_bytes=path.stat().st_size)
            manifest_path(path).write_text(full.to_json())
        return path

    return make


@pytest.fixture
def make_tflite(
    tmp_path: Path, tiny_manifest: Manifest, tiny_raw: RawOutputs, tflite_builder: ModuleType
) -> MakeTflite:
    """Write a .tflite file that gives ``raw`` with the input's largest value / 1000 added to the mask features."""

    def make(
        name: str = "tiny.tflite",
        *,
        manifest: Manifest | None = None,
        raw: RawOutputs = tiny_raw,
        embed: bool = True,
        sidecar: bool = True,
        batched: bool = False,
        shape: tuple[int, ...] | None = None,
        **options: Any,
    ) -> Path:
        manifest = manifest or replace(tiny_manifest, format="tflite")
        contract = manifest.input
        image = contract.kind == "image"
        plain = (1, contract.height, contract.width, 3) if image else (1, 3, contract.height, contract.width)
        arrays = (raw.class_scores, raw.kernels, raw.mask_features)
        content = tflite_builder.tiny_tflite(
            {key: array[None] if batched else array for key, array in zip(manifest.outputs, arrays, strict=True)},
            shape or plain,
            **{
                "input_name": contract.name,
                "input_type": "uint8" if image else "float32",
                "metadata": {METADATA_KEY: manifest.embedded().to_json().encode()} if embed else None,
                **options,
            },
        )
        path = tmp_path / name
        path.write_bytes(content)
        if sidecar:
            full = replace(manifest, sha256=sha256_of(path), size_bytes=path.stat().st_size)
            manifest_path(path).write_text(full.to_json())
        return path

    return make


@pytest.fixture
def assert_tiny(tiny_raw: RawOutputs) -> AssertTiny:
    """Compare what a session gave with ``tiny_raw`` and the witness, and see that it is float32."""

    def check(raw: RawOutputs, witness: float = 0.1, tolerance: float = 1e-5) -> None:
        np.testing.assert_allclose(raw.class_scores, tiny_raw.class_scores, atol=tolerance)
        np.testing.assert_allclose(raw.kernels, tiny_raw.kernels, atol=tolerance)
        np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + np.float32(witness), atol=tolerance)
        assert {array.dtype.name for array in (raw.class_scores, raw.kernels, raw.mask_features)} == {"float32"}

    return check


@pytest.fixture
def edit_sidecar() -> Callable[..., None]:
    """Change fields of the manifest beside an artefact; None removes one."""

    def edit(path: Path, **changes: Any) -> None:
        data = json.loads(manifest_path(path).read_text())
        data.update(changes)
        manifest_path(path).write_text(json.dumps({k: v for k, v in data.items() if v is not None}))

    return edit


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field; the numbers below are those of onnx.proto."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(operator: str, inputs: list[str], output: str, **attributes: int) -> bytes:
    body = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operator)
    for name, value in attributes.items():
        body += _field(5, _field(1, name) + _field(3, value) + _field(20, 2))  # 2: an integer attribute
    return _field(1, body)


def _tensor(name: str, array: np.ndarray[Any, Any]) -> bytes:
    body = b"".join(_field(1, side) for side in array.shape)
    body += _field(2, ONNX_TYPES[array.dtype.name]) + _field(8, name) + _field(9, array.tobytes())
    return _field(5, body)


def _value(number: int, name: str, kind: str, shape: tuple[int | str, ...]) -> bytes:
    sides = b"".join(_field(1, _field(1 if isinstance(side, int) else 2, side)) for side in shape)
    return _field(number, _field(1, name) + _field(2, _field(1, _field(1, ONNX_TYPES[kind]) + _field(2, sides))))


def _model(
    input_name: str,
    input_shape: tuple[int | str, ...],
    input_type: str,
    outputs: Mapping[str, np.ndarray[Any, Any]],
    half: bool,
    metadata: Mapping[str, str],
) -> bytes:
    graph = _field(2, "tiny") + _value(11, input_name, input_type, input_shape)
    graph += _node("Cast", [input_name], "float_input", to=1) + _node("ReduceMax", ["float_input"], "top", keepdims=0)
    graph += _tensor("unit", np.array(1000, np.float32)) + _node("Div", ["top", "unit"], "witness")
    *plain, last = outputs
    for name, array in outputs.items():
        graph += _tensor(f"{name}_constant", array)
        inner = f"{name}_float" if half else name
        if name in plain:
            graph += _node("Identity", [f"{name}_constant"], inner)
        else:
            graph += _node("Add", [f"{last}_constant", "witness"], inner)
        if half:
            graph += _node("Cast", [inner], name, to=ONNX_TYPES["float16"])
        graph += _value(12, name, "float16" if half else "float32", array.shape)
    model = _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17))  # IR version 8, opset 17
    return model + b"".join(_field(14, _field(1, key) + _field(2, value)) for key, value in metadata.items())
