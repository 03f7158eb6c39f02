"""How long the threads of an engine's OpenMP wait for each other by spinning, settled while the engine is loaded.

GNU's OpenMP, which ncnn's Linux wheels bring in a copy of their own, lets a thread that has nothing to do spin for some
milliseconds. Where other programs want the same cores, the others' turn then comes before the thread that is waited
for: a bundled network of 24 ms took two to seven seconds on two busy cores. It is told how long to spin by the
environment, and only while it is loaded. A thousand turns, microseconds, cost nothing on an idle machine; waiting
without spinning at all would cost half as much time again. Measured: docs/ncnn.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["SPINS", "short_waits"]

SPIN_VARIABLE = "GOMP_SPINCOUNT"
SPINS = 1000
VARIABLES = (SPIN_VARIABLE, "OMP_WAIT_POLICY")  # whoever sets one of them has decided


@contextlib.contextmanager
def short_waits() -> Iterator[None]:
    """Let an OpenMP that is loaded inside spin for :data:`SPINS` turns, unless the environment says otherwise."""
    if any(name in os.environ for name in VARIABLES):
        yield
        return
    os.environ[SPIN_VARIABLE] = str(SPINS)
    try:
        yield
    finally:
        os.environ.pop(SPIN_VARIABLE, None)
