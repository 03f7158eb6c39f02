"""Milliseconds per stage in a headless Chromium against the Python runtime, the same picture in turn.

    python benchmarks/browser.py [ARTEFACT.onnx ...] [--rounds 15] [--threads 1 2]

Without artefacts the bundled one. Needs Chromium and onnxruntime-web (solov2-edge browser --install).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from solov2_edge.bundled import bundle
from solov2_edge.demos.browser_engine import find_engine
from solov2_edge.demos.browser_server import BrowserServer, page_files
from solov2_edge.errors import MissingDependencyError
from solov2_edge.runtime import load
from solov2_edge.runtime.machine import read_machine
from solov2_edge.runtime.pictures import list_pictures, read_picture

STAGES = ("preprocess", "network", "decode")
SHOWN = "import('/main.mjs').then(({shown}) => shown%s)"
WARM_UP = 3


def chromium() -> ModuleType:
    """Load tests/demos/chromium.py, which drives the browser."""
    path = Path(__file__).resolve().parent.parent / "tests" / "demos" / "chromium.py"
    spec = importlib.util.spec_from_file_location("solov2_edge_chromium", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def in_page(page: Any) -> dict[str, float]:
    """Segment the sample in the page and return its timings."""
    before = page.evaluate(SHOWN % ".frames")
    page.evaluate("document.querySelector('#samples button').click()")
    page.wait_for(SHOWN % f".frames > {before}")
    timings: dict[str, float] = page.evaluate(SHOWN % ".result.timings")
    return timings


def measure(artefact: Path, browser: Any, threads: list[int], rounds: int) -> None:
    """Print one artefact's table."""
    sample = list_pictures(bundle().pictures)[1]
    frame = read_picture(sample)
    with ExitStack() as stack:
        contenders: dict[str, Any] = {}
        for count in threads:
            server = stack.enter_context(BrowserServer(page_files(artefact, find_engine(), [sample], threads=count)))
            server.start()
            page = browser.open(server.url + "?backend=wasm")
            page.wait_for(SHOWN % ".frames > 0")
            contenders[f"Chromium, {count} threads"] = lambda page=page: in_page(page)
            segment = stack.enter_context(load(artefact, threads=count))
            contenders[f"Python, {count} threads"] = lambda segment=segment: (segment(frame), segment.timings)[1]
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(WARM_UP + rounds):
            for name, run in contenders.items():
                taken[name].append(run())
        expected = np.count_nonzero(segment(frame).scores >= 0.3)
        found = int(page.evaluate("document.getElementById('count').innerText"))
        # Integer kernels of two builds round differently, which moves single scores over the threshold.
        assert abs(found - expected) <= (1 if segment.manifest.precision.startswith("int") else 0), (found, expected)
    print(f"\n{artefact.name}, {sample.name}, {expected} instances; medians of {rounds}, in ms")
    print(f"{'':22}{''.join(f'{stage:>12}' for stage in STAGES)}{'together':>12}")
    for name, rows in taken.items():
        stages = [median(row[stage] for row in rows[WARM_UP:]) for stage in STAGES]
        together = median(sum(row[stage] for stage in STAGES) for row in rows[WARM_UP:])
        print(f"{name:22}{''.join(f'{value:12.1f}' for value in stages)}{together:12.1f}")


def main() -> None:
    """Measure every artefact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artefacts", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args = parser.parse_args()
    driver = chromium()
    try:
        engine = find_engine()
    except MissingDependencyError as error:
        print(f"not measured: {error}")
        return
    if driver.BROWSER is None:
        print(f"not measured: {driver.NO_BROWSER}")
        return
    machine = read_machine()
    print(f"{machine.cpu}, {machine.cores} cores; onnxruntime-web {engine.version}; load {machine.load:.1f}")
    with tempfile.TemporaryDirectory() as profile, driver.Chromium(Path(profile)) as browser:
        for artefact in args.artefacts or [bundle().artefact]:
            measure(artefact, browser, args.threads, args.rounds)


if __name__ == "__main__":
    main()
