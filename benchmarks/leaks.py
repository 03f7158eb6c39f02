"""Does opening and closing sessions leave anything behind? Memory, descriptors and threads over 10,000 cycles.

``python benchmarks/leaks.py`` opens, runs and closes the kept artefacts of tests/data/schema1 in every engine, again
and again, and prints what the process held after the warm-up and at the end. ``--cycles`` is the number of all engines
together. Descriptors and threads have to be as many as before, and memory must not have grown by more than
``MOST_GROWTH``.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solov2_edge.console import Console
from solov2_edge.opening import open_artefact

KEPT = Path(__file__).resolve().parent.parent / "tests/data/schema1/artefacts.zip"
# engine as it is printed -> (file, options of load)
ENGINES: dict[str, tuple[str, dict[str, str]]] = {
    "onnxruntime": ("tiny.fp32.onnx", {"engine": "onnxruntime"}),
    "openvino": ("tiny.fp32.onnx", {"engine": "openvino"}),
    "litert": ("tiny.fp32.tflite", {}),
    "ncnn": ("tiny.fp32.ncnn", {}),
    "interpreter": ("tiny.fp32.mlpackage", {}),
}
WARM_UP = 0.2  # of the cycles: allocators and caches of the engines fill first
MOST_GROWTH = 24.0  # MiB from there to the end, whatever the number of cycles


@dataclass(frozen=True)
class Held:
    """What the process holds: resident memory in MiB, open descriptors, and threads of the system."""

    memory: float
    descriptors: int
    threads: int


def held() -> Held:
    """Return what this process holds now, garbage collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks = len(os.listdir("/proc/self/task"))
    return Held(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd")), tasks)


def unpack(folder: Path) -> None:
    """Lay the kept artefacts into a folder."""
    with zipfile.ZipFile(KEPT) as archive:
        archive.extractall(folder)


def cycle(folder: Path, engine: str, frame: np.ndarray) -> int:
    """Open a session, segment a frame, close it; return the number of instances."""
    name, options = ENGINES[engine]
    with open_artefact(folder / name, threads=1, **options) as segment:
        return len(segment(frame))


def cycles(folder: Path, engine: str, count: int) -> Iterator[Held]:
    """Go through ``count`` cycles; yields what is held after the warm-up's and after the last."""
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    found = cycle(folder, engine, frame)
    for number in range(1, count):
        assert cycle(folder, engine, frame) == found, "the same frame gives the same instances"
        if number == int(count * WARM_UP):
            yield held()
    yield held()


def main() -> None:
    """Go through the cycles of every engine and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10_000, help="of all engines together (%(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    console, count = Console(json_mode=False, quiet=False), options.cycles // len(options.engines)
    print(f"{'engine':12} {'cycles':>7} {'MiB':>16} {'descriptors':>12} {'threads':>8}")
    grown = []
    with tempfile.TemporaryDirectory() as place:
        unpack(Path(place))
        for engine in options.engines:
            walk = console.track(cycles(Path(place), engine, count), 2, f"{count} cycles of {engine}")
            before, after = list(walk)
            print(
                f"{engine:12} {count:>7} {before.memory:>7.1f} {after.memory:>8.1f} "
                f"{before.descriptors:>6} {after.descriptors:>5} {before.threads:>4} {after.threads:>3}",
                flush=True,
            )
            grown.append(after.memory - before.memory)
            assert after.descriptors <= before.descriptors, "descriptors are left open"
            assert after.threads <= before.threads, "threads are left running"
            assert grown[-1] <= MOST_GROWTH, f"memory has grown by {grown[-1]:.1f} MiB"
    print(f"{count * len(options.engines)} cycles: at most {max(grown):.1f} MiB more, no descriptor, no thread")
    assert threading.active_count() == 1


if __name__ == "__main__":
    main()
