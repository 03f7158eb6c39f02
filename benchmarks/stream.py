"""Frames per second of ``Segmenter.stream()`` against calling frame by frame: 1080p, ONNX Runtime and LiteRT.

``python benchmarks/stream.py`` converts the bundled model to int8 (half a minute, once), then
measures float32 and int8, or the artefacts named: in turns, a run over the same frames by calls and one by a stream,
on frames in memory and out of a video file. Ratios are taken round by round; instances are compared bit for bit after
timing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from kept import kept_folder
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.manifest import sha256_of
from solov2_edge.runtime import Instances, Segmenter, load
from solov2_edge.runtime.artefact import read_sidecar
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.bench_frames import read_frames, resized
from solov2_edge.runtime.frame_stream import DEPTH
from solov2_edge.runtime.machine import read_machine, versions

FULL_HD = (1080, 1920)  # H x W
INPUT = (448, 448)
Source = Callable[[], Iterator[NDArray[np.uint8]]]


def int8_artefact(folder: Path) -> Path:
    """Return the bundled model as an int8 file, converting it with the shipped pictures if the folder has none."""
    from solov2_edge.checkpoint import load_model
    from solov2_edge.converters.calibration import read_calibration
    from solov2_edge.converters.to_onnx import export_onnx

    files, path = bundle(), folder / "nano-nuclei.int8.onnx"
    digest = sha256_of(files.checkpoint)
    kept = path.exists() and (read_sidecar(path) or None)
    if not kept or kept.source_sha256 != digest:
        calibration = read_calibration(files.calibration)
        export_onnx(
            load_model(files.checkpoint)[0],
            path,
            height=INPUT[0],
            width=INPUT[1],
            precision="int8",
            calibration=calibration,
            source_sha256=digest,
        )
    return path


def write_video(path: Path, frames: tuple[NDArray[np.uint8], ...]) -> None:
    """Write the frames as a video, so that reading one costs what a file's costs."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, FULL_HD[::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()


def video(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video."""
    capture = cv2.VideoCapture(str(path))
    while True:
        good, frame = capture.read()
        if not good:
            return
        yield np.asarray(frame, np.uint8)


def by_calls(segment: Segmenter, source: Source) -> tuple[float, list[Instances]]:
    """Return the seconds and the instances of calling frame by frame."""
    start = time.perf_counter()
    found = [segment(frame) for frame in source()]
    return time.perf_counter() - start, found


def by_stream(segment: Segmenter, source: Source, depth: int) -> tuple[float, list[Instances]]:
    """Return the seconds and the instances of a stream."""
    start = time.perf_counter()
    found = [result.instances for result in segment.stream(source(), depth=depth)]
    return time.perf_counter() - start, found


def equal(one: Instances, other: Instances) -> bool:
    """Tell whether two frames' instances are the same bit for bit."""
    return (
        np.array_equal(one.scores, other.scores)
        and np.array_equal(one.labels, other.labels)
        and one.cropped.corners == other.cropped.corners
        and all(np.array_equal(a, b) for a, b in zip(one.cropped.crops, other.cropped.crops, strict=True))
    )


def compare(segment: Segmenter, source: Source, depths: list[int], rounds: int) -> list[tuple[float, ...]]:
    """Return per depth frames per second by calls and by stream, and the gain: median, 5th and 95th percentile."""
    _, wanted = by_calls(segment, source)
    seconds: dict[int, list[float]] = {depth: [] for depth in (0, *depths)}
    for number in range(rounds):
        for depth in np.roll([0, *depths], number).tolist():
            time.sleep(PAUSE_SECONDS)
            taken, found = by_stream(segment, source, depth) if depth else by_calls(segment, source)
            seconds[depth].append(taken)
            assert len(found) == len(wanted) > 0
            assert all(equal(one, other) for one, other in zip(found, wanted, strict=True))
    calls, frames = np.array(seconds[0]), len(wanted)
    rows = []
    for depth in depths:
        low, gain, high = np.percentile(calls / seconds[depth], (5, 50, 95)).tolist()
        rows.append((frames / float(np.median(calls)), frames / float(np.median(seconds[depth])), gain, low, high))
    return rows


def main() -> None:
    """Convert, measure, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--depth", type=int, nargs="+", default=[DEPTH])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=18)
    parser.add_argument("--folder", type=Path, default=kept_folder(), help="of artefacts (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        args.folder.mkdir(parents=True, exist_ok=True)
        paths = args.artefacts or [bundle().artefact, int8_artefact(args.folder)]
        pictures = resized(read_frames(bundle().pictures, 6), *FULL_HD)
        frames = tuple(pictures[index % len(pictures)] for index in range(args.frames))
        write_video(Path(temporary) / "frames.mp4", frames)
        sources: dict[str, Source] = {
            "memory": lambda: iter(frames),
            "video file": lambda: video(Path(temporary) / "frames.mp4"),
        }
        print(f"{read_machine().cpu}, load {read_machine().load}, {versions()}")
        print(
            f"{'1080p, frames per second':<28}{'source':<12}{'threads':>7}{'depth':>6}{'calls':>8}{'stream':>8}  gain"
        )
        for path in paths:
            for threads in args.threads:
                with load(path, threads=threads) as segment:
                    for name, source in sources.items():
                        rows = compare(segment, source, args.depth, args.rounds)
                        for depth, (calls, stream, gain, low, high) in zip(args.depth, rows, strict=True):
                            print(
                                f"{path.name:<28}{name:<12}{threads:>7}{depth:>6}{calls:>8.1f}{stream:>8.1f}"
                                f"  {gain:.2f} ({low:.2f}..{high:.2f})",
                                flush=True,
                            )


if __name__ == "__main__":
    main()
