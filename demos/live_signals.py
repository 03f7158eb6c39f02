"""Ctrl-C and SIGTERM end a live view where nothing is half done: between frames, or while one is waited for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["EndSignals"]

IMPATIENT = 3  # so many in all, and whatever is being closed is given up


class EndSignals:
    """A context in which SIGINT and SIGTERM ask for the end, and interrupt only what was declared interruptible.

    Outside the main thread, where Python delivers no signals, it does nothing.

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
            for number in (signal.SIGINT, signal.SIGTERM):
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
