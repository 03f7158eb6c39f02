"""Where onnxruntime-web is found, and how it gets there: npm is played by a script that makes a small archive."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from solov2_edge.demos import browser_engine
from solov2_edge.demos.browser_engine import WASM, WEBGPU, engine_folder, find_engine, install_engine
from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a cache of the test's own."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("SOLOV2_EDGE_CACHE", str(tmp_path / "cache"))
    return work


def put(folder: Path, names: tuple[str, ...], version: str | None = None) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    if version is not None:
        description = {"name": "onnxruntime-web", "version": version}
        where = folder.parent if folder.name == "dist" else folder
        (where / "package.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def test_nowhere_names_the_line_that_fetches_it() -> None:
    with pytest.raises(
        MissingDependencyError, match=r"needs onnxruntime-web.*: solov2-edge browser --install"
    ) as error:
        find_engine()
    assert error.value.exit_code == 4


def test_the_working_folder_comes_before_the_cache(elsewhere: Path) -> None:
    put(engine_folder(), WASM + WEBGPU, "1.30.0")
    found = find_engine()
    assert (found.version, found.has_webgpu, len(found.files)) == ("1.30.0", True, 6)
    put(elsewhere / "node_modules" / "onnxruntime-web" / "dist", WASM, "1.29.0")
    found = find_engine()
    assert (found.version, found.has_webgpu, len(found.files)) == ("1.29.0", False, 3)


@pytest.mark.parametrize("inner", ["dist", "."])
def test_a_folder_that_is_named(tmp_path: Path, inner: str) -> None:
    put(tmp_path / "mine" / inner, WASM)
    found = find_engine(tmp_path / "mine")
    assert found.version == "unknown"
    assert found.files["ort.wasm.min.mjs"].read_text(encoding="utf-8") == "ort.wasm.min.mjs"


def test_a_folder_without_it_is_refused_whatever_the_cache_holds(tmp_path: Path) -> None:
    put(engine_folder(), WASM)
    put(tmp_path / "half", WASM[:2])
    with pytest.raises(InputError, match=r"half does not hold onnxruntime-web"):
        find_engine(tmp_path / "half")


def archive(extra: dict[str, str], left_out: str = "") -> bytes:
    names = [f"package/dist/{name}" for name in WASM + WEBGPU] + ["package/package.json"]
    content = {name: '{"name": "onnxruntime-web", "version": "1.30.0"}' for name in names if left_out not in (name,)}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name, text in {**content, **extra}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


Npm = Callable[..., Path]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Npm:
    """Stand in for npm: a script on the PATH that leaves an archive, and the pinned hash that belongs to it."""

    def stand_in(data: bytes, *, exit_code: int = 0, says: str = "", honest: bool = True) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "data").write_bytes(data)
        asked = folder / "asked"
        lines = ["#!/bin/sh", f'echo "$@" >> "{asked}"', f'echo "{says}" >&2', f'cp "{folder}/data" ./package.tgz']
        script = folder / "npm"
        script.write_text("\n".join([*lines, f"exit {exit_code}", ""]), encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        if honest:
            digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
            monkeypatch.setattr(browser_engine, "INTEGRITY", f"sha512-{digest}")
        return asked

    return stand_in


def test_npm_fills_the_cache_once(npm: Npm) -> None:
    asked = npm(archive({"package/../../../evil": "evil", "package/dist/other.mjs": "other"}))
    folder, fetched = install_engine()
    assert fetched
    assert {path.name for path in folder.iterdir()} == {*WASM, *WEBGPU, "package.json"}
    assert find_engine().version == "1.30.0"
    assert install_engine() == (folder, False)
    assert asked.read_text(encoding="utf-8").splitlines() == ["pack onnxruntime-web@1.30.0 --ignore-scripts --silent"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing left beside it


def test_a_cache_that_lost_a_file_is_filled_again(npm: Npm) -> None:
    npm(archive({}))
    folder, _ = install_engine()
    (folder / WASM[2]).unlink()
    assert install_engine() == (folder, True)
    assert find_engine().has_webgpu


def test_an_archive_of_another_hash_is_refused(npm: Npm) -> None:
    npm(archive({}), honest=False)
    with pytest.raises(InputError, match=r"has the hash sha512-.*, expected sha512-q0y.*registry"):
        install_engine()
    assert not engine_folder().exists()


def test_an_archive_that_lacks_a_file_is_refused(npm: Npm) -> None:
    npm(archive({}, left_out=f"package/dist/{WASM[2]}"))
    with pytest.raises(SolovEdgeError, match=rf"lacks {WASM[2]}"):
        install_engine()
    assert not engine_folder().exists()


def test_npm_failing_is_said_in_its_words(npm: Npm) -> None:
    npm(b"", exit_code=1, says="npm error network no route")
    with pytest.raises(SolovEdgeError, match="npm error network no route"):
        install_engine()
    assert not engine_folder().exists()


def test_without_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"needs npm.*Node\.js.*--onnxruntime-web DIR"):
        install_engine()
