"""Work killed at every step of its writing leaves whole files or none.

``benchmarks/kills.py`` kills whole conversions and trainings; ``test_train.py`` a training within an epoch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from solov2_edge.converters.writing import write_artefact
from solov2_edge.errors import InputError
from solov2_edge.files import replace_folder, write_aside
from solov2_edge.manifest import InputContract, Manifest, manifest_path, sha256_of, size_of
from solov2_edge.runtime.artefact import read_sidecar
from solov2_edge.spec import ModelSpec

OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture(scope="session")
def dying_run(checkout: Path) -> ModuleType:
    path = checkout / "benchmarks/dying_run.py"
    spec = importlib.util.spec_from_file_location("solov2_edge_dying_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def manifest(tiny_spec: ModelSpec) -> Manifest:
    return Manifest(spec=tiny_spec, format="onnx", precision="fp32", input=InputContract("image", 64, 96))


def killed_at(dying_run: ModuleType, folder: Path, touch: int, work: Callable[[], object]) -> bool:
    """Do the work in a forked process that is killed at its ``touch``-th step in the folder; return whether it was."""
    child = os.fork()
    if child == 0:
        dying_run.watch_touches(str(folder), touch)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def kill_everywhere(
    dying_run: ModuleType,
    folder: Path,
    begin: Callable[[], object],
    work: Callable[[], object],
    judge: Callable[[], None],
) -> int:
    """Kill the work at every one of its steps, judging each time; return how often it was killed."""
    for touch in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        begin()
        died = killed_at(dying_run, folder, touch, work)
        judge()
        if not died:
            return touch - 1
        work()  # the rerun, among what the killed one left
        judge()
    raise AssertionError("it has no end")


def test_an_artefact_killed_at_every_step_is_the_old_or_the_new_one(
    dying_run: ModuleType, tmp_path: Path, manifest: Manifest, record_property: Callable[[str, object], None]
) -> None:
    folder = tmp_path / "out"
    target = folder / "net.onnx"
    seen = set()

    def judge() -> None:
        data = target.read_bytes()
        assert data in (OLD, NEW)
        seen.add(data)
        read_sidecar(target)  # refuses another's manifest

    died = kill_everywhere(
        *(dying_run, folder, lambda: write_artefact(target, OLD, manifest)),
        *(lambda: write_artefact(target, NEW, manifest), judge),
    )
    assert died >= 5
    record_property("kills_survived", died)
    assert seen == {OLD, NEW}


def test_a_package_killed_at_every_step_is_the_old_or_the_new_one_or_away(
    dying_run: ModuleType, tmp_path: Path, manifest: Manifest, record_property: Callable[[str, object], None]
) -> None:
    folder = tmp_path / "out"
    target = folder / "net.ncnn"

    def put(data: bytes) -> None:
        """Take the steps of the exporters of folders."""
        finished = folder / f".made.{data[:3].decode()}" / "net.ncnn"
        shutil.rmtree(finished.parent, ignore_errors=True)
        finished.mkdir(parents=True)
        for name in ("a", "b"):
            (finished / name).write_bytes(data)
        complete = replace(manifest, format="ncnn", sha256=sha256_of(finished), size_bytes=size_of(finished))
        manifest_path(target).unlink(missing_ok=True)
        replace_folder(finished, target)
        write_aside(manifest_path(target), complete.to_json())

    def judge() -> None:
        assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= {
            "net.ncnn",
            "net.ncnn.json",
        }
        if target.exists():
            assert [(target / name).read_bytes() for name in ("a", "b")] in ([OLD, OLD], [NEW, NEW])
            read_sidecar(target)
        else:
            with pytest.raises((InputError, FileNotFoundError)):
                read_sidecar(target) or target.stat()

    died = kill_everywhere(dying_run, folder, lambda: put(OLD), lambda: put(NEW), judge)
    assert died >= 8
    record_property("kills_survived", died)


@pytest.mark.parametrize("limit", [1, 1000, 5999])
def test_a_write_that_is_cut_leaves_what_was_there(tmp_path: Path, limit: int) -> None:
    import resource

    target = tmp_path / "file"
    write_aside(target, OLD)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        write_aside(target, NEW)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGXFSZ
    assert target.read_bytes() == OLD
    write_aside(target, NEW)
    assert target.read_bytes() == NEW
