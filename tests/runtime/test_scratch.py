from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from solov2_edge.runtime import scratch as module
from solov2_edge.runtime.scratch import scratch


def test_the_next_caller_gets_the_same_memory() -> None:
    large = scratch((3, 4, 5))
    small = scratch((2, 2))
    assert large.shape == (3, 4, 5)
    assert small.dtype == np.float32
    assert np.shares_memory(large, small)
    assert np.shares_memory(small, scratch((60,)))  # a smaller request does not shrink it


def test_every_thread_has_its_own() -> None:
    barrier = Barrier(2)

    def fill(value: int) -> bool:
        mine = scratch((1000,))
        mine[:] = value
        barrier.wait(timeout=10)
        return bool((mine == value).all())

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fill, (1, 2))) == [True, True]


def test_what_is_too_large_to_keep_is_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 400)
    kept = scratch((100,))
    assert not np.shares_memory(kept, scratch((101,)))
    assert np.shares_memory(kept, scratch((100,)))


def test_nothing_is_a_size_too() -> None:
    assert scratch((0, 4, 4)).shape == (0, 4, 4)
