"""How old a live frame is when its instances are ready, at any speed of the model: ``watch`` in LIVE mode.

``python benchmarks/live_latency.py`` takes about 25 seconds. A test source plays the camera. Models are the bundled one
and its recorded outputs given after a pause, from far faster than the camera to far slower, in turns, with one and two
frames under way. The frame time is that of the slower of camera and model (its three steps one after the other); the
bound is two of them, judged frame by frame with what the model took for that very frame. VIDEO mode, which leaves
nothing out, is there for comparison; the test source waits for it, where a real camera would pile up frames. Results
are compared with calls after timing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.runtime import Mode, RawOutputs, Segmenter, load, watch
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.source_shapes import ShapeSource

SIZE = (640, 480)
PAUSES_MS = (0, 10, 30, 60, 150)
DEPTHS = (1, 2)
WARM = 2  # results left out at the start: the first frame waits for nothing
LATE = "VIDEO"


@dataclass
class Row:
    """What one model did at one depth, over all rounds."""

    latency: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    period: list[float] = field(default_factory=list)
    dropped: int = 0
    seen: int = 0


def slowed(real: Segmenter, outputs: RawOutputs, pause: float) -> Segmenter:
    """Return a segmenter that gives recorded outputs after a pause of so many milliseconds."""

    def run(batch: NDArray[Any]) -> RawOutputs:
        time.sleep(pause / 1e3)
        return outputs

    return Segmenter(FakeSession(real.manifest, run), real.options)


def measure(segment: Segmenter, fps: float, seconds: float, depth: int, mode: Mode, row: Row) -> None:
    """Watch a camera for some seconds."""
    frames = max(12, round(fps * seconds))
    ready: list[float] = []
    for result in islice(watch(segment, ShapeSource(*SIZE, fps, frames), mode=mode, depth=depth), WARM, None):
        ready.append(result.frame.captured + result.latency / 1e3)
        row.latency.append(result.latency)
        row.model.append(sum(result.timings.values()) - result.timings["capture"])
    assert result.frame.index == frames - 1, "the last frame is never dropped"
    assert (len(ready) + WARM + result.dropped) == frames, "every frame is either seen or counted"
    row.period += (1e3 * np.diff(ready)).tolist()
    row.dropped += result.dropped
    row.seen += frames


def check(segment: Segmenter) -> None:
    """Compare a stream's instances with those of calls on the same frames."""
    compared = 0
    for result in islice(watch(segment, ShapeSource(*SIZE, 30, 20)), 4):
        wanted = segment(result.frame.image)
        np.testing.assert_array_equal(result.instances.scores, wanted.scores)
        np.testing.assert_array_equal(result.instances.labels, wanted.labels)
        assert result.instances.cropped.corners == wanted.cropped.corners
        compared += len(wanted)
    assert compared > 0


def main() -> None:
    """Measure, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", type=float, default=30, help="of the camera; default: 30")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one run; default: 1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(f"{read_machine().cpu}, load {read_machine().load}, {versions()}")
    with load(bundle().artefact, threads=args.threads) as real:
        outputs = real.raw(next(iter(ShapeSource(*SIZE, 0))).image)
        models: dict[str, Segmenter] = {f"pause {pause} ms": slowed(real, outputs, pause) for pause in PAUSES_MS}
        models[f"bundled, {args.threads} thread(s)"] = real
        runs: dict[tuple[str, str], tuple[Callable[[Row], None], Row]] = {}
        for name, segment in models.items():
            for depth in DEPTHS:
                runs[name, f"LIVE {depth}"] = (run_of(segment, args, depth, Mode.LIVE), Row())
        slow = f"pause {PAUSES_MS[-2]} ms"
        runs[slow, LATE] = (run_of(models[slow], args, 3, Mode.VIDEO), Row())
        for _ in range(args.rounds):
            for run, row in runs.values():
                run(row)
        print(
            f"{'model':<22}{'mode':<8}{'model ms':>9}{'results/s':>10}{'dropped':>9}"
            f"{'latency p50':>12}{'p95':>7}{'max':>7}{'frame times p50':>17}{'p95':>5}{'max':>5}{'under 2':>9}"
        )
        for (name, mode), (_, row) in runs.items():
            p50, p95 = np.percentile(row.latency, (50, 95)).tolist()
            times = np.asarray(row.latency) / np.maximum(row.model, 1e3 / args.fps)
            middle, high = np.percentile(times, (50, 95)).tolist()
            print(
                f"{name:<22}{mode:<8}{np.median(row.model):>9.1f}{1e3 / (np.mean(row.period or [np.nan])):>10.1f}"
                f"{row.dropped / row.seen:>9.0%}{p50:>12.1f}{p95:>7.1f}{max(row.latency):>7.1f}"
                f"{middle:>17.2f}{high:>5.2f}{times.max():>5.2f}{np.mean(times < 2):>9.0%}"
            )
        for segment in models.values():
            check(segment)


def run_of(segment: Segmenter, args: argparse.Namespace, depth: int, mode: Mode) -> Callable[[Row], None]:
    """Return a measurement that adds to a row."""
    return lambda row: measure(segment, args.fps, args.seconds, depth, mode, row)


if __name__ == "__main__":
    main()
