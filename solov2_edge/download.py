"""Fetch published checkpoints into a cache: resumable, size-bounded, hash-checked, complete or not there.

A file grows as ``<name>.part`` and is renamed when whole. Publishers without hashes are trusted once: the SHA-256 of
what arrived is kept in ``<name>.sha256`` (``sha256sum -c`` reads it), and a file that changed later is noticed.
Standard library, plus platformdirs for the cache's place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.errors import InputError
from solov2_edge.files import output_folder, write_aside
from solov2_edge.manifest import sha256_of
from solov2_edge.transfer import Progress, discard, read_note, require_allowed, tag_path, transfer
from solov2_edge.zoo import BUNDLED, Published, bundled_path

__all__ = ["Downloaded", "cache_folder", "download", "fetch"]

CACHE_VARIABLE = "SOLOV2_EDGE_CACHE"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is there and whole.

    Attributes:
        path: where.
        sha256: of the file.
        from_cache: it was there already; nothing was fetched.
        hash_published: its publisher states (the beginning of) its hash, and it agrees.
    """

    path: Path
    sha256: str
    from_cache: bool
    hash_published: bool


def cache_folder() -> Path:
    """Return the folder downloads go to: ``SOLOV2_EDGE_CACHE`` if set, else the user's cache folder."""
    import platformdirs

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("solov2-edge")) / "checkpoints"


def download(
    entry: Published,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    attempts: int = 3,
) -> Downloaded:
    """Return a published checkpoint, fetching it unless it is there.

    Args:
        entry: what to fetch (``zoo.published``); the bundled one needs no network.
        folder: where to; default: a folder per source in the cache, since publishers share file names.
        progress: called with (bytes so far, total or None).
        attempts: connections to try while a download keeps growing.

    Raises:
        InputError: the file's hash is not the published one, or not that of its first download.
        SolovEdgeError: the server or the network failed; what arrived is kept for the next try.
    """
    if entry.name == BUNDLED.name:
        path = bundled_path()
        return Downloaded(path, sha256_of(path), from_cache=True, hash_published=False)
    default = cache_folder() / entry.source.replace("/", "-")
    target = output_folder(default if folder is None else folder) / entry.file_name
    return fetch(entry.url, target, sha256_prefix=entry.sha256_prefix, progress=progress, attempts=attempts)


def fetch(
    url: str,
    target: Path,
    *,
    sha256_prefix: str | None = None,
    progress: Progress | None = None,
    attempts: int = 3,
    timeout: float = 30.0,
) -> Downloaded:
    """Fetch ``url`` into ``target``; the arguments and errors are those of :func:`download`.

    Args:
        url: https; plain http only on this machine itself.
        target: the file to write; a whole one that is there is checked, not fetched.
        sha256_prefix: first hex digits of the SHA-256, if published.
        progress: called with (bytes so far, total or None).
        attempts: connections to try while the download keeps growing.
        timeout: seconds without an answer after which a connection counts as dead.
    """
    require_allowed(url, "")
    known = _sidecar(target)
    if target.exists():
        digest = _checked(target, sha256_prefix, read_note(known).split()[:1])
        _remember(target, digest)
        return Downloaded(target, digest, from_cache=True, hash_published=sha256_prefix is not None)
    part = target.with_name(target.name + ".part")
    transfer(url, part, progress, attempts, timeout)
    digest = sha256_of(part)
    if sha256_prefix is not None and not digest.startswith(sha256_prefix):
        discard(part)
        raise InputError(
            f"what {url} sent has SHA-256 {digest[:16]}..., expected {sha256_prefix}...; it was removed: try again, "
            "and if it stays different do not use it"
        )
    os.replace(part, target)
    tag_path(part).unlink(missing_ok=True)
    _remember(target, digest)
    return Downloaded(target, digest, from_cache=False, hash_published=sha256_prefix is not None)


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _remember(target: Path, digest: str) -> None:
    write_aside(_sidecar(target), f"{digest}  {target.name}\n")


def _checked(target: Path, prefix: str | None, known: list[str]) -> str:
    """Return the hash of a file that is there, refusing one that changed."""
    digest = sha256_of(target)
    if prefix is not None and not digest.startswith(prefix):
        raise InputError(f"{target} has SHA-256 {digest[:16]}..., expected {prefix}...; delete it and download again")
    if known and known[0] != digest:
        raise InputError(
            f"{target} has SHA-256 {digest[:16]}..., but had {known[0][:16]}... when it was downloaded; it changed or "
            f"is damaged: delete it and {_sidecar(target).name}, and download again"
        )
    return digest
