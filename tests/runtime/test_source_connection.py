"""A source whose connection breaks: what is skipped, what is reopened and when, and how it ends."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime import source_connection
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_connection import ConnectionLostError, ConnectionSource

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Script:
    """A connection that gives what it is told: numbers for frames, None for corrupt ones, then it is lost."""

    def __init__(self, frames: Sequence[int | None], lost: str = "unplugged") -> None:
        self.frames = list(frames)
        self.lost = lost
        self.closed = 0

    def read(self) -> NDArray[Any] | None:
        assert not self.closed
        if not self.frames:
            raise ConnectionLostError(self.lost)
        grey = self.frames.pop(0)
        return None if grey is None else np.full((4, 5, 3), grey, np.uint8)

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


class Connect:
    """Opens what is listed, one after the other; an error says that the camera is not there."""

    def __init__(self, *attempts: Script | InputError) -> None:
        self.attempts = list(attempts)

    def __call__(self) -> Script:
        attempt = self.attempts.pop(0)
        if isinstance(attempt, InputError):
            raise attempt
        return attempt


def make(first: Any, connect: Callable[[], Any], reopen: float = math.inf, mode: Mode = Mode.LIVE) -> ConnectionSource:
    return ConnectionSource("it", first, connect, mode=mode, fps=10, reopen=reopen, cure="do something")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make pauses take no time, and note them."""
    noted: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            noted.append(timeout or 0)
            return self.is_set()

    monkeypatch.setattr(source_connection, "threading", SimpleNamespace(Event=Event, Lock=threading.Lock))
    return noted


def test_corrupt_frames_are_skipped_and_counted() -> None:
    source = make(Script([10, None, 20, None, None, 30], ""), Connect(), reopen=0, mode=Mode.VIDEO)
    frames = list(source)
    assert [(frame.index, int(frame.image[0, 0, 0])) for frame in frames] == [(0, 10), (2, 20), (5, 30)]
    assert [frame.seconds for frame in frames] == [0, 0.2, 0.5]
    status = source.status()
    assert (status.state, status.corrupt, status.reopened, status.message) == ("ended", 3, 0, "")


def test_what_vanished_is_looked_for_with_growing_pauses(pauses: list[float]) -> None:
    gone = InputError("not there")
    first, second = Script([1]), Script([2, 3])
    connect = Connect(gone, gone, gone, gone, gone, gone, second, gone, Script([4]))
    source = make(first, connect)
    frames = iter(source)
    assert [int(next(frames).image.max()) for _ in range(3)] == [1, 2, 3]
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]
    assert source.status().reopened == 1
    assert first.closed == 1
    last = next(frames)
    assert (last.index, int(last.image.max())) == (3, 4)
    assert pauses[7:] == [0.5, 1], "they begin anew"
    assert (source.status().state, source.status().reopened) == ("open", 2)
    source.close()
    assert second.closed == 1


def test_one_that_opens_and_gives_nothing_is_still_away(pauses: list[float]) -> None:
    source = make(Script([1]), Connect(Script([]), Script([]), Script([2])))
    frames = iter(source)
    assert [int(next(frames).image.max()) for _ in range(2)] == [1, 2]
    assert pauses == [0.5, 1, 2]
    assert source.status().reopened == 1


def test_its_state_is_visible_while_it_is_away(pauses: list[float]) -> None:
    seen = []

    def connect() -> Script:
        seen.append(source.status())
        if len(seen) < 2:
            raise InputError("not there")
        return Script([2])

    source = make(Script([1]), connect)
    source_frames = iter(source)
    next(source_frames)
    assert source.status().state == "open"
    next(source_frames)
    assert [(status.state, status.message) for status in seen] == [
        ("reopening", "unplugged"),
        ("reopening", "not there"),
    ]
    assert source.status().state == "open"
    source.close()


def test_it_is_given_up_after_the_time_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock[0] += timeout or 0
            return False

    def absent() -> Script:
        raise InputError("not there")

    monkeypatch.setattr(source_connection, "threading", SimpleNamespace(Event=Event, Lock=threading.Lock))
    monkeypatch.setattr(source_connection, "perf_counter", lambda: clock[0])
    source = make(Script([1]), absent, reopen=5)
    assert len(list(source)) == 1
    assert clock[0] == 5
    assert (source.status().state, source.status().message) == ("ended", "not there")


def test_one_that_is_not_to_be_reopened_ends() -> None:
    source = make(Script([1]), Connect(), reopen=0)
    assert len(list(source)) == 1
    assert (source.status().state, source.status().message) == ("ended", "unplugged")


@pytest.mark.parametrize("lost", ["", "unplugged"])
def test_not_a_single_frame_is_an_error(lost: str) -> None:
    first = Script([None, None], lost)
    source = make(first, Connect())
    with pytest.raises(InputError, match=r"^it gives no frame(?: \(unplugged\))?; do something$"):
        next(iter(source))
    assert (source.status().state, source.status().corrupt, first.closed) == ("ended", 2, 1)


def test_odd_frames_are_brought_to_bgr() -> None:
    class Grey(Script):
        def read(self) -> NDArray[Any] | None:
            image = super().read()
            return None if image is None else np.asarray(image[:, :, 0], np.uint16) * 257

    (frame,) = make(Grey([7], ""), Connect(), reopen=0)
    assert frame.image.shape == (4, 5, 3)
    assert set(frame.image.ravel().tolist()) == {7}


@pytest.mark.parametrize("started", [False, True])
def test_closing_lets_go_once_and_ends_the_iteration(started: bool) -> None:
    first = Script([1, 2, 3])
    source = make(first, Connect())
    frames = iter(source)
    if started:
        next(frames)
    source.close()
    source.close()
    assert list(frames) == []
    assert first.closed == 1
    assert source.status().state == "closed"


def test_closing_wakes_who_waits_for_a_camera_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_connection, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(source_connection, "LONGEST_PAUSE_SECONDS", 100.0)
    away = threading.Event()

    def absent() -> Script:
        source._pause = 100.0
        away.set()
        raise InputError("not there")

    source = make(Script([1]), absent)
    rest: list[Any] = []
    reader = threading.Thread(target=lambda: rest.extend(source), name="solov2-edge reader")
    reader.start()
    assert away.wait(10)
    source.close()
    reader.join(10)
    assert not reader.is_alive()
    assert len(rest) == 1


def test_a_read_that_hangs_does_not_hang_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that cannot be interrupted: closing gives up waiting, and the reader lets go when it returns."""
    monkeypatch.setattr(source_connection, "CLOSE_PATIENCE_SECONDS", 0.05)
    reading, answer = threading.Event(), threading.Event()

    class Stuck(Script):
        def read(self) -> NDArray[Any] | None:
            reading.set()
            assert answer.wait(10)
            return super().read()

    first = Stuck([1])
    source = make(first, Connect())
    given: list[Any] = []
    reader = threading.Thread(target=lambda: given.extend(source), name="solov2-edge reader")
    reader.start()
    assert reading.wait(10)
    source.close()
    assert reader.is_alive()
    assert first.closed == 0, "not during a read"
    answer.set()
    reader.join(10)
    assert first.closed == 1
    assert source.status().state == "closed"


def test_a_connection_made_while_it_was_closed_is_let_go(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setattr(source_connection, "CLOSE_PATIENCE_SECONDS", 0.05)
    late = Script([2])

    def connect() -> Script:
        closing = threading.Thread(target=source.close)
        closing.start()
        closing.join()
        return late

    source = make(Script([1]), connect)
    assert len(list(source)) == 1
    assert late.closed == 1
