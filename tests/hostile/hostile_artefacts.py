"""Artefacts that are damaged, swapped, cut, or made for something else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hostile_case import Case, Kit, Make, write

__all__ = ["ARTEFACTS", "described"]

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "coreml": ".mlpackage"}
MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"
SEGMENT = "segment {{case}}/bad{} {{picture}} -o {{out}}"


def described(path: Path, kit: Kit, form: str) -> None:
    """Write the manifest that a file would have, were it as it should be: only its content is bad."""
    from solov2_edge.manifest import Manifest, manifest_path, sha256_of, size_of

    manifest = Manifest.from_json(manifest_path(getattr(kit, form)).read_text())
    complete = replace(manifest, sha256=sha256_of(path), size_bytes=size_of(path))
    manifest_path(path).write_text(complete.to_json())


def spoilt(form: str, change: Callable[[bytearray], bytes | bytearray | None], *, redescribe: bool) -> Make:
    """Return a maker that changes the bytes of a good .onnx or .tflite, its manifest the old one or a new one."""

    def make(folder: Path, kit: Kit) -> None:
        good: Path = getattr(kit, form)
        data = bytearray(good.read_bytes())
        changed = change(data)
        path = folder / f"bad{SUFFIXES[form]}"
        path.write_bytes(data if changed is None else changed)
        if redescribe:
            described(path, kit, form)
        else:
            shutil.copy(good.with_name(good.name + ".json"), folder / f"{path.name}.json")

    return make


def package(change: Callable[[Path], None], *, redescribe: bool = False) -> Make:
    """Return a maker that changes a good Core ML package."""

    def make(folder: Path, kit: Kit) -> None:
        path = folder / "bad.mlpackage"
        shutil.copytree(kit.coreml, path)
        shutil.copy(kit.coreml.with_name("tiny.mlpackage.json"), folder / "bad.mlpackage.json")
        change(path)
        if redescribe:
            described(path, kit, "coreml")

    return make


def flip(share: float) -> Callable[[bytearray], None]:
    """Return a change that turns over one byte at that share of the length."""

    def change(data: bytearray) -> None:
        data[int(len(data) * share)] ^= 0xFF

    return change


def cut(share: float) -> Callable[[bytearray], bytearray]:
    """Return a change that keeps a share of the bytes."""
    return lambda data: data[: int(len(data) * share)]


def swap(old: bytes, new: bytes) -> Callable[[bytearray], bytes]:
    """Return a change that replaces every occurrence; both have one length, so that the rest stays readable."""
    assert len(old) == len(new)

    def change(data: bytearray) -> bytes:
        assert old in data
        return bytes(data).replace(old, new)

    return change


def renamed(form: str, suffix: str) -> Make:
    """Return a maker that gives a good artefact another format's name."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(getattr(kit, form), folder / f"bad{suffix}")

    return make


def _root(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "Manifest.json").read_text())
        manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = path
        (folder / "Manifest.json").write_text(json.dumps(manifest))

    return change


def _weights(path: str) -> Callable[[Path], None]:
    """Point every weight of a program to another file."""

    def change(folder: Path) -> None:
        from solov2_edge.converters.mil_package import read_package

        package = read_package(folder)
        data = package.model.SerializeToString()
        package.model.ParseFromString(data)
        for function in package.model.mlProgram.functions.values():
            for block in function.block_specializations.values():
                for operation in block.operations:
                    for value in operation.attributes.values():
                        if value.WhichOneof("value") == "blobFileValue":
                            value.blobFileValue.fileName = path
        (folder / MODEL).write_bytes(package.model.SerializeToString())

    return change


def _deep(folder: Path) -> None:
    (folder / "Manifest.json").write_text("[" * 100_000 + "]" * 100_000)


def _edit(name: str, change: Callable[[bytearray], bytes | bytearray | None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        changed = change(data)
        (folder / name).write_bytes(data if changed is None else changed)

    return edit


def _extra(folder: Path) -> None:
    (folder / "Data" / "stray.bin").write_bytes(b"1")


PACKAGES: dict[str, tuple[Callable[[Path], None], bool]] = {
    "without Manifest.json": (lambda folder: (folder / "Manifest.json").unlink(), True),
    "without a program": (lambda folder: (folder / MODEL).unlink(), True),
    "without weights": (lambda folder: (folder / WEIGHTS).unlink(), True),
    "with an empty program": (_edit(MODEL, lambda data: b""), True),
    "with half a program": (_edit(MODEL, cut(0.5)), True),
    "with noise as its program": (_edit(MODEL, lambda data: bytes(range(256)) * 20), True),
    "with half its weights": (_edit(WEIGHTS, cut(0.5)), True),
    "with empty weights": (_edit(WEIGHTS, lambda data: b""), True),
    "with weights that claim 2^60 bytes": (
        _edit(WEIGHTS, lambda data: data[:80] + b"\xff" * 7 + b"\x0f" + data[88:]),
        True,
    ),
    "with a damaged head of its weights": (_edit(WEIGHTS, lambda data: b"\xff" * 64 + data[64:]), True),
    "whose root climbs": (_root("../../../etc/hostname"), True),
    "whose root is absolute": (_root("/etc/hostname"), True),
    "whose root is a folder": (_root("com.apple.CoreML"), True),
    "whose root is empty": (_root(""), True),
    "whose root has a NUL": (_root("a\0b"), True),
    "whose root has 5,000 letters": (_root("x" * 5000), True),
    "whose weights climb": (_weights("@model_path/../../../../../etc/hostname"), True),
    "whose weights are absolute": (_weights("/etc/hostname"), True),
    "whose weights are elsewhere": (_weights("@model_path/weights/none.bin"), True),
    "whose weights have a NUL": (_weights("@model_path/a\0b"), True),
    "nested 100,000 deep": (_deep, True),
    "with a bit turned in its program": (_edit(MODEL, flip(0.5)), False),
    "with a bit turned in its weights": (_edit(WEIGHTS, flip(0.9)), False),
    "with a stray file": (_extra, False),
    "with a file renamed": (lambda folder: (folder / WEIGHTS).rename(folder / "Data/w.bin"), False),
}
BLOBS = {
    "a text": b"this is no model, it is a text\n" * 9,
    "zeros": bytes(4096),
    "noise": bytes((i * 73 + 41) % 256 for i in range(4096)),
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "a field of 2^60 bytes": b"\x08\x08\x3a" + b"\xff" * 8 + b"\x0f",
    "an offset beyond its end": b"\xff\xff\xff\x7fTFL3" + bytes(64),
    "an offset into itself": b"\x00\x00\x00\x00TFL3" + bytes(64),
    "one byte": b"\x08",
}
NAMES = {
    "onnx": [
        ("another input name", swap(b"image", b"imagx")),
        ("a class_scores output missing", swap(b"class_scores", b"class_scorex")),
        ("a kernels output missing", swap(b"kernels", b"kernelx")),
        ("a mask_features output missing", swap(b"mask_features", b"mask_featurex")),
        ("an unknown operator", swap(b"ReduceMax", b"ReduceMaz")),
        ("an opset of 127", lambda data: bytes(data).replace(b"\x42\x02\x10\x11", b"\x42\x02\x10\x7f")),
    ],
    "tflite": [
        ("another schema", swap(b"TFL3", b"TFL9")),
        ("a class_scores output missing", swap(b"class_scores", b"class_scorex")),
        ("a kernels output missing", swap(b"kernels", b"kernelx")),
        ("a mask_features output missing", swap(b"mask_features", b"mask_featurex")),
    ],
}


def swapped(form: str, other: str) -> Make:
    """Return a maker that lays one artefact beside the manifest of another."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(getattr(kit, form), folder / f"bad{SUFFIXES[form]}")
        good: Path = getattr(kit, other)
        shutil.copy(good.with_name(good.name + ".json"), folder / f"bad{SUFFIXES[form]}.json")

    return make


def _slug(name: str) -> str:
    return re.sub(r"[{}]", "", name)


ARTEFACTS = [
    *(
        Case(
            f"artefact {form} with a byte turned at {share:.0%}",
            SEGMENT.format(SUFFIXES[form]),
            "SHA-256|has SHA",
            spoilt(form, flip(share), redescribe=False),
        )
        for form in ("onnx", "tflite")
        for share in (0.0, 0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99)
    ),
    *(
        Case(
            f"artefact {form} cut at {share:.0%}, {'its manifest made anew' if anew else 'its manifest kept'}",
            SEGMENT.format(SUFFIXES[form]),
            "." if anew else "SHA-256",
            spoilt(form, cut(share), redescribe=anew),
        )
        for form in ("onnx", "tflite")
        for share in (0.05, 0.3, 0.6, 0.95)
        for anew in (False, True)
    ),
    *(
        Case(
            f"artefact {form} with {name}",
            SEGMENT.format(SUFFIXES[form]),
            ".",
            spoilt(form, change, redescribe=True),
        )
        for form, changes in NAMES.items()
        for name, change in changes
    ),
    *(
        Case(
            f"artefact {verb} of {name} as {suffix}",
            f"{line} {{case}}/bad{suffix}{rest}",
            ".",
            write(f"bad{suffix}", data),
        )
        for name, data in BLOBS.items()
        for suffix in (".onnx", ".tflite")
        for verb, line, rest in (("inspection", "inspect", ""), ("use", "segment", " {picture} -o {out}"))
    ),
    *(
        Case(
            f"artefact Core ML {name}",
            "segment {case}/bad.mlpackage {picture} -o {out}",
            ".",
            package(change, redescribe=anew),
        )
        for name, (change, anew) in PACKAGES.items()
    ),
    *(
        Case(
            f"artefact {form} beside the manifest of {other}", SEGMENT.format(SUFFIXES[form]), ".", swapped(form, other)
        )
        for form in ("onnx", "tflite")
        for other in ("onnx", "tflite", "coreml")
        if form != other
    ),
    *(
        Case(f"artefact {form} named {suffix}", SEGMENT.format(suffix), ".", renamed(form, suffix))
        for form in ("onnx", "tflite")
        for suffix in (".onnx", ".tflite", ".mlpackage", ".pth", ".bin")
        if SUFFIXES[form] != suffix
    ),
]
