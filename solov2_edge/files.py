"""Writing files so that a killed run leaves no half-written one. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from solov2_edge.errors import InputError

__all__ = ["output_folder", "write_aside"]


def write_aside(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write ``data`` beside ``path`` and rename it into place; text is UTF-8.

    Raises:
        OSError: the disk is full or the folder cannot be written; ``path`` is then as it was.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as an existing folder, made if need be.

    Raises:
        InputError: something that is not a folder stands there.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"the output {folder} must be a folder, but a file stands in its way; name another") from error
    return folder
