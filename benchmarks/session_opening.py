"""What a saved, already optimised graph would save when ONNX Runtime opens an artefact: time and peak memory.

Run with ``python benchmarks/session_opening.py [FILE.onnx ...]``; default: the bundled network. A saved graph must be
found by the artefact's hash, so the time to hash the file stands beside what it would save. Times are CPU time of the
opening thread, taken in turns; memory is the growth of a fresh process's peak. Outputs are asserted to be the same.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from solov2_edge.bundled import bundle
from solov2_edge.manifest import sha256_of
from solov2_edge.runtime.machine import read_machine, versions

ROUNDS = 15
LEVELS = onnxruntime.GraphOptimizationLevel


def opened(path: Path, saved: Path | None = None, optimised: bool = False) -> Any:
    """Open a graph on one thread; save what it was optimised to, or take it as optimised already."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS.ORT_DISABLE_ALL if optimised else LEVELS.ORT_ENABLE_ALL
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def outputs(session: Any) -> list[Any]:
    """Return what the session computes of noise."""
    source = session.get_inputs()[0]
    dtype = np.uint8 if "uint8" in source.type else np.float32
    batch = np.random.default_rng(0).integers(0, 256, source.shape).astype(dtype)
    results: list[Any] = session.run(None, {source.name: batch})
    return results


def peak() -> float:
    """Return the process's peak memory in MiB; NaN where the system does not say (only Linux does, per program)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def growth(path: Path, optimised: bool) -> float:
    """Return by how many MiB opening the graph raises the peak of a process of its own."""
    command = [sys.executable, __file__, "--peak", str(path), *(["--optimised"] if optimised else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(path: Path, folder: Path) -> None:
    """Time both ways of opening in turns and print what they cost."""
    saved = folder / path.name
    exact = outputs(opened(path, saved))
    tasks = {
        "open the artefact": lambda: opened(path),
        "open it optimised already": lambda: opened(saved, optimised=True),
        "hash the artefact": lambda: sha256_of(path),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            start = time.thread_time()
            task()
            times[name].append(1e3 * (time.thread_time() - start))
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, saved {saved.stat().st_size / 1e6:.1f} MB")
    for name, values in times.items():
        low, median, high = np.percentile(values, (10, 50, 90))
        print(f"  {name:<28}{median:7.1f} ms CPU (p10 {low:.1f}, p90 {high:.1f})")
    print(f"  peak memory of opening: +{growth(path, False):.0f} MiB, optimised already +{growth(saved, True):.0f} MiB")
    for got, want in zip(outputs(opened(saved, optimised=True)), exact, strict=True):
        np.testing.assert_array_equal(got, want)


def main() -> None:
    """Compare for every file named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", default=[bundle().artefact])
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)  # what growth() asks its process
    parser.add_argument("--optimised", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak is not None:
        before = peak()
        session = opened(args.peak, optimised=args.optimised)
        print(peak() - before)
        del session
        return
    machine = read_machine()
    print(f"{machine.cpu}, load {machine.load}, {versions()}")
    with tempfile.TemporaryDirectory() as folder:
        for path in args.files:
            compare(path, Path(folder))


if __name__ == "__main__":
    main()
