"""The stack on which a thread handles signals, kept while a library is at work.

OpenVINO's plugin for CPUs gives the thread that loads it a stack of its own for signals, and frees it when the plugin
goes. The stack before comes back only if plugins go in the reverse order, in the same thread; otherwise the thread is
left with one that was freed, and the next signal with a handler, Ctrl-C or the end of a child, ends the process without
a word.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_signal_stack"]


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux: sigaltstack(2)."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the calling thread back, at the end of this block, the signal stack that it has now; Linux alone."""
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    known = library.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        # Linux refuses a stack that became too small, for processors with matrix tiles: the library's own then stays.
        if known:
            library.sigaltstack(ctypes.byref(before), None)
