"""Order, bounds, errors in their place, and that nothing is left running; a hang ends as a failure."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import pipeline as pipelines
from solov2_edge.runtime.pipeline import Pipeline

pytestmark = pytest.mark.usefixtures("no_thread_left")


def double(value: int) -> int:
    return 2 * value


def minus(value: int) -> int:
    return -value


def both(source: Iterator[Any], depth: int = 3, **stages: Callable[[Any], Any]) -> Pipeline:
    return Pipeline(source, {"double": double, "minus": minus, **stages}, depth)


@pytest.mark.parametrize("depth", [1, 2, 3, 50])
def test_everything_arrives_in_order(depth: int) -> None:
    assert list(both(iter(range(200)), depth).results()) == [-2 * value for value in range(200)]
    assert list(both(iter(()), depth).results()) == []


def test_order_holds_whoever_is_slow() -> None:
    pauses = itertools.cycle([0, 0.003, 0, 0.001])

    def slow(value: int) -> int:
        time.sleep(next(pauses))
        return value

    assert list(Pipeline(map(slow, range(40)), {"a": slow, "b": slow}, 3).results()) == list(range(40))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_an_endless_source_is_drawn_no_further_than_the_depth(depth: int) -> None:
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    results = both(endless(), depth).results()
    for taken in range(1, 6):
        next(results)
        wait_for(lambda taken=taken: drawn == taken + depth)  # type: ignore[misc]
    time.sleep(0.05)
    assert drawn == 5 + depth
    results.close()


def test_stages_work_at_the_same_time_unless_the_depth_is_1() -> None:
    together = threading.Barrier(3, timeout=5)

    def meet(value: int) -> int:
        together.wait()  # passes only when the source and both stages are in it
        return value

    def source() -> Iterator[int]:
        yield from (0, 1)
        meet(2)

    def once(number: int) -> Callable[[int], int]:
        return lambda value: meet(value) if value == number else value

    assert list(Pipeline(source(), {"a": once(1), "b": once(0)}, 3).results()) == [0, 1]

    inside, most = 0, 0

    def count(value: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1
        return value

    assert len(list(Pipeline(map(count, range(8)), {"a": count, "b": count}, 1).results())) == 8
    assert most == 1


def fail_at(place: int) -> Callable[[int], int]:
    def stage(value: int) -> int:
        if value == place:
            raise ValueError(f"at {place}")
        return value

    return stage


@pytest.mark.parametrize("place", [0, 1, 7])
@pytest.mark.parametrize("where", ["source", "a", "b"])
def test_an_error_comes_in_its_place(where: str, place: int) -> None:
    source = map(fail_at(place) if where == "source" else int, itertools.count())
    stages = {name: fail_at(place) if where == name else int for name in "ab"}
    results = Pipeline(source, stages, 4).results()
    assert [next(results) for _ in range(place)] == list(range(place))
    with pytest.raises(ValueError, match=f"at {place}") as caught:
        next(results)
    assert caught.traceback[-1].name == "stage"  # where it happened, in the other thread
    assert list(results) == []


def test_errors_that_are_not_exceptions_arrive_too() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise SystemExit(3)

    results = both(source()).results()
    assert next(results) == -2
    with pytest.raises(SystemExit):
        next(results)


def test_a_stage_cannot_end_the_stream_by_mistake() -> None:
    results = Pipeline(itertools.count(), {"a": lambda value: next(iter(()))}, 2).results()
    with pytest.raises(RuntimeError) as caught:
        next(results)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_leaving_the_loop_ends_the_threads() -> None:
    for value in both(itertools.count()).results():
        if value == -10:
            break
    assert not alive()


def test_a_stream_nobody_reads_starts_nothing() -> None:
    drawn: list[int] = []
    results = both(map(drawn.append, range(3))).results()
    time.sleep(0.02)
    assert not drawn
    assert not alive()
    results.close()
    assert list(results) == []


def test_closing_while_every_stage_is_at_work() -> None:
    def slow(value: int) -> int:
        time.sleep(0.03)
        return value

    results = Pipeline(map(slow, itertools.count()), {"a": slow, "b": slow}, 6).results()
    next(results)
    results.close()
    assert not alive()


@pytest.mark.parametrize("waiting", [True, False], ids=["reader waits", "reader is elsewhere"])
def test_stopping_from_another_thread_gives_the_reader_the_reason(waiting: bool) -> None:
    def source() -> Iterator[int]:
        yield 1
        wait_for(lambda: pipeline._stopped)
        yield 2

    pipeline = both(source())
    results = pipeline.results()
    next(results)
    helper = threading.Timer(0.02, pipeline.stop, (InputError("closed"),))
    helper.start()
    if not waiting:
        helper.join()
    with pytest.raises(InputError, match="closed"):
        next(results)
    helper.join()


def test_a_source_may_stop_what_reads_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        pipeline.stop(InputError("enough"))
        yield 2

    pipeline = both(source())
    results = pipeline.results()
    with pytest.raises(InputError, match="enough"):
        list(results)


def test_a_stuck_source_does_not_hold_up_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "SOURCE_PATIENCE_SECONDS", 0.05)
    released = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        released.wait(10)

    results = both(source()).results()
    next(results)
    results.close()
    assert [thread.name for thread in alive()] == ["solov2-edge source"]
    released.set()
    wait_for(lambda: not alive())


def test_nothing_is_kept_of_what_was_dropped() -> None:
    class Item:
        pass

    kept: weakref.WeakSet[Item] = weakref.WeakSet()

    def source() -> Iterator[Item]:
        while True:
            item = Item()
            kept.add(item)
            yield item

    gc.disable()  # so that nothing hangs in a cycle either
    try:
        results = Pipeline(source(), {"a": lambda item: item, "b": fail_third()}, 4).results()
        assert [type(next(results)) for _ in range(2)] == [Item, Item]
        with contextlib.suppress(ValueError):  # pytest.raises would keep it
            next(results)
        del results
        assert not kept
    finally:
        gc.enable()


def fail_third() -> Callable[[Any], Any]:
    count = itertools.count(1)

    def stage(item: Any) -> Any:
        if next(count) == 3:
            raise ValueError("third")
        return item

    return stage


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal to one thread, which Windows has not")
def test_ctrl_c_while_waiting_ends_the_threads() -> None:
    def source() -> Iterator[int]:
        yield 1
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.05)
        yield 2

    # A shell's background jobs ignore the signal, and Python then leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in both(source()).results():
                pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert not alive()


@pytest.mark.parametrize("stuck", [False, True])
def test_a_program_ends_with_a_stream_half_read(stuck: bool) -> None:
    code = (
        "import itertools, time\n"
        "from solov2_edge.runtime import pipeline\n"
        "pipeline.SOURCE_PATIENCE_SECONDS = 0.1\n"
        "def source():\n"
        "    yield from range(5)\n"
        f"    time.sleep({60 if stuck else 0.01})\n"
        "    yield from itertools.count()\n"
        "results = pipeline.Pipeline(source(), {'a': abs, 'b': abs}, 4).results()\n"
        "print([next(results) for _ in range(5)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[0, 1, 2, 3, 4]"
    assert done.stderr == ""


@pytest.mark.parametrize("depth", [0, -1, 2.0, True, "3"])
def test_a_depth_is_a_whole_number(depth: Any) -> None:
    with pytest.raises(InputError, match="depth must be a whole number of at least 1"):
        both(iter(()), depth)


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("solov2-edge ")]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)
