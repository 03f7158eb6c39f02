"""Finding the program in an .mlpackage folder, and the refusal of folders that hold none."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from solov2_edge.converters import mil_package
from solov2_edge.converters.mil_package import MANIFEST, coremltools_version, read_package
from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest

ITEM = "com.apple.CoreML/model.mlmodel"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package converted by the first schema, kept for tests."""
    folder = tmp_path_factory.mktemp("package")
    kept = Path(__file__).parents[1] / "data/schema1/artefacts.zip"
    with zipfile.ZipFile(kept) as archive:
        archive.extractall(folder)
    return folder / "tiny.fp32.mlpackage"


@pytest.fixture
def package(whole: Path, tmp_path: Path) -> Path:
    """One of its own for each test, to be spoiled."""
    return Path(shutil.copytree(whole, tmp_path / "net.mlpackage"))


def test_a_whole_package(package: Path) -> None:
    found = read_package(package)
    assert found.path == package
    assert found.folder == package / "Data/com.apple.CoreML"
    assert found.model.WhichOneof("Type") == "mlProgram"
    assert found.manifest_text is not None
    assert Manifest.from_json(found.manifest_text).format == "coreml"
    assert read_package(str(package)).model == found.model
    assert coremltools_version()[0].isdigit()


def test_a_package_of_someone_else_has_no_manifest(package: Path) -> None:
    model = read_package(package).model
    model.description.metadata.userDefined.clear()
    (package / "Data" / ITEM).write_bytes(model.SerializeToString())
    assert read_package(package).manifest_text is None


def refused(package: Path, *said: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_package(package)
    for words in said:
        assert words in str(refusal.value)


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.mlpackage", "does not exist")
    (tmp_path / "net.mlpackage").write_bytes(b"PK")
    refused(tmp_path / "net.mlpackage", "is a file", "unzip it first")


@pytest.mark.parametrize("item", ["/etc/hosts", "../../../secret", "a\0b"])
def test_a_path_out_of_the_package(package: Path, item: str) -> None:
    manifest = {"rootModelIdentifier": "1", "itemInfoEntries": {"1": {"path": item}}}
    (package / MANIFEST).write_text(json.dumps(manifest))
    refused(package, "points outside the package")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rootModelIdentifier": "1", "itemInfoEntries": {}}', "[" * 100_000])
def test_a_manifest_that_names_nothing(package: Path, text: str) -> None:
    (package / MANIFEST).write_text(text)
    refused(package, MANIFEST, "names no model")


def test_parts_that_are_missing(package: Path) -> None:
    (package / "Data" / ITEM).unlink()
    refused(package, "model.mlmodel cannot be read", "No such file")
    (package / MANIFEST).unlink()
    refused(package, f"{MANIFEST} cannot be read", "No such file")


def test_a_specification_that_is_damaged_or_of_another_kind(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specification = package / "Data" / ITEM
    good = specification.read_bytes()
    specification.write_bytes(good[:-1])
    refused(package, "is damaged")
    specification.write_bytes(b"")
    refused(package, "holds no model")
    specification.write_bytes(good)
    monkeypatch.setattr(mil_package, "MAX_SPECIFICATION", len(good) - 1)
    refused(package, "too large")
