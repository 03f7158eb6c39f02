"""What the threads of the engine, BLAS and OpenCV cost one another: a 1080p frame, settings in turns.

``python benchmarks/threads.py`` measures the bundled model (``--artefact FILE``: another .onnx) with the shipped
settings, then each pool as it is by itself. Besides the medians: processor time of a frame, and what is burned in the
30 ms after it. ``--busy N`` starts N processes that compute all the time. ``--pinned`` binds the two threads of the
engine to a core each, which takes the scheduler's luck out of a comparison of spinning. Instances are compared after
timing.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.runtime import Segmenter, load, ort, segmenter
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.bench_frames import read_frames, resized
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.threads import ORT_CONFIG, one_blas_thread

FULL_HD = (1080, 1920)  # H x W
AFTER_SECONDS = 0.03
SPIN = "session.intra_op.spin_duration_us"
ALLOW = "session.intra_op.allow_spinning"
PIN = {"session.intra_op_thread_affinities": "2"}  # ONNX Runtime counts processors from 1


@dataclass(slots=True)
class Setting:
    """One way to set the three pools; ``rows`` holds (frame, network, decode, cpu, after) in ms."""

    name: str
    config: dict[str, str] = field(default_factory=lambda: dict(ORT_CONFIG))
    blas: Callable[[], AbstractContextManager[None]] = one_blas_thread
    opencv: int | None = None
    segment: Segmenter | None = None
    rows: list[tuple[float, ...]] = field(default_factory=list)


def settings(durations: list[int]) -> list[Setting]:
    """Return the shipped setting and its alternatives, one pool changed in each."""
    return [
        Setting("shipped"),
        Setting("engine spins (its default)", {}),
        Setting("engine spins during a run", {"session.force_spinning_stop": "1"}),
        Setting("engine never spins", {ALLOW: "0"}),
        *(Setting(f"engine spins {duration} us", {SPIN: str(duration)}) for duration in durations),
        Setting("BLAS on all cores", blas=contextlib.nullcontext),
        Setting("OpenCV on one", opencv=1),
        Setting("engine and BLAS by default", {}, contextlib.nullcontext),
    ]


def measure(setting: Setting, frame: NDArray[np.uint8]) -> tuple[float, ...]:
    """Time one frame and the processor time after it."""
    assert setting.segment is not None
    segmenter.one_blas_thread = setting.blas  # type: ignore[attr-defined]
    threads = cv2.getNumThreads()
    if setting.opencv is not None:
        cv2.setNumThreads(setting.opencv)
    time.sleep(PAUSE_SECONDS)
    cpu, start = time.process_time(), time.perf_counter()
    setting.segment(frame)
    end, spent = time.perf_counter(), time.process_time()
    time.sleep(AFTER_SECONDS)
    after = time.process_time() - spent
    cv2.setNumThreads(threads)
    timings = setting.segment.timings
    return 1e3 * (end - start), timings["network"], timings["decode"], 1e3 * (spent - cpu), 1e3 * after


def compute_for_ever() -> None:
    """Keep a core busy."""
    work = np.ones(1 << 16, np.float32)
    while True:
        np.sqrt(work, out=work)


def main() -> None:
    """Measure, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artefact", type=Path, default=bundle().artefact)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 0], help="0: the default (%(default)s)")
    parser.add_argument("--openings", type=int, default=5, help="times every session is opened (%(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="frames of each opening (%(default)s)")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="other processes that compute meanwhile")
    parser.add_argument("--spin", type=int, nargs="*", default=[], metavar="US", help="further durations to compare")
    parser.add_argument("--pinned", action="store_true")
    args = parser.parse_args()
    frames = resized(read_frames(bundle().pictures, 6), *FULL_HD)
    machine = read_machine()
    print(f"{machine.cpu}, {machine.usable_cores} cores, load {machine.load}, {args.busy} busy, {versions()}")
    others = [multiprocessing.Process(target=compute_for_ever, daemon=True) for _ in range(args.busy)]
    for other in others:
        other.start()
    order = np.random.default_rng(0)
    for threads in [2] if args.pinned else args.threads:
        turns = settings(args.spin)
        for opening in range(args.openings):
            reopen(turns, args.artefact, threads, opening, PIN if args.pinned else {})
            if args.pinned:
                os.sched_setaffinity(0, {0})
            for number in range(-1, args.rounds):
                # In random order: after one that burns time, a scheduler that shares it lets the next one wait.
                for index in order.permutation(len(turns)).tolist():
                    row = measure(turns[index], frames[number % len(frames)])
                    if number >= 0:
                        turns[index].rows.append(row)
            check(turns, frames)
            if args.pinned:
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
        show(turns, threads)
    for other in others:
        other.terminate()


def reopen(turns: list[Setting], path: Path, threads: int, first: int, extra: dict[str, str]) -> None:
    """Open every setting's session, another one first each time: where one's memory comes to lie moves its time."""
    shipped = dict(ORT_CONFIG)
    for index in np.roll(np.arange(len(turns)), first).tolist():
        setting = turns[index]
        if setting.segment is not None:
            setting.segment.close()
        ort.ORT_CONFIG = {**setting.config, **extra}
        setting.segment = load(path, threads=threads or None)
    ort.ORT_CONFIG = shipped


def check(turns: list[Setting], frames: Sequence[NDArray[np.uint8]]) -> None:
    """Compare the scores of every setting with the first one's."""
    for frame in frames:
        scores = [setting.segment(frame).scores for setting in turns if setting.segment is not None]
        for other in scores:
            np.testing.assert_array_equal(other, scores[0])


def show(turns: list[Setting], threads: int) -> None:
    """Print one line per setting; ratios are taken round by round to the shipped one."""
    print(
        f"\n{f'{threads} threads' if threads else 'default threads':<30}{'frame':>8}{'network':>9}{'decode':>8}", end=""
    )
    print(f"{'cpu':>8}{'after':>7}  ratio of frames (5..95 %), of networks")
    base = np.array(turns[0].rows)
    for setting in turns:
        table = np.array(setting.rows)
        low, ratio, high = np.percentile(table[:, 0] / base[:, 0], (5, 50, 95)).tolist()
        network = float(np.median(table[:, 1] / base[:, 1]))
        values = np.median(table, axis=0).tolist()
        shown = "".join(f"{value:>{width}.1f}" for value, width in zip(values, (8, 9, 8, 8, 7), strict=True))
        print(f"{setting.name:<30}{shown}  {ratio:.2f} ({low:.2f}..{high:.2f}), {network:.2f}", flush=True)


if __name__ == "__main__":
    main()
