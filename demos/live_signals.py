"""Ctrl-C and its like end a live view where nothing is half done: between frames, or while one is waited for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["EndSignals"]

# SIGHUP: the terminal was closed; Windows has none.
NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
IMPATIENT = 3  # so many in all, and whatever is being closed is given up


class EndSignals:
    """A context in which SIGINT, SIGTERM and SIGHUP ask for the end, and interrupt only what may be interrupted.

    A signal that the process was started to ignore (nohup, a job in the background) stays ignored. Outside the main
    thread, where Python delivers no signals, nothing is changed.

    Attributes:
        received: the number of the first signal that came, or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._count = 0
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> EndSignals:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt inside this block, one that came before at its beginning."""
        self._interruptible = True
        try:
            if self.received:
                raise KeyboardInterrupt
            yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        self._count += 1
        if self._interruptible or self._count >= IMPATIENT:
            self._interruptible = False  # once: what follows is the closing
            raise KeyboardInterrupt
