"""What every test shares."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

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
