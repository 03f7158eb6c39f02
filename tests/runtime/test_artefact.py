from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest, manifest_path, sha256_of, size_of
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact


@pytest.fixture
def artefact(tmp_path: Path, tiny_manifest: Manifest) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"the artefact")
    manifest_path(path).write_text(replace(tiny_manifest, sha256=sha256_of(path), size_bytes=12).to_json())
    return path


def test_a_sidecar_is_read_and_agrees_with_the_embedded_copy(artefact: Path) -> None:
    sidecar = read_sidecar(artefact)
    assert sidecar is not None
    assert sidecar.sha256 == sha256_of(artefact)
    assert agreed_manifest(artefact, sidecar, sidecar.embedded().to_json()) == sidecar
    assert agreed_manifest(artefact, sidecar, None) == sidecar


def test_the_embedded_copy_alone_gets_the_files_hash_and_size(artefact: Path, tiny_manifest: Manifest) -> None:
    manifest_path(artefact).unlink()
    assert read_sidecar(artefact) is None
    manifest = agreed_manifest(artefact, None, tiny_manifest.to_json())
    assert manifest == replace(tiny_manifest, sha256=sha256_of(artefact), size_bytes=12)


def test_an_artefact_that_changed_after_its_sidecar_is_refused(artefact: Path) -> None:
    expected = sha256_of(artefact)
    artefact.write_bytes(b"the artefact, changed")
    with pytest.raises(InputError, match="copy both again") as caught:
        read_sidecar(artefact)
    assert expected in str(caught.value)
    assert sha256_of(artefact) in str(caught.value)


def test_a_sidecar_without_a_hash_is_refused(artefact: Path, edit_sidecar: Callable[..., None]) -> None:
    edit_sidecar(artefact, sha256="")
    with pytest.raises(InputError, match="a file without a hash"):
        read_sidecar(artefact)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "JSON object"), ('{"schema_version": 99}', "schema version 99"), ("", "not JSON")],
)
def test_an_unreadable_manifest_is_named(artefact: Path, text: str, message: str) -> None:
    manifest_path(artefact).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_sidecar(artefact)
    assert "tiny.onnx.json" in str(caught.value)
    with pytest.raises(InputError, match=message) as caught:
        agreed_manifest(artefact, None, text)
    assert "tiny.onnx: " in str(caught.value)


def test_a_sidecar_that_is_a_folder_is_refused(artefact: Path) -> None:
    manifest_path(artefact).unlink()
    manifest_path(artefact).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_sidecar(artefact)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"precision": "fp16"}, "precision"),
        ({"weights_licence": "mine", "tools": {"torch": "9"}}, "tools, weights_licence"),
    ],
)
def test_two_manifests_that_differ_are_refused(artefact: Path, changes: dict[str, Any], named: str) -> None:
    sidecar = read_sidecar(artefact)
    assert sidecar is not None
    inside = json.loads(sidecar.embedded().to_json()) | changes
    with pytest.raises(InputError, match=f"differ in {named};"):
        agreed_manifest(artefact, sidecar, json.dumps(inside))


def test_no_manifest_at_all_says_how_to_get_one(artefact: Path) -> None:
    with pytest.raises(InputError, match=r"neither inside nor in tiny\.onnx\.json beside it; make the artefact with"):
        agreed_manifest(artefact, None, None)


def test_artefacts_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    for name, message in (("missing.onnx", "does not exist"), ("", "is not a file"), ("empty.onnx", "is empty")):
        with pytest.raises(InputError, match=message):
            require_artefact(tmp_path / name)


def test_a_package_is_hashed_and_measured_as_a_whole(tmp_path: Path) -> None:
    package = tmp_path / "net.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_bytes(b"weights")
    (package / "Data.json").write_bytes(b"{}")  # "." sorts before "/"
    names = ("Data.json", "Data/weight.bin")
    lines = "".join(f"{hashlib.sha256((package / n).read_bytes()).hexdigest()}  ./{n}\n" for n in names)
    assert sha256_of(package) == hashlib.sha256(lines.encode()).hexdigest()
    assert size_of(package) == 9
    assert require_artefact(package) == package
    before = sha256_of(package)
    (package / "Data" / "weight.bin").rename(package / "Data" / "weights.bin")
    assert sha256_of(package) != before


def test_a_package_is_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "file.mlpackage").write_bytes(b"x")
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(InputError, match="is not a folder"):
        require_artefact(tmp_path / "file.mlpackage")
    with pytest.raises(InputError, match="is empty"):
        require_artefact(tmp_path / "empty.mlpackage")
