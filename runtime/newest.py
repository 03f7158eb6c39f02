"""The newest frame of a source: a thread draws what comes into a slot for one, and counts what it replaces there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

from solov2_edge.errors import InputError
from solov2_edge.runtime.source import CLOSE_PATIENCE_SECONDS, Frame, Mode, Source

__all__ = ["Newest"]


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    error: BaseException | None = None


class Newest:
    """Iterates over (frame, dropped so far): each frame is the newest there is when it is asked for.

    A source that keeps no pace of its own, a file, is played at its frame rate.

    Attributes:
        source: what is drawn from.
    """

    def __init__(self, source: Source) -> None:
        """Prepare; nothing is drawn before this is iterated over.

        Raises:
            InputError: the source has neither a pace of its own nor a frame rate.
        """
        if source.mode is not Mode.LIVE and source.fps is None:
            raise InputError(
                f"{source.description} has no frame rate to be played at, which live mode needs; "
                f"go through it in {source.mode.value} mode"
            )
        self.source = source
        self._monitor = threading.Condition()
        self._slot: Frame | None = None
        self._end: _End | None = None
        self._dropped = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[tuple[Frame, int]]:
        """Yield the newest frame and how many were dropped before it, until source and slot are empty.

        Raises:
            BaseException: what the source raised, after the last frame.
        """
        self._start()
        while True:
            with self._monitor:
                self._monitor.wait_for(lambda: self._slot is not None or self._end is not None)
                frame, self._slot = self._slot, None
                dropped, end = self._dropped, self._end
            if frame is not None:
                yield frame, dropped
            elif end is not None:
                if end.error is not None:
                    raise end.error
                return

    def close(self) -> None:
        """Wake and end whoever iterates, close the source, and wait for the thread, but no longer than two seconds."""
        start = perf_counter()
        with self._monitor:
            self._closed.set()
            self._slot, self._end = None, _End()
            self._monitor.notify_all()
        self.source.close()
        if self._thread is not None:
            self._thread.join(max(0.0, start + CLOSE_PATIENCE_SECONDS - perf_counter()))

    def _start(self) -> None:
        with self._monitor:
            if self._end is None:
                # A daemon: a read that is stuck in a driver does not keep the program from ending.
                self._thread = threading.Thread(target=self._draw, name="solov2-edge capture", daemon=True)
                self._thread.start()

    def _draw(self) -> None:
        end = _End()
        try:
            for frame in self._paced():
                with self._monitor:
                    if self._closed.is_set():
                        return
                    self._dropped += self._slot is not None
                    self._slot = frame
                    self._monitor.notify_all()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the reader's
            end = _End(error)
        with self._monitor:
            self._end = self._end or end
            self._monitor.notify_all()

    def _paced(self) -> Iterator[Frame]:
        if self.source.mode is Mode.LIVE or self.source.fps is None:
            yield from self.source
            return
        start: float | None = None
        for frame in self.source:
            start = perf_counter() if start is None else start
            self._closed.wait(max(0.0, start + frame.index / self.source.fps - perf_counter()))
            yield replace(frame, captured=perf_counter())
