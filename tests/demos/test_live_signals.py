from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from solov2_edge.demos.live_reader import Reader
from solov2_edge.demos.live_signals import EndSignals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def alone(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test in a Python of its own, as the verb does: a signal that is not caught ends a whole process."""

    @functools.wraps(test)
    def run() -> None:
        code = f"import runpy; runpy.run_path({__file__!r})[{test.__name__!r}].__wrapped__()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr or f"ended with {done.returncode}"

    return run


def send(number: int) -> None:
    """Send a signal to the main thread: the process's own may reach another thread, and after the test."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


@alone
def test_only_what_is_interruptible_is_interrupted() -> None:
    with EndSignals() as signals:
        send(signal.SIGTERM)
        assert signals.received == signal.SIGTERM  # and nothing was raised
        with pytest.raises(KeyboardInterrupt), signals.interruptible():
            raise AssertionError("one that came before counts at once")
        with pytest.raises(KeyboardInterrupt), signals.interruptible():
            pass


@alone
def test_waiting_is_interrupted() -> None:
    with EndSignals() as signals:
        timer = threading.Timer(0.05, send, [signal.SIGTERM])
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), signals.interruptible():
            time.sleep(20)
        assert time.monotonic() - start < 10
        timer.join()


@alone
def test_who_insists_is_heard_while_things_are_closed() -> None:
    with EndSignals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        assert signals.received == signal.SIGTERM


@alone
def test_everything_is_as_before_afterwards_and_what_is_ignored_stays_so() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in numbers]
        with EndSignals() as signals:
            send(signal.SIGHUP)
            assert signals.received == 0
        assert [signal.getsignal(number) for number in numbers] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_it_does_nothing() -> None:
    seen: list[int] = []

    def work() -> None:
        with EndSignals() as signals, signals.interruptible():
            seen.append(signals.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


def test_a_reader_asks_only_when_told_and_closes_what_it_reads() -> None:
    drawn: list[int] = []
    closed = threading.Event()

    def items():
        try:
            for index in range(3):
                drawn.append(index)
                yield index
        finally:
            closed.set()

    reader = Reader(items())
    assert [reader.next(lambda: True, 1.0), reader.next(lambda: True, 1.0)] == [0, 1]
    time.sleep(0.05)
    assert drawn == [0, 1]
    reader.close()
    assert closed.is_set()


def test_a_reader_gives_up_waiting_when_told() -> None:
    go_on = threading.Event()

    def items():
        go_on.wait()
        yield 1

    reader = Reader(items())
    asked: list[int] = []

    def meanwhile() -> bool:
        asked.append(1)
        return len(asked) < 3

    assert reader.next(meanwhile, 0.01) is None
    assert len(asked) == 3
    go_on.set()
    reader.close()


def test_a_reader_passes_on_ends_and_errors() -> None:
    def items():
        yield 1
        raise OSError("torn")

    reader = Reader(items())
    assert reader.next(lambda: True, 1.0) == 1
    with pytest.raises(OSError, match="torn"):
        reader.next(lambda: True, 1.0)
    assert reader.next(lambda: True, 1.0) is None
    reader.close()
