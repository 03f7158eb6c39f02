"""A source over a connection that may break: read, skip what is corrupt, reopen what vanished, let go when told to."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

from numpy.typing import NDArray

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.runtime.pictures import as_frame
from solov2_edge.runtime.source import CLOSE_PATIENCE_SECONDS, Frame, Mode, Source, SourceStatus

__all__ = ["Connection", "ConnectionLostError", "ConnectionSource"]

FIRST_PAUSE_SECONDS = 0.5  # before a camera is looked for again; doubled after every try
LONGEST_PAUSE_SECONDS = 8.0


class ConnectionLostError(SolovEdgeError):
    """No frame will come from a connection any more; the message says why, and is empty at a regular end."""


class Connection(Protocol):
    """One opening of a device, stream or file; used by one thread, but for :meth:`interrupt`."""

    def read(self) -> NDArray[Any] | None:
        """Wait for the next frame, as :func:`~solov2_edge.runtime.pictures.as_frame` takes it.

        Returns:
            None for a frame that came but cannot be decoded.

        Raises:
            ConnectionLostError: there are no more, or none came in time.
        """
        ...

    def interrupt(self) -> None:
        """Make a read that waits in another thread give up, where the system can; may come after closing."""
        ...

    def close(self) -> None:
        """Let go of it; called once, never during a read."""
        ...


class ConnectionSource(Source):
    """Frames of a connection, and of those that follow it when it breaks.

    Frames of a camera carry the seconds since its first one; frames of a file what its rate makes of their index.
    """

    def __init__(
        self,
        description: str,
        connection: Connection,
        connect: Callable[[], Connection],
        *,
        mode: Mode,
        fps: float | None,
        reopen: float,
        cure: str,
    ) -> None:
        """Take over an open connection.

        Args:
            description: what it is, in words.
            connection: the first.
            connect: opens another; an InputError means that it is not there (yet).
            mode: LIVE for what gives frames at its own pace.
            fps: frames per second, if known.
            reopen: seconds to look for it after it vanished; 0 for never, infinite for always.
            cure: what to do where not a single frame comes, as a part of a sentence.
        """
        self.description = description
        self.mode = mode
        self.fps = fps
        self._connection: Connection | None = connection
        self._connect = connect
        self._reopen = reopen
        self._cure = cure
        self._closed = threading.Event()
        self._busy = threading.Lock()  # held while the connection is read, replaced or closed
        self._status = SourceStatus()
        self._vanished: float | None = None  # when, in perf_counter() seconds
        self._pause = FIRST_PAUSE_SECONDS

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames; see :class:`~solov2_edge.runtime.source.Source`.

        Raises:
            InputError: not a single frame came.
        """
        index, first = 0, math.nan
        while True:
            try:
                image = self._read()
            except ConnectionLostError as error:
                if self._closed.is_set():
                    return
                if math.isnan(first):
                    self._end(str(error))
                    why = f" ({error})" if str(error) else ""
                    raise InputError(f"{self.description} gives no frame{why}; {self._cure}") from error
                if not self._revive(str(error)):
                    self._end()
                    return
                continue
            captured = perf_counter()
            if image is None:
                self._status = replace(self._status, corrupt=self._status.corrupt + 1)
            else:
                self._came_back()
                first = captured if math.isnan(first) else first
                live = self.mode is Mode.LIVE
                seconds = captured - first if live else index / self.fps if self.fps else None
                yield Frame(as_frame(image), index, captured, seconds=seconds)
            index += 1

    def status(self) -> SourceStatus:
        """Return how it is doing."""
        status = self._status
        return replace(status, state="closed") if self._closed.is_set() and status.state != "ended" else status

    def close(self) -> None:
        """End the iteration and let go of the connection, if need be when the read under way returns."""
        if self._closed.is_set():
            return
        self._closed.set()
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        if self._busy.acquire(timeout=CLOSE_PATIENCE_SECONDS):
            try:
                self._drop()
            finally:
                self._busy.release()

    def _read(self) -> NDArray[Any] | None:
        with self._busy:
            try:
                if self._closed.is_set() or self._connection is None:
                    raise ConnectionLostError("")
                return self._connection.read()
            finally:
                if self._closed.is_set():
                    self._drop()

    def _revive(self, why: str) -> bool:
        """Look for the camera until it is back; False where it is not looked for, did not come back, or was closed."""
        with self._busy:
            self._drop()
        self._status = replace(self._status, message=why)
        if self._vanished is None:
            self._vanished, self._pause = perf_counter(), FIRST_PAUSE_SECONDS
        while (left := self._vanished + self._reopen - perf_counter()) > 0:
            self._status = replace(self._status, state="reopening")
            if self._closed.wait(min(self._pause, left)):
                return False
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            with self._busy:
                try:
                    self._connection = self._connect()
                except InputError as error:
                    self._status = replace(self._status, message=str(error))
                else:
                    return True
        return False

    def _came_back(self) -> None:
        """Count a camera as back once it gives a frame: one that can be opened and gives none is still away."""
        if self._vanished is not None:
            self._vanished = None
            self._status = replace(self._status, state="open", reopened=self._status.reopened + 1)

    def _end(self, message: str | None = None) -> None:
        with self._busy:
            self._drop()
        if not self._closed.is_set():
            kept = self._status.message if message is None else message
            self._status = replace(self._status, state="ended", message=kept)

    def _drop(self) -> None:
        """Close the connection; the lock is held."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
