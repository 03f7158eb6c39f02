"""The metadata inside a .tflite file, read without any toolchain: a list of (name, buffer) in the FlatBuffer's root.

Field numbers are those of LiteRT's ``schema.fbs`` (``tflite/converter/schema``), in the order of declaration.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY
from solov2_edge.runtime.flatbuffer import FlatBuffer

__all__ = ["IDENTIFIER", "buffer_extent", "read_manifest_text", "read_metadata"]

IDENTIFIER = b"TFL3"
MODEL_BUFFERS, MODEL_METADATA = 4, 6
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA, BUFFER_OFFSET, BUFFER_SIZE = 0, 1, 2
MAX_ENTRIES = 1024  # of metadata; real files have one to five


def read_metadata(data: bytes | bytearray | mmap.mmap) -> dict[str, bytes]:
    """Return the metadata of a TFLite model: name -> content.

    Args:
        data: the whole file.

    Raises:
        InputError: not a TFLite model, or a damaged one. However it is damaged, this takes less memory than the file
            has bytes and time in proportion to :data:`MAX_ENTRIES`.
    """
    extents = _extents(FlatBuffer(data, IDENTIFIER))
    total = sum(count for _, count in extents.values())
    if total > len(data):
        raise InputError(f"its metadata claims {total} bytes of a file of {len(data)}; convert the checkpoint again")
    return {name: bytes(data[first : first + count]) for name, (first, count) in extents.items()}


def read_manifest_text(path: str | os.PathLike[str]) -> str | None:
    """Return the manifest's JSON text inside a .tflite file, None where it has none; weights are not read.

    Raises:
        InputError: the file cannot be read, is not a TFLite model, or is damaged.
    """
    try:
        with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            extent = _extents(FlatBuffer(data, IDENTIFIER)).get(METADATA_KEY)
            return None if extent is None else data[extent[0] : sum(extent)].decode()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the manifest inside is not text; convert the checkpoint again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # mmap's word for an empty file
        raise InputError(f"{path} is empty; copy it again, or convert the checkpoint again") from error


def buffer_extent(model: FlatBuffer, buffer: int) -> tuple[int, int]:
    """Return (first byte, number of bytes) of a Buffer table's content.

    Files above 2 GB keep content behind the FlatBuffer, at an offset from the file's start; 0 and 1 mean inside.

    Raises:
        InputError: the content lies outside the file.
    """
    offset = model.scalar(buffer, BUFFER_OFFSET, "Q")
    if offset <= 1:
        return model.vector(buffer, BUFFER_DATA, 1)
    count = model.scalar(buffer, BUFFER_SIZE, "Q")
    if offset + count > model.size:
        raise InputError(
            f"a buffer should lie at bytes {offset} to {offset + count} of {model.size}: the file is truncated; copy "
            "it again"
        )
    return offset, count


def _extents(model: FlatBuffer) -> dict[str, tuple[int, int]]:
    """Return name -> (first byte, number of bytes) of every metadata entry."""
    root = model.root()
    entries, buffers = model.tables(root, MODEL_METADATA), model.tables(root, MODEL_BUFFERS)
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"it has {len(entries)} metadata entries, at most {MAX_ENTRIES} are read; convert again")
    found = {}
    for at in entries:
        entry = model.follow(at)
        index = model.scalar(entry, METADATA_BUFFER, "I")
        if index >= len(buffers):
            raise InputError(
                f"a metadata entry names buffer {index} of {len(buffers)}: the file is damaged; copy it again"
            )
        found[model.text(entry, METADATA_NAME)] = buffer_extent(model, model.follow(buffers[index]))
    return found
