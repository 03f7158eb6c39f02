"""Constants of an ML Program: from the protobuf's ``Value`` messages, or from the weight file they point to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from solov2_edge.converters.mil_blob import BlobFile, decode
from solov2_edge.converters.mil_types import KINDS, TensorType, Value, read_type
from solov2_edge.errors import InputError, require

__all__ = ["ValueReader"]

MODEL_PATH = "@model_path/"  # how blob file names start: the folder of the specification
FIELDS = {"bool": "bools", "fp32": "floats", "int32": "ints", "int16": "ints", "uint16": "ints"}  # the rest are bytes


class ValueReader:
    """Reads constants; weight files are opened once.

    Args:
        folder: where the specification lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BlobFile] = {}

    def read(self, message: Any, what: str) -> Value:
        """Return the value of a ``Value`` message.

        Args:
            message: the message.
            what: name of the constant, for messages.

        Raises:
            InputError: a type that is not supported, or too many or too few numbers.
        """
        declared = read_type(message.type, f"constant {what!r}")
        stored = message.WhichOneof("value")
        if stored == "blobFileValue":
            return self._file(message.blobFileValue.fileName, what).read(message.blobFileValue.offset, declared, what)
        require(
            stored == "immediateValue" and message.immediateValue.WhichOneof("value") == "tensor",
            f"constant {what!r} holds neither a tensor nor a place in the weight file; convert the checkpoint again",
        )
        return _immediate(message.immediateValue.tensor, declared, what)

    def _file(self, name: str, what: str) -> BlobFile:
        if name not in self._files:
            relative = Path(name.removeprefix(MODEL_PATH))
            inside = name.startswith(MODEL_PATH) and ".." not in relative.parts and not relative.is_absolute()
            require(inside, f"constant {what!r} lies in {name!r}, outside the package; convert the checkpoint again")
            self._files[name] = BlobFile(self._folder / relative)
        return self._files[name]


def _immediate(tensor: Any, declared: TensorType, what: str) -> Value:
    field = tensor.WhichOneof("value")
    expected = "strings" if declared.kind == "string" else FIELDS.get(declared.kind, "bytes")
    require(field == expected, f"constant {what!r} is declared {declared} but stored as {field}; convert again")
    numbers = getattr(tensor, expected).values
    if expected == "strings":
        require(declared.shape in ((), (1,)) and len(numbers) == 1, f"constant {what!r} is not one text; convert again")
        return Value(str(numbers[0]), "string")
    if expected == "bytes":
        need = -(-declared.elements * KINDS[declared.kind].bits // 8)
        require(len(numbers) == need, f"constant {what!r} is declared {declared}, {need} bytes, got {len(numbers)}")
        return decode(np.frombuffer(numbers, np.uint8), declared)
    require(
        len(numbers) == declared.elements,
        f"constant {what!r} is declared {declared}, but holds {len(numbers)} numbers; convert the checkpoint again",
    )
    try:
        held = torch.tensor(list(numbers), dtype=KINDS[declared.kind].held)
    except (RuntimeError, OverflowError) as error:
        raise InputError(f"constant {what!r} holds numbers outside {declared.kind}; convert again") from error
    return Value(held.reshape(declared.shape), declared.kind)
