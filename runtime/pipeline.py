"""A pipeline of threads: items of a source through stages that work at the same time, in order, in bounded memory.

One thread draws from the source, one works each stage, all under one lock. An item is *under way* from the moment the
source is asked for it until it is handed over; ``depth`` bounds their number, and with it memory and latency, however
slow the reader and endless the source.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from solov2_edge.errors import require

__all__ = ["Pipeline"]

Lane = deque[Any]
# What the reader's end waits for a source that is in the middle of an item, which nobody can interrupt.
SOURCE_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Last:
    """Stands in a lane for the source's end, or for an item that could not be made; nothing follows it."""

    error: BaseException | None = None


class Pipeline:
    """Draws from a source ahead of its reader.

    Threads start when :meth:`results` is first asked for an item. They are gone when it has ended, for whatever reason;
    only one whose source never answers is left behind, after a patience of two seconds, and holds up neither its
    reader nor the program's end.
    """

    def __init__(
        self,
        source: Iterator[Any],
        stages: Mapping[str, Callable[[Any], Any]],
        depth: int,
        patience: float | None = SOURCE_PATIENCE_SECONDS,
    ) -> None:
        """Connect the stages; nothing is drawn yet.

        Args:
            source: drawn from in a thread of its own; let go of, but not closed, in the end.
            stages: name -> what turns an item into the next stage's; without any, the source works ahead of its reader.
            depth: items under way at most, at least 1; 1 lets no two stages work at the same time.
            patience: seconds to wait for the source in the end; None for however long its item takes.

        Raises:
            InputError: depth is not a whole number of at least 1.
        """
        require(
            isinstance(depth, int) and not isinstance(depth, bool) and depth >= 1,
            f"depth must be a whole number of at least 1, got {depth!r}",
        )
        self._source: Iterator[Any] | None = source
        self._stages = dict(stages)
        self._depth = depth
        self._patience = patience
        self._under_way = 0
        self._lanes: tuple[Lane, ...] = tuple(deque() for _ in range(len(self._stages) + 1))
        self._monitor = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._reason: BaseException | None = None

    def results(self) -> Generator[Any, None, None]:
        """Yield every item once it is through all stages, in the source's order; may be called once.

        Raises:
            BaseException: what the source or a stage raised, where its item would have come; or the reason given to
                :meth:`stop`.
        """
        try:
            self._start()
            while not isinstance(item := self._take(self._lanes[-1], leaves=True), _Last):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            item = None  # its error's traceback holds this frame, and this frame would hold the error
            self.stop()

    def stop(self, reason: BaseException | None = None) -> None:
        """Drop what is under way and wait for the threads; a reader who comes back gets the reason, or the end."""
        with self._monitor:
            if not self._stopped:
                self._stopped, self._reason = True, reason
            self._source = None
            for lane in self._lanes:
                lane.clear()
            self._monitor.notify_all()
        atexit.unregister(self.stop)
        if threading.current_thread() in self._threads:  # a source may stop what reads it, and cannot wait for itself
            return
        for index, thread in enumerate(self._threads):
            thread.join(self._patience if index == 0 else None)

    def _start(self) -> None:
        source, self._source = self._source, None
        if source is None:  # stopped before anybody read
            return
        # A daemon whose source is stuck does not keep the program from ending; the others are waited for there.
        atexit.register(self.stop)
        work: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [("source", self._feed, (source,))]
        for index, (name, stage) in enumerate(self._stages.items()):
            work.append((name, self._work, (stage, self._lanes[index], self._lanes[index + 1])))
        for name, target, arguments in work:
            thread = threading.Thread(target=target, args=arguments, name=f"solov2-edge {name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _feed(self, source: Iterator[Any]) -> None:
        more = True
        while more and self._enter():
            more = self._put(self._lanes[0], _attempt(next, source, StopIteration))

    def _work(self, stage: Callable[[Any], Any], lane: Lane, following: Lane) -> None:
        more = True
        while more:
            item = self._take(lane)
            more = self._put(following, item if isinstance(item, _Last) else _attempt(stage, item))
            del item  # while it waits, a worker keeps nothing

    def _enter(self) -> bool:
        """Wait until another item may be under way; False once stopped."""
        with self._monitor:
            self._monitor.wait_for(lambda: self._stopped or self._under_way < self._depth)
            self._under_way += 1
            return not self._stopped

    def _take(self, lane: Lane, *, leaves: bool = False) -> Any:
        """Wait for an item; it ``leaves`` the pipeline at its end. Once stopped: the reason, or the end."""
        with self._monitor:
            self._monitor.wait_for(lambda: self._stopped or lane)
            if self._stopped:
                return _Last(self._reason)
            if leaves:
                self._under_way -= 1
                self._monitor.notify_all()
            return lane.popleft()

    def _put(self, lane: Lane, item: Any) -> bool:
        """Hand an item on; False if nothing may follow it."""
        with self._monitor:
            if not self._stopped:
                lane.append(item)
                self._monitor.notify_all()
        return not isinstance(item, _Last)


def _attempt(make: Callable[[Any], Any], argument: Any, end: type[BaseException] | tuple[()] = ()) -> Any:
    """Return what ``make`` makes, or what stands for its end or its error."""
    try:
        return make(argument)
    except end:
        return _Last()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the reader's
        return _Last(error)
