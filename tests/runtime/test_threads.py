from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from solov2_edge.manifest import Manifest
from solov2_edge.runtime import RawOutputs, Segmenter, litert_delegates, load, segmenter, threads
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.threads import ORT_CONFIG, one_blas_thread, ort_threads, parse_cpu_list


def blas_threads() -> int:
    """Return the most threads of any BLAS: OpenCV may bring one that has a single one."""
    return max(int(library["num_threads"]) for library in ThreadpoolController().select(user_api="blas").info())


@pytest.fixture
def _two_blas_threads() -> Iterator[None]:
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        yield


@pytest.mark.usefixtures("_two_blas_threads")
def test_blas_has_one_thread_inside_and_its_own_number_after() -> None:
    assert blas_threads() == 2, "this numpy's BLAS is none that threadpoolctl knows"
    with one_blas_thread():
        assert blas_threads() == 1
        with one_blas_thread():
            assert blas_threads() == 1
        assert blas_threads() == 1
    assert blas_threads() == 2
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        _ = 1 / 0
    assert blas_threads() == 2


@pytest.mark.parametrize("first", ["leaves first", "leaves last"])
def test_threads_inside_at_once_leave_the_number_as_it_was(first: str) -> None:
    before = blas_threads()
    entered = [threading.Event() for _ in range(2)]
    leave = [threading.Event() for _ in range(2)]

    def stay(index: int) -> None:
        with one_blas_thread():
            entered[index].set()
            leave[index].wait(5)

    inside = [threading.Thread(target=stay, args=(index,)) for index in range(2)]
    for thread, event in zip(inside, entered, strict=True):
        thread.start()
        assert event.wait(5)
    assert blas_threads() == 1
    for index in (0, 1) if first == "leaves first" else (1, 0):
        leave[index].set()
        inside[index].join()
    assert blas_threads() == before


@pytest.mark.usefixtures("_two_blas_threads")
def test_decoding_takes_one_blas_thread(
    tiny_manifest: Manifest, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    decode = segmenter.decode  # type: ignore[attr-defined]

    def watched(*arguments: Any) -> Any:
        seen.append(blas_threads())
        return decode(*arguments)

    monkeypatch.setattr(segmenter, "decode", watched)
    segment = Segmenter(FakeSession(tiny_manifest, tiny_raw))
    segment(np.zeros((64, 96, 3), np.uint8))
    assert seen == [1]
    assert blas_threads() == 2


def topology(root: Path, siblings: dict[int, str]) -> Path:
    for cpu, text in siblings.items():
        folder = root / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text)
    return root


@pytest.mark.parametrize(
    ("allowed", "quota", "expected"),
    [
        ({0, 1, 2, 3, 4, 5, 6, 7}, 8, 4),
        ({0, 4}, 2, 1),
        ({0, 1}, 2, 2),
        ({5}, 1, 1),
        ({0, 1, 2, 3}, 2, 2),
        ({0, 9}, 2, None),
    ],
    ids=["all", "siblings", "two cores", "one thread of a core", "a container's share", "unknown"],
)
def test_one_thread_per_physical_core_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], quota: int, expected: int | None
) -> None:
    monkeypatch.setattr(
        threads, "TOPOLOGY", topology(tmp_path, {cpu: f"{cpu % 4},{cpu % 4 + 4}\n" for cpu in range(8)})
    )
    monkeypatch.setattr(litert_delegates, "available_cpus", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed, raising=False)
    assert ort_threads() == expected


def test_elsewhere_the_engine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert ort_threads() is None


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", {0}), ("0-3,8\n", {0, 1, 2, 3, 8}), ("2,6", {2, 6}), ("", set()), ("\n", set())]
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


def test_sessions_open_with_the_defaults(make_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solov2_edge.runtime.ort.ort_threads", lambda: 3)
    with load(make_onnx()) as segment:
        options = segment._session._session.get_session_options()  # type: ignore[attr-defined]
    assert options.intra_op_num_threads == 3
    assert {key: options.get_session_config_entry(key) for key in ORT_CONFIG} == ORT_CONFIG
