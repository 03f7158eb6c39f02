"""What ``import solov2_edge.runtime`` costs beyond numpy and OpenCV: CPU time of fresh interpreters, interleaved.

Run with ``python benchmarks/import_time.py``; prints medians in milliseconds. The design's bound is 30 ms.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

PROGRAMS = {
    "numpy and cv2": "import numpy, cv2",
    "numpy, cv2 and solov2_edge.runtime": "import numpy, cv2, solov2_edge.runtime",
}
PREFIX, SUFFIX = "import time; start = time.process_time();", "; print(1e3 * (time.process_time() - start))"
ROUNDS = 15


def main() -> None:
    """Time both programs alternately."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        # An installed package has its bytecode; a checkout may have none, or an old one.
        # More BLAS threads than one spin for a while after numpy's import, into the time of whatever comes next.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "OPENBLAS_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(ROUNDS + 1):
            for name, program in PROGRAMS.items():
                run = [sys.executable, "-c", PREFIX + program + SUFFIX]
                result = subprocess.run(run, check=True, capture_output=True, text=True, env=environment)
                if number > 0:  # the first writes the bytecode
                    times[name].append(float(result.stdout))
    medians = [statistics.median(values) for values in times.values()]
    for name, value in zip(PROGRAMS, medians, strict=True):
        print(f"{name:<40} {value:7.1f} ms")
    print(f"{'solov2_edge.runtime alone':<40} {medians[1] - medians[0]:7.1f} ms  bound 30 ms")


if __name__ == "__main__":
    main()
