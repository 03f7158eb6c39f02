"""What every test shares."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run here: PyTorch's tests where the runtime is tested without it, a Mac's off a Mac."""
    absent = set() if importlib.util.find_spec("torch") is not None else {"torch"}
    if sys.platform != "darwin":
        absent.add("macos")
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def tflite_builder(checkout: Path) -> ModuleType:
    """The module tests/tflite_builder.py, which builds tiny .tflite files."""
    return _module(checkout / "tests/tflite_builder.py")


@pytest.fixture(scope="session")
def annotation_forms(checkout: Path) -> ModuleType:
    """The module tests/annotation_forms.py, which writes the same objects as COCO, LabelMe and YOLO."""
    return _module(checkout / "tests/annotation_forms.py")


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"solov2_edge_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module
