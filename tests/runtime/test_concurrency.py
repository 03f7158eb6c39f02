"""Segmenters in threads and processes, and many of them one after another; ``benchmarks/leaks.py`` does 10,000."""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.runtime import load

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = {"onnx": "tiny.fp32.onnx", "tflite": "tiny.fp32.tflite", "ncnn": "tiny.fp32.ncnn"}
THREADS, FRAMES, CYCLES = 4, 6, 200
GROWTH = 16.0  # MiB over the cycles behind the warm-up


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with zipfile.ZipFile(CHECKOUT / "tests/data/schema1/artefacts.zip") as archive:
        archive.extractall(folder)
    return folder


def frames() -> list[NDArray[np.uint8]]:
    draw = np.random.default_rng(7)
    return [draw.integers(0, 256, (40 + 8 * n, 64, 3), np.uint8) for n in range(FRAMES)]


def outputs(path: str) -> list[NDArray[np.float32]]:
    """Open an artefact and return its class scores for every frame; what a process of its own runs."""
    with load(path, threads=1) as segment:
        return [segment.raw(frame).class_scores for frame in frames()]


@pytest.mark.parametrize("name", FILES)
def test_threads_that_share_one_get_what_one_thread_gets(artefacts: Path, name: str) -> None:
    pictures = frames()
    with load(artefacts / FILES[name], threads=1) as segment:
        expected = [segment.raw(frame).class_scores for frame in pictures]
        order = [n % FRAMES for n in range(THREADS * FRAMES)]
        with ThreadPoolExecutor(THREADS) as pool:
            got = list(pool.map(lambda n: segment.raw(pictures[n]).class_scores, order))
    for n, scores in zip(order, got, strict=True):
        np.testing.assert_array_equal(scores, expected[n])


@pytest.mark.parametrize("name", FILES)
def test_one_per_thread_gives_the_same_in_each(artefacts: Path, name: str) -> None:
    path = str(artefacts / FILES[name])
    expected = outputs(path)
    with ThreadPoolExecutor(THREADS) as pool:
        for got in pool.map(outputs, [path] * THREADS):
            np.testing.assert_array_equal(np.stack(got), np.stack(expected))


@pytest.mark.parametrize("name", FILES)
def test_a_forked_process_opens_its_own(artefacts: Path, name: str) -> None:
    path = str(artefacts / FILES[name])
    expected = np.stack(outputs(path))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        same = np.array_equal(np.stack(outputs(path)), expected)
        os.write(writing, b"same" if same else b"other")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"same"
    assert os.waitpid(child, 0)[1] == 0


def test_a_spawned_process_opens_its_own(artefacts: Path) -> None:
    import subprocess

    code = (
        "import sys, numpy as np\n"
        "from solov2_edge.runtime import load\n"
        "frame = np.random.default_rng(7).integers(0, 256, (40, 64, 3), np.uint8)\n"
        "with load(sys.argv[1], threads=1) as segment:\n"
        "    sys.stdout.buffer.write(segment.raw(frame).class_scores.tobytes())\n"
    )
    path = str(artefacts / FILES["onnx"])
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert done.stdout == outputs(path)[0].tobytes()


def test_a_segmenter_is_not_sent_to_another_process(artefacts: Path) -> None:
    with load(artefacts / FILES["onnx"], threads=1) as segment, pytest.raises(TypeError, match="pickle"):
        multiprocessing.reduction.ForkingPickler.dumps(segment)


@pytest.mark.torch
def test_sessions_opened_and_closed_leave_nothing(
    artefacts: Path, record_property: Callable[[str, object], None]
) -> None:
    leaks = _leaks()
    threads = threading.active_count()
    for engine in ("onnxruntime", "litert", "ncnn"):
        first, last = list(leaks.cycles(artefacts, engine, CYCLES // 3))
        assert last.descriptors <= first.descriptors, engine
        assert last.threads <= first.threads, engine
        assert last.memory - first.memory <= GROWTH, engine
        record_property(f"cycles of {engine}", CYCLES // 3)
    gc.collect()
    assert threading.active_count() == threads


def _leaks() -> Any:
    spec = importlib.util.spec_from_file_location("solov2_edge_leaks", CHECKOUT / "benchmarks/leaks.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
