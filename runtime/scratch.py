"""Working memory that one frame's decoding leaves to the next, one piece per thread.

Logits of some hundred masks are tens of megabytes. Allocated anew for every frame they cost a page fault per 4 KiB,
which the product that fills them waits for: 499 masks of 112 x 192 take 35 ms in new memory, 31 ms in used memory.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEPT_BYTES", "scratch"]

KEPT_BYTES = 48 << 20  # per thread at most; what is larger is allocated anew


class _Kept(threading.local):
    """The piece of one thread; gone with its thread."""

    def __init__(self) -> None:
        self.memory: NDArray[np.float32] = np.empty(0, np.float32)


_kept = _Kept()


def scratch(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a float32 array of ``shape`` with any content, valid until this thread asks again.

    Nothing that outlives the caller may refer to it.
    """
    size = math.prod(shape)
    if 4 * size > KEPT_BYTES:
        return np.empty(shape, np.float32)
    if _kept.memory.size < size:
        _kept.memory = np.empty(size, np.float32)
    return _kept.memory[:size].reshape(shape)
