"""Decoding with 1203 classes (LVIS) against 80 (COCO): time and memory of the whole decoding, in one run.

Run with ``python benchmarks/many_classes.py``; single-thread CPU time, medians of interleaved rounds. 20 planted
objects on a 1080p frame at 448 x 768; every other score is noise below 0.05, so that the second row, whose threshold
is 0.01, has candidates by the million.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import time
import tracemalloc
from dataclasses import replace

import numpy as np

from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import variant

ROUNDS = 9
COUNTS = (80, 1203)
GEOMETRY = fixed_geometry(1080, 1920, 448, 768)


def _case(classes: int) -> tuple[ModelSpec, RawOutputs]:
    spec = variant("light-448-r18", tuple(f"class {number}" for number in range(classes)))
    raw = planted_outputs(spec, GEOMETRY, 20)
    noise = np.random.default_rng(0).uniform(0, 0.05, raw.class_scores.shape).astype(np.float32)
    return spec, replace(raw, class_scores=np.maximum(raw.class_scores, noise))


def main() -> None:
    """Print a row per threshold and number of classes."""
    cases = {count: _case(count) for count in COUNTS}
    print("| score threshold | classes | candidates | decode ms | to 80 classes | peak MB |\n|---|---|---|---|---|---|")
    for options in (DecodeOptions(max_instances=300), DecodeOptions(score_threshold=0.01, max_instances=300)):
        times: dict[int, list[float]] = {count: [] for count in COUNTS}
        for _ in range(ROUNDS):
            for count, (spec, raw) in cases.items():
                start = time.process_time()
                found = decode(raw, GEOMETRY, spec, options)
                times[count].append(time.process_time() - start)
                assert len(found) >= 20 and (found.scores[:20] > 0.8).all()  # noqa: PT018
        for count, (spec, raw) in cases.items():
            tracemalloc.start()
            decode(raw, GEOMETRY, spec, options)
            peak = tracemalloc.get_traced_memory()[1] / 1e6
            tracemalloc.stop()
            candidates = len(find_candidates(raw.class_scores, spec.grids, options.score_threshold, True))
            milliseconds = float(np.median(times[count])) * 1e3
            ratio = float(np.median(np.array(times[count]) / np.array(times[80])))
            figures = f"{candidates:,} | {milliseconds:.1f} | {ratio:.2f} | {peak:.0f}"
            print(f"| {options.score_threshold} | {count} | {figures} |")


if __name__ == "__main__":
    main()
