"""Asking a generator for its next item without standing still meanwhile: keys, Ctrl-C and web pages go on working."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

__all__ = ["Reader"]

T = TypeVar("T")
# What ending waits for a generator that is in the middle of an item; a source closed before has let go by then.
PATIENCE_SECONDS = 5.0


class _End:
    """Stands for a generator's end."""


class Reader(Generic[T]):
    """Draws from a generator in a thread of its own, one item at a time and only when asked."""

    def __init__(self, items: Generator[T, None, None]) -> None:
        """Take over a generator; it is closed in the end."""
        self._items = items
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[T | _End | BaseException] = queue.SimpleQueue()
        # A daemon: one that is stuck in a driver does not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="solov2-edge reader", daemon=True)
        self._thread.start()

    def next(self, meanwhile: Callable[[], bool], seconds: float) -> T | None:
        """Return the next item, or None at the end or when there is no more wish for one.

        Args:
            meanwhile: called whenever so many seconds have passed without an item; False ends the waiting.
            seconds: between its calls.

        Raises:
            BaseException: what the generator raised.
        """
        self._orders.put(True)
        while True:
            try:
                answer = self._answers.get(timeout=seconds)
            except queue.Empty:
                if not meanwhile():
                    return None
                continue
            if isinstance(answer, BaseException):
                raise answer
            return None if isinstance(answer, _End) else answer

    def close(self) -> None:
        """Close the generator and wait for the thread, but not for one that is stuck in an item."""
        self._orders.put(False)
        self._thread.join(PATIENCE_SECONDS)

    def _work(self) -> None:
        try:
            while self._orders.get():
                self._answers.put(self._draw())
        finally:
            self._items.close()

    def _draw(self) -> T | _End | BaseException:
        try:
            return next(self._items)
        except StopIteration:
            return _End()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for whoever asked
            return error
