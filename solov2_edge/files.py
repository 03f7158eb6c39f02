"""Writing files so that a killed run leaves no half-written one. Standard library only."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from solov2_edge.errors import InputError

__all__ = ["is_full", "output_folder", "replace_folder", "write_aside"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, or a limit of this process


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


def is_full(error: OSError) -> bool:
    """Return whether an error means that nothing more can be written."""
    return error.errno in FULL


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


def replace_folder(aside: Path, target: Path) -> None:
    """Put the folder ``aside`` in the place of ``target``, which may exist.

    Folders cannot replace one another in one step. The old one is renamed away, the new one renamed in and the old
    one deleted: at every moment there is a whole folder under the name or none, and a failure puts the old one back.
    """
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    had_one = target.is_symlink() or target.exists()
    if had_one:
        os.replace(target, old)
    try:
        os.replace(aside, target)
    except OSError:
        if had_one:
            os.replace(old, target)
        raise
    if had_one:
        _delete(old)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
