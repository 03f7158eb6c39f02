"""The guards of the layout: import directions, package list, file sizes, and what the files may say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"solov2_edge": "solov2_edge", "converters": "converters", "runtime": "runtime", "demos": "demos"}
FRAMEWORKS = ("torch", "onnx", "onnxscript", "tensorflow", "coremltools", "safetensors")
ENGINES = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "pycocotools")  # one file drives each
# An engine's own package, in the one file that drives it; everything else is a framework to the runtime.
DRIVES = {"solov2_edge.runtime.coreml": "coremltools", "solov2_edge.runtime.litert_interpreter": "tensorflow.lite"}
MAX_LINES = 300


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    parts = ["solov2_edge"] if folder == "solov2_edge" else ["solov2_edge", folder]
    return ".".join([*parts, *(part for part in rest if part != "__init__")])


def imported(path: Path) -> set[str]:
    """Absolute names of everything a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports break when a folder is read on its own"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


ALL_SOURCES = [path for folder in FOLDERS for path in sources(folder)]
LIGHT = ["solov2_edge", *(module_name(p) for folder in ("runtime", "demos") for p in sources(folder))]


def import_without(absent: tuple[str, ...], names: list[str]) -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {absent!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_runtime_and_demos_import_without_any_framework() -> None:
    import_without(FRAMEWORKS, LIGHT)


def test_the_public_faces_import_without_any_engine() -> None:
    import_without(FRAMEWORKS + ENGINES, ["solov2_edge", "solov2_edge.runtime", "solov2_edge.demos.image"])


def test_the_package_itself_imports_the_standard_library_only() -> None:
    code = (
        "import sys, solov2_edge, solov2_edge.cli, solov2_edge.spec, solov2_edge.manifest\n"
        "third = {'numpy', 'cv2', 'torch', 'onnx', 'tqdm', 'platformdirs'} & set(sys.modules)\n"
        "assert not third, third"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [p for f in ("runtime", "demos") for p in sources(f)], ids=module_name)
def test_runtime_and_demos_never_name_a_framework(path: Path) -> None:
    forbidden = ("torch", "onnx.", "onnxscript", "tensorflow", "coremltools", "solov2_edge.converters")
    found = [name for name in imported(path) if (name + ".").startswith(tuple(f.rstrip(".") + "." for f in forbidden))]
    driven = DRIVES.get(module_name(path))
    assert not [name for name in found if driven is None or not (name + ".").startswith(driven + ".")]


@pytest.mark.parametrize("path", sources("runtime"), ids=module_name)
def test_the_runtime_stands_below_the_demos_and_the_commands(path: Path) -> None:
    allowed = {"errors", "spec", "manifest", "variants", "coco_classes", "files", "runtime"}
    own = {name.split(".")[1] for name in imported(path) if name.startswith("solov2_edge.")}
    assert own <= allowed


@pytest.mark.parametrize("path", ALL_SOURCES, ids=module_name)
def test_no_bare_import_of_a_folder(path: Path) -> None:
    bare = {name.split(".")[0] for name in imported(path)} & {"runtime", "converters", "demos"}
    assert not bare, "import it as solov2_edge.<folder>: a bare name is shadowed by an application's own module"


@pytest.mark.parametrize("path", ALL_SOURCES, ids=module_name)
def test_no_file_is_longer_than_a_reader_can_hold(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", ALL_SOURCES, ids=module_name)
def test_no_file_is_named_like_a_library(path: Path) -> None:
    taken = {"onnx", "torch", "numpy", "cv2", "coremltools", "tensorflow", "onnxruntime", "safetensors", "tqdm"}
    assert path.stem not in taken


def test_the_package_list_equals_the_folders_on_disk() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    on_disk = {path.parent.relative_to(ROOT).as_posix() for f in FOLDERS for path in (ROOT / f).rglob("__init__.py")}
    assert set(tables["package-dir"].values()) == on_disk == set(FOLDERS.values())
    assert set(tables["packages"]) == set(tables["package-dir"])


def test_packages_are_one_level_deep() -> None:
    nested = [path for path in ALL_SOURCES if len(path.relative_to(ROOT).parts) > 2]
    assert not nested


def test_every_extra_a_message_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for path in ALL_SOURCES for name in re.findall(r"solov2-edge\[([a-z,-]+)\]", path.read_text("utf-8"))}
    calls = re.compile(r"MissingDependencyError\(\s*\"[\w.]+\",\s*\"([\w-]+)\"")
    named |= {name for path in ALL_SOURCES for name in calls.findall(path.read_text("utf-8"))}
    assert {part for name in named for part in name.split(",")} <= set(extras)


def test_shipped_pictures_and_their_annotations_belong_together() -> None:
    import json

    assets = ROOT / "solov2_edge" / "assets"
    document = json.loads((assets / "pictures.json").read_text(encoding="utf-8"))
    assert {entry["file_name"] for entry in document["images"]} == {p.name for p in (assets / "pictures").iterdir()}
    assert all((assets / "pictures" / e["file_name"]).stat().st_size < 100_000 for e in document["images"])
    assert {a["image_id"] for a in document["annotations"]} == {entry["id"] for entry in document["images"]}
    assert document["licenses"][0]["name"].startswith("CC0")


def test_calibration_pictures_are_none_of_those_accuracy_is_measured_on() -> None:
    calibration = {p.read_bytes() for p in (ROOT / "solov2_edge" / "assets" / "calibration").iterdir()}
    judged = {p.read_bytes() for p in (ROOT / "tests" / "data" / "nuclei_val" / "images").iterdir()}
    judged |= {p.read_bytes() for p in (ROOT / "solov2_edge" / "assets" / "pictures").iterdir()}
    assert len(calibration) == 64
    assert not calibration & judged


def test_ruff_refuses_a_bare_import(tmp_path: Path) -> None:
    probe = tmp_path / "probe.py"
    probe.write_text('"""Probe."""\n\nimport runtime\n', encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
        str(probe),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 1
    assert "TID251" in done.stdout
