"""One row of the table of bad inputs, and the good inputs that the bad ones are made from."""

from __future__ import annotations

import io
import json
import re
import shlex
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

__all__ = ["Case", "Kit", "encoded", "many", "nothing", "png_claiming", "torch_file", "well", "write"]

Make = Callable[[Path, "Kit"], None]
Right = Callable[[Path], None]


@dataclass(frozen=True)
class Kit:
    """Good inputs, made once; read, never written.

    Attributes:
        state: mmdetection-3 names and the tensors of a network of a few hundred kilobytes.
        checkpoint: it, as ``torch.save`` writes it.
        onnx, tflite, coreml: artefacts of another tiny network, each with its manifest beside it.
        picture: a PNG of 64 x 96 pixels (H, W).
        pictures: the folder of that one picture.
        annotations: COCO instances of it.
    """

    state: Mapping[str, Any]
    checkpoint: Path
    onnx: Path
    tflite: Path
    coreml: Path
    picture: Path
    pictures: Path
    annotations: Path

    def coco(self) -> dict[str, Any]:
        """Return the annotations, for a case to spoil."""
        data: dict[str, Any] = json.loads(self.annotations.read_text())
        return data


def nothing(folder: Path, kit: Kit) -> None:
    """A case whose words alone are bad."""


def well(out: Path) -> None:
    """A result whose whole promise is that the verb ended with 0."""


@dataclass(frozen=True)
class Case:
    """A bad input and how its run has to end.

    Attributes:
        name: what is bad, unique in the table; it begins with its group.
        argv: the verb and its words; ``{case}`` is the case's folder, ``{out}`` a place in it where nothing stands
            yet, and the other names those of :class:`Kit`.
        says: regular expression that the sentence has to match.
        make: writes the bad input into the case's folder.
        code: what the verb exits with.
        right: judges the result under ``{out}`` where the input is odd, not bad, so that the code is 0.
    """

    name: str
    argv: str
    says: str = ""
    make: Make = nothing
    code: int = 2
    right: Right | None = None

    def words(self, kit: Kit) -> list[str]:
        """Return the words of the command line; ``{case}`` and ``{out}`` are left for the test to fill in."""
        places = {name: str(getattr(kit, name)) for name in Kit.__dataclass_fields__ if name != "state"}
        return [re.sub(r"\{(\w+)\}", lambda m: places.get(m[1], m[0]), word) for word in shlex.split(self.argv)]


def write(name: str, data: bytes | str) -> Make:
    """Return a maker that writes one file."""

    def make(folder: Path, kit: Kit) -> None:
        content = data.encode() if isinstance(data, str) else data
        (folder / name).write_bytes(content)

    return make


def many(group: str, argv: str, name: str, files: Mapping[str, tuple[bytes | str, str]]) -> list[Case]:
    """Return a case per entry of ``files``: its name -> (content, what the sentence matches)."""
    return [Case(f"{group} {label}", argv, says, write(name, data)) for label, (data, says) in files.items()]


def png_claiming(height: int, width: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that declares a size and holds no such pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(suffix: str, picture: np.ndarray[Any, Any], *options: int) -> bytes:
    """Return a picture as a file of that kind."""
    good, data = cv2.imencode(suffix, picture, options)
    assert good
    return bytes(data)


def torch_file(value: Any) -> bytes:
    """Return what ``torch.save`` writes."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
