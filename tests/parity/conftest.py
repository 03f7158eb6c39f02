from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


def _golden_module() -> ModuleType:
    """Load golden.py beside this file; tests are imported by path and have no package to import it from."""
    spec = importlib.util.spec_from_file_location("solov2_edge_golden", Path(__file__).parent / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> Iterator[None]:
    """Compute with two threads, which reproduces the recording bit for bit where nothing is deformable.

    The number of threads decides how convolutions round.

    Thirteen deformable layers with random offsets amplify a last-bit difference to 2e-4 of the range, which is how
    far the recording itself lies from the same network in float64.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=["light-448-r18", "light-512-r50-dcnv1"])
def golden(request: pytest.FixtureRequest) -> Any:
    """One golden case: recorded arrays, rebuilt weights, picture."""
    return _golden_module().load_golden(request.param)


@pytest.fixture(scope="session")
def golden_checkpoint(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case's weights as the .pth file mmdetection would have written."""
    path = tmp_path_factory.mktemp("golden") / f"{golden.variant}.pth"
    torch.save({"state_dict": golden.state, "meta": {"epoch": 36}}, path)
    return path


@pytest.fixture(scope="session")
def reference(golden: Any, golden_checkpoint: Path) -> Iterator[Any]:
    """The checkpoint imported and wrapped as the PyTorch reference."""
    from solov2_edge.reference import load_reference

    reference = load_reference(golden_checkpoint)
    assert reference.spec.name == golden.variant
    yield reference
    reference.close()
