"""Manifests that are damaged, of another schema, or say what no artefact can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_case import Case, Kit, Make

__all__ = ["MANIFESTS"]

LINE = "segment {case}/bad.onnx {picture} -o {out}"
Data = dict[str, Any]


def text(content: bytes | str) -> Make:
    """Return a maker that lays a good .onnx beside that manifest."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(kit.onnx, folder / "bad.onnx")
        (folder / "bad.onnx.json").write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def edited(change: Callable[[Data], object]) -> Make:
    """Return a maker that changes fields of the good manifest."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(kit.onnx, folder / "bad.onnx")
        data = json.loads(kit.onnx.with_name("tiny.onnx.json").read_text())
        change(data)
        (folder / "bad.onnx.json").write_text(json.dumps(data))

    return make


def put(path: str, value: object) -> Callable[[Data], object]:
    """Return a change that sets a field, its place written with dots."""

    def change(data: Data) -> None:
        *outer, last = path.split(".")
        for name in outer:
            data = data[name]
        data[last] = value

    return change


TEXTS = {
    "empty": "",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "cut": '{"schema_version": 1,',
    "UTF-16": '{"schema_version": 1}'.encode("utf-16"),
    "no UTF-8": b'{"schema_version": "\xff"}',
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
    "of a number of 10,000 digits": '{"schema_version": ' + "1" * 10_000 + "}",
    "of NaN": '{"schema_version": NaN}',
    "only a version": '{"schema_version": 1}',
    "a megabyte of spaces": " " * (1 << 20),
    "YAML": "schema_version: 1\nformat: onnx\n",
}
FIELDS: list[tuple[str, object]] = [
    *(("schema_version", value) for value in (0, 2, 99, -1, "1", None, 1.5, [1])),
    *(("format", value) for value in ("ncnn", "", None, 3, "tflite", "coreml", ["onnx"], {})),
    *(("precision", value) for value in ("int7", None, 8, "FP32", "int8", {"a": 1})),
    *(("sha256", value) for value in ("", "0" * 64, "xyz", None, 3, "A" * 64)),
    *(("size_bytes", value) for value in (-1, "9", 1.5, None)),
    *(("source_sha256", value) for value in ("zz", 3)),
    *(
        ("outputs", value)
        for value in ([], ["a"], None, "abc", 3, [1, 2, 3], ["kernels", "class_scores", "mask_features"])
    ),
    *(("input", value) for value in (None, [], "image", {}, {"kind": "image"})),
    *(("input.kind", value) for value in ("video", None, 3)),
    *(("input.height", value) for value in (0, -32, 33, 64.0, "64", None, True, 1 << 40, 128)),
    *(("input.width", value) for value in (0, 31, 1 << 62, [96], 192)),
    *(("input.name", value) for value in ("", None, "../image", 3)),
    *(("input.depth", value) for value in (3,)),
    *(("spec", value) for value in (None, [], {}, "nano")),
    *(
        ("spec.class_names", value)
        for value in ([], "nut", None, ["nut"], ["nut", "nut", "nut"], [1, 2], ["nut", None])
    ),
    *(
        ("spec.grids", value)
        for value in ([], [3, 2, 2, 1], [3, 2, 2, 1, 0], [3, 2, 2, 1, -1], "32211", [10**9] * 5, None)
    ),
    *(("spec.strides", value) for value in ([0] * 5, [], None, [8, 8, 16, 32, "32"])),
    *(("spec.mask_channels", value) for value in (0, -4, 8, 1 << 40, "4", None)),
    *(("spec.mean", value) for value in ([], [1, 2], None, ["a", "b", "c"], [float("nan")] * 3)),
    *(("spec.std", value) for value in ([0, 0, 0], [1, 1], None, [float("inf")] * 3)),
    *(("spec.resize_box", value) for value in ([0, 0], [1], None, "64x96")),
    *(("spec.backbone", value) for value in ("r18", 18)),
    *(("spec.name", value) for value in (None, 3, "../tiny")),
    *(("spec.channel_order", value) for value in ("xyz", None)),
    *(("tools", value) for value in (None, [], {"torch": 2})),
    *(("calibration", value) for value in (3, "many", {"count": -1})),
    *(("parity", value) for value in (3, "good")),
    *(
        ("decode", value)
        for value in (3, [], {"max_candidates": 0}, {"unknown": 1}, {"max_candidates": 10, "max_instances": 5})
    ),
    *(("dcn_lowering", value) for value in ("none of these", None)),
    *(("licence", value) for value in ("MIT",)),
    *(("__class__", value) for value in ("os.system",)),
]
MANIFESTS = [
    *(Case(f"manifest that is {name}", LINE, "manifest|JSON|schema", text(content)) for name, content in TEXTS.items()),
    *(
        Case(f"manifest with {path} = {json.dumps(value)[:40]}", LINE, ".", edited(put(path, value)))
        for path, value in FIELDS
    ),
    *(
        Case(f"manifest without {name}", LINE, ".", edited(lambda data, name=name: data.pop(name)))  # type: ignore[misc]
        for name in ("schema_version", "format", "precision", "sha256", "outputs", "input", "spec")
    ),
]
