"""A manifest into a .tflite file's own metadata, with every byte that was there before kept as it is.

Unpacking and packing the model again would do too, but moves every weight and every alignment, and what the schema at
hand does not know is lost. Instead a block is inserted behind the file's first eight bytes: a new root table, the
lists of metadata and buffers with one entry more, and the content. FlatBuffers refer forward by relative distance, so
everything behind the block stays true.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import METADATA_KEY
from solov2_edge.runtime.flatbuffer import FlatBuffer
from solov2_edge.runtime.tflite_file import (
    BUFFER_DATA,
    BUFFER_OFFSET,
    IDENTIFIER,
    METADATA_BUFFER,
    METADATA_NAME,
    MODEL_BUFFERS,
    MODEL_METADATA,
    read_metadata,
)

__all__ = ["embed_manifest", "embed_metadata"]

HEADER = 8  # bytes: distance to the root table, identifier
KEEP_ALIGNED = 64  # bytes; the block's length is a multiple, so that what follows keeps its alignment
CONTENT_ALIGNED = 16  # bytes, as schema.fbs asks for Buffer.data
LARGEST = 2**31 - 1  # bytes of a FlatBuffer
MODEL_FIELDS = 10  # that schema.fbs gives Model: a version, then nine references
MODEL_SUBGRAPHS, SUBGRAPH_OPERATORS, OPERATOR_FAR_OPTIONS = 2, 3, 9


def embed_manifest(flatbuffer: bytes, manifest_json: str) -> bytes:
    """Return the model with a manifest in its metadata, in place of one it may have had.

    Args:
        flatbuffer: a .tflite file's content.
        manifest_json: :meth:`Manifest.to_json` of the embedded form.

    Raises:
        InputError: not a TFLite model, a damaged one, or one that would grow beyond 2 GB.
    """
    return embed_metadata(flatbuffer, METADATA_KEY, manifest_json.encode())


def embed_metadata(flatbuffer: bytes, name: str, content: bytes) -> bytes:
    """Return the model with one metadata entry added or replaced; see :func:`embed_manifest`."""
    model = FlatBuffer(flatbuffer, IDENTIFIER)
    read_metadata(flatbuffer)  # refuses metadata that is damaged
    _refuse_far_content(model)
    fields = model.field_count(model.root())
    known = all(model.field(model.root(), number) is None for number in range(MODEL_FIELDS, fields))
    require(known, "the TFLite model has fields of a later schema; update solov2-edge before converting")
    length = len(_head(model, name, content, LARGEST))  # which does not depend on the distance
    shift = -(-(length - HEADER) // KEEP_ALIGNED) * KEEP_ALIGNED
    require(
        len(flatbuffer) + shift <= LARGEST,
        f"the TFLite model would have {len(flatbuffer) + shift} bytes, at most {LARGEST} fit; choose a smaller variant",
    )
    head = _head(model, name, content, shift)
    return b"".join((head, bytes(HEADER + shift - length), flatbuffer[HEADER:]))


def _refuse_far_content(model: FlatBuffer) -> None:
    """Refuse content behind the FlatBuffer, which is found by its distance from the file's start."""
    root = model.root()
    far = any(model.scalar(model.follow(at), BUFFER_OFFSET, "Q") > 1 for at in model.tables(root, MODEL_BUFFERS))
    for subgraph in model.tables(root, MODEL_SUBGRAPHS):
        operators = model.tables(model.follow(subgraph), SUBGRAPH_OPERATORS)
        far = far or any(model.scalar(model.follow(at), OPERATOR_FAR_OPTIONS, "Q") > 1 for at in operators)
    if far:
        raise InputError(
            "the TFLite model keeps content outside its FlatBuffer, as files above 2 GB do; choose a smaller variant"
        )


def _head(model: FlatBuffer, name: str, content: bytes, shift: int) -> bytes:
    """Return the new header with the block behind it.

    Args:
        model: the model as it is.
        name: the entry's name.
        content: the entry's content.
        shift: how many bytes further everything behind the old header will lie.
    """
    root = model.root()
    buffers = [model.follow(at) for at in model.tables(root, MODEL_BUFFERS)]
    entries = [model.follow(at) for at in model.tables(root, MODEL_METADATA)]
    entries = [at for at in entries if model.text(at, METADATA_NAME) != name]
    kept = {
        number: model.follow(at)
        for number in range(1, MODEL_FIELDS)
        if number not in (MODEL_BUFFERS, MODEL_METADATA) and (at := model.field(root, number)) is not None
    }
    out = _Writer()
    fields = out.table(0, {0: model.scalar(root, 0, "I"), MODEL_BUFFERS: 0, MODEL_METADATA: 0} | dict.fromkeys(kept, 0))
    for number, target in kept.items():
        out.point(fields[number], target + shift)
    new_buffer = out.list(fields[MODEL_BUFFERS], [target + shift for target in buffers])
    new_entry = out.list(fields[MODEL_METADATA], [target + shift for target in entries])
    slots = out.table(new_entry, {METADATA_NAME: 0, METADATA_BUFFER: len(buffers)})
    out.bytes(slots[METADATA_NAME], name.encode())
    out.data += b"\0"  # which ends a string
    slots = out.table(new_buffer, {BUFFER_DATA: 0})
    out.bytes(slots[BUFFER_DATA], content)
    return bytes(out.data)


class _Writer:
    """A FlatBuffer written front to back: each piece is given the position of the reference that leads to it."""

    def __init__(self) -> None:
        self.data = bytearray(bytes(4) + IDENTIFIER)

    def point(self, reference: int, target: int) -> None:
        """Let the reference at a position lead to ``target``."""
        struct.pack_into("<I", self.data, reference, target - reference)

    def table(self, reference: int, fields: dict[int, int]) -> dict[int, int]:
        """Write a table of 4-byte fields, number -> value; return number -> position."""
        vtable = [0] * (max(fields) + 1)
        for place, number in enumerate(sorted(fields)):
            vtable[number] = 4 + 4 * place
        sizes = (4 + 2 * len(vtable), 4 + 4 * len(fields))
        self._align(4)
        vtable_at = len(self.data)
        self.data += struct.pack(f"<{2 + len(vtable)}H", *sizes, *vtable)
        self._align(4)
        at = len(self.data)
        self.point(reference, at)
        self.data += struct.pack(f"<i{len(fields)}I", at - vtable_at, *(fields[number] for number in sorted(fields)))
        return {number: at + vtable[number] for number in fields}

    def list(self, reference: int, targets: Sequence[int]) -> int:
        """Write a vector of references with room for one more; return the position of that one."""
        self._align(4)
        self.point(reference, len(self.data))
        self.data += struct.pack("<I", len(targets) + 1)
        for target in (*targets, 0):
            self.data += struct.pack("<I", target and target - len(self.data))
        return len(self.data) - 4

    def bytes(self, reference: int, content: bytes) -> None:
        """Write a byte vector whose content is aligned as buffers must be."""
        self._align(CONTENT_ALIGNED, ahead=4)
        self.point(reference, len(self.data))
        self.data += struct.pack("<I", len(content)) + content

    def _align(self, to: int, ahead: int = 0) -> None:
        self.data += bytes(-(len(self.data) + ahead) % to)
