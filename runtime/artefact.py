"""Finding an artefact's manifest, beside it or inside it, and checking that the two belong together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import Manifest, manifest_path, sha256_of, size_of

__all__ = ["agreed_manifest", "read_sidecar", "require_artefact"]

FOLDERS = {".mlpackage": "Core ML packages", ".ncnn": "ncnn artefacts"}  # the others are files


def require_artefact(path: str | os.PathLike[str]) -> Path:
    """Return the path of an artefact that is a non-empty file, or a folder if it is a Core ML package or for ncnn.

    Raises:
        InputError: it is missing, the wrong one of file and folder, or empty.
    """
    file = Path(path)
    require(file.exists(), f"{path} does not exist; expected an artefact made by solov2-edge convert")
    if file.suffix.lower() in FOLDERS:
        kind = FOLDERS[file.suffix.lower()]
        require(file.is_dir(), f"{path} is not a folder, as {kind} are; copy the whole folder again")
        require(size_of(file) > 0, f"{path} is empty; convert the checkpoint again or copy it again")
        return file
    require(file.is_file(), f"{path} is not a file; expected an artefact made by solov2-edge convert")
    require(file.stat().st_size > 0, f"{path} is empty; convert the checkpoint again or copy it again")
    return file


def read_sidecar(path: str | os.PathLike[str]) -> Manifest | None:
    """Read ``<artefact>.json`` and check that it was written for this very file.

    Args:
        path: the artefact.

    Returns:
        The manifest, or None where no such file lies beside the artefact.

    Raises:
        InputError: the manifest cannot be read, or its SHA-256 is not the artefact's.
    """
    sidecar = manifest_path(path)
    if not sidecar.exists():
        return None
    try:
        manifest = Manifest.from_json(sidecar.read_bytes())
    except InputError as error:
        raise InputError(f"{sidecar}: {error}") from error
    except OSError as error:
        raise InputError(f"{sidecar} cannot be read ({error.strerror}); copy it again") from error
    digest = sha256_of(path)
    require(
        manifest.sha256 == digest,
        f"{path} has SHA-256 {digest}, but {sidecar.name} beside it was written for "
        f"{manifest.sha256 or 'a file without a hash'}; copy both again, or convert the checkpoint again",
    )
    return manifest


def agreed_manifest(path: str | os.PathLike[str], sidecar: Manifest | None, embedded: str | None) -> Manifest:
    """Return the one manifest of an artefact, from what lies beside it and what stands inside it.

    Args:
        path: the artefact.
        sidecar: what :func:`read_sidecar` returned.
        embedded: the JSON text inside the artefact, or None.

    Returns:
        The manifest with the artefact's own SHA-256 and size.

    Raises:
        InputError: there is no manifest, the embedded one cannot be read, or the two differ.
    """
    if embedded is None:
        if sidecar is None:
            raise InputError(
                f"{path} has no manifest, neither inside nor in {manifest_path(path).name} beside it; "
                "make the artefact with solov2-edge convert"
            )
        return sidecar
    try:
        inside = Manifest.from_json(embedded)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if sidecar is None:
        return replace(inside, sha256=sha256_of(path), size_bytes=size_of(path))
    differing = [
        name
        for name in Manifest.__dataclass_fields__
        if name not in ("sha256", "size_bytes") and getattr(sidecar, name) != getattr(inside, name)
    ]
    require(
        not differing,
        f"{manifest_path(path).name} and the manifest inside {path} differ in {', '.join(differing)}; "
        "delete the one beside it, or convert the checkpoint again",
    )
    return sidecar
