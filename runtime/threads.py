"""Who may take how many cores while frames are worked on; what it rests on is measured in docs/threads.md.

A frame needs three pools of threads in turn: OpenCV's, the engine's and BLAS's. Each takes every core and two of them
go on spinning for work when theirs is done, in the way of whoever is next. Here the engine gets the cores and stops
spinning soon; decoding, whose matrices are small, takes one.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["ORT_CONFIG", "one_blas_thread", "ort_threads", "parse_cpu_list"]

# Microseconds a thread of ONNX Runtime spins for the next part of an operator before it sleeps. Its own default keeps
# a core busy for 25 ms after every frame. Releases that do not know the entry ignore it.
ORT_CONFIG = {"session.intra_op.spin_duration_us": "200"}
TOPOLOGY = Path("/sys/devices/system/cpu")

_limiting = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread meanwhile; results do not depend on it.

    BLAS has one number of threads for the whole process, so others' products run on one thread as well. Of several
    threads inside, the first one limits for all until it leaves: number and restoration then never cross.
    """
    if not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _limiting.release()


@lru_cache(maxsize=1)
def _blas() -> Any:
    # Imported here, because the runtime's import time is bounded.
    return importlib.import_module("threadpoolctl").ThreadpoolController().select(user_api="blas")


def ort_threads() -> int | None:
    """Return ONNX Runtime's default number of threads: one per physical core that this process may use.

    ONNX Runtime's own default is one per physical core of the machine, each bound to its core, those included that the
    process was told to leave alone. None where the system does not say which cores are siblings.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    # Imported here, because the runtime's import time is bounded.
    from solov2_edge.runtime.litert_delegates import available_cpus

    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        try:
            siblings = (TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            return None
        cores.add(min(parse_cpu_list(siblings) | {cpu}))
    return min(len(cores), available_cpus())


def parse_cpu_list(text: str) -> set[int]:
    """Return the CPUs of a list as the kernel writes it, such as ``0-3,8``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return cpus
