"""Where onnxruntime-web comes from: a folder, ``node_modules``, or the user's cache, which npm fills on request.

Of the package only the files the page loads are kept: the WebAssembly engine, and the one that also drives WebGPU.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError
from solov2_edge.files import output_folder

__all__ = ["INSTALL_LINE", "PACKAGE", "VERSION", "BrowserEngine", "engine_folder", "find_engine", "install_engine"]

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# As the package's publisher states it, in the notation of npm's lock files.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
INSTALL_LINE = "solov2-edge browser --install"
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
CACHE_VARIABLE = "SOLOV2_EDGE_CACHE"
PURPOSE = "running artefacts in a browser"
SECONDS = 900  # for npm, on a slow line


@dataclass(frozen=True, slots=True)
class BrowserEngine:
    """An onnxruntime-web that is there.

    Attributes:
        version: of the package, ``"unknown"`` where nothing beside the files says it.
        files: file name -> where it lies; with the WebGPU files only where all of them are there.
    """

    version: str
    files: dict[str, Path]

    @property
    def has_webgpu(self) -> bool:
        """Whether the page can use WebGPU."""
        return WEBGPU[0] in self.files


def engine_folder() -> Path:
    """Return where :func:`install_engine` puts the engine: below ``SOLOV2_EDGE_CACHE`` if set, or the user's cache."""
    import platformdirs

    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("solov2-edge"))
    return root / f"{PACKAGE}-{VERSION}"


def find_engine(folder: Path | None = None) -> BrowserEngine:
    """Return the engine in ``folder``, or else the first of ``./node_modules`` and the cache that has one.

    Args:
        folder: the package, or its ``dist`` folder.

    Raises:
        InputError: the folder does not hold it.
        MissingDependencyError: it is nowhere.
    """
    if folder is not None:
        found = _engine_in(folder)
        if found is None:
            raise InputError(
                f"{folder} does not hold {PACKAGE}: expected {', '.join(WASM)} there or in its folder dist; "
                f"get it with: {INSTALL_LINE}"
            )
        return found
    for place in (Path.cwd() / "node_modules" / PACKAGE, engine_folder()):
        found = _engine_in(place)
        if found is not None:
            return found
    raise MissingDependencyError(PACKAGE, "", PURPOSE, line=INSTALL_LINE)


def _engine_in(folder: Path) -> BrowserEngine | None:
    for place in (folder / "dist", folder):
        if all((place / name).is_file() for name in WASM):
            names = WASM + (WEBGPU if all((place / name).is_file() for name in WEBGPU) else ())
            return BrowserEngine(_version_beside(place), {name: place / name for name in names})
    return None


def _version_beside(place: Path) -> str:
    for file in (place / "package.json", place.parent / "package.json"):
        try:
            description = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(description, dict) and description.get("name") == PACKAGE:
            return str(description.get("version", "unknown"))
    return "unknown"


def install_engine() -> tuple[Path, bool]:
    """Fetch the pinned package with npm into the cache, unless it is there.

    npm is asked for the package's archive alone, with its own configuration of registry and proxy; nothing in the
    archive is executed, and it is used only if its hash is the pinned one.

    Returns:
        The folder, and whether something was fetched.

    Raises:
        MissingDependencyError: npm is not installed.
        InputError: the archive is not the pinned one.
        SolovEdgeError: npm failed.
    """
    target = engine_folder()
    if _engine_in(target) is not None:
        return target, False
    npm = shutil.which("npm")
    if npm is None:
        line = f"install Node.js, which brings it, or unpack {PACKAGE} {VERSION} and name it with --onnxruntime-web DIR"
        raise MissingDependencyError("npm", "", f"fetching {PACKAGE}", line=line)
    output_folder(target.parent)
    with tempfile.TemporaryDirectory(prefix=".npm-", dir=target.parent) as aside:
        archive = _fetch(npm, Path(aside))
        _check(archive)
        whole = Path(aside) / "whole"
        whole.mkdir()
        _unpack(archive, whole)
        if target.exists():  # files were deleted from it: a folder is only ever put there whole
            shutil.rmtree(target)
        os.replace(whole, target)
    return target, True


def _fetch(npm: str, folder: Path) -> Path:
    """Return the package's archive in ``folder``."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SolovEdgeError(
            f"npm did not fetch {PACKAGE} within {SECONDS} s; check the network and try again"
        ) from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise SolovEdgeError(
            f"npm could not fetch {PACKAGE} {VERSION}: {said[0].strip() if said else f'exit code {done.returncode}'}; "
            f"`npm pack {PACKAGE}@{VERSION}` says more"
        )
    return archives[0]


def _check(archive: Path) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != INTEGRITY:
        raise InputError(
            f"what npm fetched as {PACKAGE} {VERSION} has the hash {found[:24]}..., expected {INTEGRITY[:24]}...; "
            "it was removed: check which registry npm is set to"
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Write the wanted files of npm's archive into ``folder``; names inside the archive never become paths."""
    members = {f"package/dist/{name}": name for name in WASM + WEBGPU} | {"package/package.json": "package.json"}
    with tarfile.open(archive) as packed:
        for member in packed:
            name = members.pop(member.name, None)
            content = packed.extractfile(member) if name is not None else None
            if name is not None and content is not None:
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    if members:
        raise SolovEdgeError(f"{PACKAGE} {VERSION} lacks {', '.join(sorted(members.values()))}; report this please")
