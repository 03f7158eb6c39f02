"""Time the bundled network in LiteRT and ONNX Runtime, every precision: network only, 2 threads, interleaved.

Run with ``python benchmarks/engines.py``; converting takes some minutes the first time and needs the conversion
extras. Prints medians and the fastest run
in milliseconds, sizes, how many times float32's speed each has, and how far outputs are from ONNX Runtime's float32.
Speed is compared round by round, each contender with the float32 file of its own format and with ONNX Runtime's: the
median of the rounds' ratios stands with the quarter of the rounds below and above. Before each turn there is a pause,
because the threads of the last contender go on spinning in the way of the next. Outputs are checked after timing:
float32 and float16 by their largest difference, integers by their signal to noise.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kept import kept_folder
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.errors import SolovEdgeError
from solov2_edge.manifest import sha256_of
from solov2_edge.runtime.artefact import read_sidecar
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.litert import LitertSession
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.pictures import list_pictures, read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.runtime.session import RawOutputs, Session

SIZE = (448, 448)  # H x W the model was trained at
OUTPUTS = ("class_scores", "kernels", "mask_features")
EXPORTERS = {
    "onnx": "solov2_edge.converters.to_onnx:export_onnx",
    "tflite": "solov2_edge.converters.to_tflite:export_tflite",
}
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "int8-dynamic", "int8", "int16x8"),
}
ENGINES: dict[str, Any] = {"onnx": OrtSession, "tflite": LitertSession}
# Of range; the design's bounds for the two, which TFLite's float16 file shares: its weights are float16.
LARGEST_DIFFERENCE = {"fp32": 1e-4, "fp16": 1e-2}
LEAST_DECIBELS = 15.0  # of integers' outputs; a broken file has less. What integers cost is judged by AP, elsewhere
WARM_UP = 3  # runs
SLOW_MS = 1000.0  # a precision above it gets a fifth of the runs


@dataclass(slots=True)
class Contender:
    """One artefact, open."""

    name: str
    precision: str
    path: Path
    session: Session
    milliseconds: dict[int, float]  # by round: slow ones sit most rounds out

    @property
    def times(self) -> list[float]:
        """Return the times of all runs in ms."""
        return list(self.milliseconds.values())

    @property
    def median(self) -> float:
        """Return the median time of a run in ms."""
        return float(np.median(self.times))

    def speed(self, base: Contender) -> str:
        """Return how many times as fast as ``base`` this is: median and quarters over the rounds both ran in."""
        shared = self.milliseconds.keys() & base.milliseconds.keys()
        low, middle, high = np.percentile([base.milliseconds[r] / self.milliseconds[r] for r in shared], [25, 50, 75])
        return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def converted(folder: Path, calibration: Path, wanted: list[str]) -> list[tuple[str, Path]]:
    """Return (precision, path) of every artefact, converting those the folder does not hold yet."""
    files = bundle()
    digest = sha256_of(files.checkpoint)
    found = []
    for kind, precisions in PRECISIONS.items():
        module, _, function = EXPORTERS[kind].partition(":")
        export = getattr(importlib.import_module(module), function)
        for precision in precisions:
            if wanted and precision not in wanted:
                continue
            path = folder / f"nano-nuclei.{precision}.{kind}"
            kept = path.exists() and (read_sidecar(path) or None)
            if not kept or kept.source_sha256 != digest:
                options: dict[str, Any] = {"precision": precision, "source_sha256": digest}
                if precision in ("int8", "int16x8"):
                    options["calibration"] = read_calibration(calibration)
                start = time.perf_counter()
                try:
                    export(load_model(files.checkpoint)[0], path, height=SIZE[0], width=SIZE[1], **options)
                except SolovEdgeError as error:
                    print(f"left out: {path.name}: {error}")
                    continue
                print(f"converted {path.name} in {time.perf_counter() - start:.0f} s", flush=True)
            found.append((precision, path))
    return found


def interleave(contenders: list[Contender], batches: list[NDArray[Any]], rounds: int) -> None:
    """Time every contender once per round, after a pause in which the last one's threads come to rest."""
    for number in range(-WARM_UP, rounds):
        for contender in contenders:
            if number > 0 and number % 5 and contender.median > SLOW_MS:
                continue
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            contender.session.run(batches[number % len(batches)])
            if number >= 0:
                contender.milliseconds[number] = 1000 * (time.perf_counter() - start)


def differences(raw: RawOutputs, exact: RawOutputs) -> tuple[list[float], list[float]]:
    """Return largest difference relative to the range, and signal to noise in dB, of each output."""
    largest, decibels = [], []
    for name in OUTPUTS:
        got, want = getattr(raw, name).astype(np.float64), getattr(exact, name).astype(np.float64)
        largest.append(float(np.abs(got - want).max() / np.ptp(want)))
        noise = float(np.square(got - want).sum())
        decibels.append(10 * np.log10(float(np.square(want).sum()) / noise) if noise else np.inf)
    return largest, decibels


def main() -> None:
    """Convert, time, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calibration", type=Path, default=bundle().calibration, help="folder of pictures")
    parser.add_argument("--folder", type=Path, default=kept_folder(), help="of artefacts (%(default)s)")
    parser.add_argument("--precision", nargs="*", default=[], help="default: all; fp32 must be among them")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    artefacts = converted(args.folder, args.calibration, args.precision)
    compare(artefacts, args.threads, args.rounds)


def compare(artefacts: list[tuple[str, Path]], threads: int, rounds: int) -> None:
    """Time the artefacts in turn, print one line each and check the outputs."""
    contenders = []
    for precision, path in artefacts:
        session = ENGINES[path.suffix[1:]](path, threads=threads)
        contenders.append(Contender(path.name.partition(".")[2], precision, path, session, {}))
    spec = contenders[0].session.manifest.spec
    batches = []
    for picture in list_pictures(bundle().pictures):
        frame = read_picture(picture)
        batches.append(preprocess(frame, fixed_geometry(*frame.shape[:2], *SIZE), "image", spec))
    machine = read_machine()
    print(f"{machine.cpu}, {machine.usable_cores} cores, load {machine.load}, {threads} threads, {versions()}")
    interleave(contenders, batches, rounds)
    print(f"load {read_machine().load} when timing ended")
    floats = {each.path.suffix: each for each in contenders if each.precision == "fp32"}
    base = floats[".onnx"]
    exact = [base.session.run(batch) for batch in batches]
    print(
        f"{'network only':<20}{'median':>8}{'best':>8}{'MB':>6}{'x own float32':>19}{'x ONNX float32':>19}"
        "   scores, kernels, features; what runs it"
    )
    faults = []
    for each in contenders:
        measured = [differences(each.session.run(batch), want) for batch, want in zip(batches, exact, strict=True)]
        largest = np.max([entry[0] for entry in measured], axis=0)
        decibels = np.min([entry[1] for entry in measured], axis=0)
        bound = LARGEST_DIFFERENCE.get(each.precision)
        shown = ", ".join(f"{v:.0e}" for v in largest) if bound else ", ".join(f"{v:.0f} dB" for v in decibels)
        print(
            f"{each.name:<20}{each.median:8.1f}{min(each.times):8.1f}{each.path.stat().st_size / 1e6:6.2f}"
            f"{each.speed(floats[each.path.suffix]):>19}{each.speed(base):>19}"
            f"   {shown}; {', '.join(each.session.providers)}",
            flush=True,
        )
        if not (max(largest) <= bound if bound else min(decibels) >= LEAST_DECIBELS):
            faults.append(f"{each.name}: {shown}")
    assert not faults, faults


if __name__ == "__main__":
    main()
