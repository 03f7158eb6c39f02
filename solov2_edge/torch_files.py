"""Open what ``torch.save`` writes, zip (since 1.6) and legacy (before), and plain pickles.

The zip holds ``<prefix>/data.pkl`` and one uncompressed record per storage; the legacy file is five pickles (magic
number, protocol, system, object, storage keys) followed by each storage as int64 length and raw bytes.
"""

from __future__ import annotations

import io
import mmap
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from solov2_edge.errors import InputError
from solov2_edge.stored import PickledFile, element_size
from solov2_edge.unpickle import Global, Opaque, Persistent, read_pickle

__all__ = ["open_pickled"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER


@contextmanager
def open_pickled(path: str | os.PathLike[str], kind: str) -> Iterator[PickledFile]:
    """Open a checkpoint of kind ``"torch-zip"`` or ``"pickle"`` (see ``file_kind``) while the context lasts.

    Raises:
        InputError: truncated, damaged, or of a form that is not read here.
    """
    path = Path(path)
    size = path.stat().st_size
    if kind == "torch-zip":
        with zipfile.ZipFile(path) as archive:
            yield _open_zip(archive, size)
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield _open_stream(view, size)


def _open_zip(archive: zipfile.ZipFile, size: int) -> PickledFile:
    infos = {info.filename: info for info in archive.infolist()}
    name = next(name for name in infos if name.rpartition("/")[2] == "data.pkl")
    prefix = name.removesuffix("data.pkl")

    def read(entry: str) -> bytes:
        info = infos.get(entry)
        if info is None:
            raise InputError(f"the record {entry} is missing; the file is damaged")
        # torch.save never compresses; refusing it keeps every record as small as the file.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
            raise InputError(f"the record {entry} is compressed or larger than the file; re-save it with torch.save")
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
            raise InputError(f"the record {entry} is damaged ({error}); copy or download the file again") from error

    if f"{prefix}byteorder" in infos and read(f"{prefix}byteorder").strip() == b"big":
        raise InputError("it was saved on a big-endian machine; re-save it on a little-endian one")
    return PickledFile(read_pickle(io.BytesIO(read(name))), size, lambda key, _: read(f"{prefix}data/{key}"))


def _open_stream(view: mmap.mmap, size: int) -> PickledFile:
    stream = cast(IO[bytes], view)
    first = read_pickle(stream)
    if first != _LEGACY_MAGIC:
        return PickledFile(first, size, _no_storage)
    for _ in ("protocol", "system"):
        read_pickle(stream)
    root = read_pickle(stream)
    keys = read_pickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise InputError("the list of storages in it is damaged; copy or download the file again")
    start = view.tell()
    places: dict[str, int] = {}

    def read(key: str, nbytes: int) -> bytes:
        if not places:
            places.update(_places(view, keys, start, _itemsizes(root)))
        if key not in places:
            raise InputError(f"the storage {key} is missing; the file is truncated or damaged")
        return view[places[key] : places[key] + nbytes]

    return PickledFile(root, size, read)


def _no_storage(key: str, nbytes: int) -> bytes:
    raise InputError(f"the storage {key} of {nbytes} bytes is not in it; it is no file that torch.save wrote")


def _itemsizes(root: Any) -> dict[str, int]:
    """Return bytes per element of every storage ``root`` refers to; each object is visited once."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    pending = [root]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, Opaque):
            pending += [value.args, value.state, value.items, value.entries]
        elif isinstance(value, Persistent) and isinstance(value.identity, tuple) and len(value.identity) >= 5:
            storage_type, key = value.identity[1:3]
            if isinstance(storage_type, Global) and isinstance(key, str):
                sizes[key] = element_size(storage_type.name.rpartition(".")[2])
    return sizes


def _places(view: mmap.mmap, keys: list[str], start: int, itemsizes: dict[str, int]) -> dict[str, int]:
    """Return where in the file each storage's bytes begin."""
    places: dict[str, int] = {}
    position = start
    for key in keys:
        count = int.from_bytes(view[position : position + 8], "little", signed=True)
        nbytes = count * itemsizes.get(key, 1)
        if count < 0 or position + 8 + nbytes > len(view):
            raise InputError(
                f"the storage {key} should have {nbytes} bytes, beyond the file's end at {len(view)}; "
                "the file is truncated: download or copy it again"
            )
        places[key] = position + 8
        position += 8 + nbytes
    return places
