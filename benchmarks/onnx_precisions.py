"""What 8 bits cost and bring the bundled model in ONNX Runtime: accuracy, size, speed as ratios inside one run.

``python benchmarks/onnx_precisions.py`` exports float32, int8 for CPUs and int8 for TensorRT, evaluates each on the
54 validation pictures and times the networks in turns, on ``--threads`` threads (2) by the clock and on one by the
processor time it takes, which a busy machine does not change. ``... operators`` shows where the time goes.
``... choices --annotations JSON --images DIR`` shows what the defaults were chosen by: the AP of every calibration
method and size on up to 48 further pictures, none of which calibrates. Validation pictures never enter a choice.
``... recipes --annotations JSON --images DIR`` shows what rounding weights by what layers compute and the float first
layer bring, in dB on the same pictures and in AP. ``... variant NAME`` times another member of the family with random
weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.onnx_int8 import int8_builder
from solov2_edge.converters.onnx_passes import runner
from solov2_edge.converters.parity import differences
from solov2_edge.converters.probes import Probes, drawn_frame
from solov2_edge.converters.sensitivity import signal_to_noise
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.value_ranges import METHODS
from solov2_edge.manifest import InputContract
from solov2_edge.model import SOLOv2
from solov2_edge.runtime import load
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.evaluate import evaluate
from solov2_edge.runtime.machine import read_machine
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.variants import variant

SIDE = 448  # pixels; the size the bundled model was trained at
VALIDATION = Path(__file__).resolve().parent.parent / "tests" / "data" / "nuclei_val"
LIMIT = 48  # further pictures evaluated
WANTED = 2.5  # times float32's speed that int8 is to reach
UNTIMED, RUNS = 4, 12  # runs of a network in its turn
Times = dict[str, NDArray[np.float64]]  # milliseconds, one per round
FILES = {"fp32": {}, "int8 cpu": {"target": "cpu"}, "int8 tensorrt": {"target": "tensorrt"}}


def exported(model: SOLOv2, folder: Path, small: bool = False) -> dict[str, Path]:
    """Export every file of :data:`FILES`."""
    calibration = read_calibration(bundle().calibration, limit=8 if small else None, allow_small=small)
    paths = {}
    for name, options in FILES.items():
        paths[name] = folder / f"{name.replace(' ', '-')}.onnx"
        given = {**options, "precision": "int8", "calibration": calibration} if options else {}
        export_onnx(model, paths[name], height=SIDE, width=SIDE, **given)  # type: ignore[arg-type]
    return paths


def opened(path: Path, threads: int, prefix: str = "") -> onnxruntime.InferenceSession:
    """Open a file; with a prefix, profiling into a file of that name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if prefix:
        options.enable_profiling, options.profile_file_prefix = True, prefix
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def times(paths: Mapping[str, Path], threads: int, rounds: int, clock: Callable[[], float]) -> Times:
    """Return milliseconds of each network and round: the median of a turn of :data:`RUNS`, after untimed ones.

    Without the pause between turns the threads of the last network, which go on spinning, take cores from the next;
    the first runs after it find cold caches and sleeping threads, which no frame of a video does.
    """
    sessions = {name: opened(path, threads) for name, path in paths.items()}
    feed = {"image": drawn_frame(SIDE, SIDE)[None]}
    taken = defaultdict(list)
    for _ in range(rounds):
        for name, session in sessions.items():
            time.sleep(PAUSE_SECONDS)
            for _ in range(UNTIMED):
                session.run(None, feed)
            turn = []
            for _ in range(RUNS):
                start = clock()
                session.run(None, feed)
                turn.append((clock() - start) * 1e3)
            taken[name].append(float(np.median(turn)))
    return {name: np.array(values) for name, values in taken.items()}


def ratio(taken: Times, name: str) -> str:
    """Return float32's time over that of ``name``, round by round: the median, and a quarter below and above."""
    low, middle, high = np.percentile(taken["fp32"] / taken[name], [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def compare(paths: Mapping[str, Path], threads: int, rounds: int) -> None:
    """Print sizes and times, and float32's time over each."""
    before = read_machine().load
    wall, processor = times(paths, threads, rounds, time.perf_counter), times(paths, 1, rounds, time.process_time)
    print(
        f"{'':<14} {'MB':>6} {f'{threads} threads, ms':>15} {'ratio':>17} {'processor, 1 thread, ms':>24} {'ratio':>17}"
    )
    for name, path in paths.items():
        size, ratios = path.stat().st_size / 1e6, (ratio(wall, name), ratio(processor, name))
        medians = np.median(wall[name]), np.median(processor[name])
        print(f"{name:<14} {size:6.1f} {medians[0]:15.1f} {ratios[0]:>17} {medians[1]:24.1f} {ratios[1]:>17}")
    print(f"wanted of int8 cpu: {WANTED} on {threads} threads; load {before} before and {read_machine().load} after")
    feed, options = drawn_frame(SIDE, SIDE)[None], onnxruntime.SessionOptions()
    outputs = {name: runner(onnx.load(path), options, name)(feed) for name, path in paths.items()}
    for name in paths:
        assert max(differences(outputs[name], outputs["fp32"]).values()) < 0.5, f"{name} computes something else"


def accuracy(paths: Mapping[str, Path]) -> None:
    """Print mask AP on the validation pictures."""
    for name, path in paths.items():
        with load(path, threads=2) as segment:
            found = evaluate(segment, VALIDATION / "instances.json", VALIDATION / "images")
        print(f"{name:<14} AP {found.ap:5.2f}  AP50 {found.ap50:5.2f}  AP75 {found.ap75:5.2f}")


def operators(paths: Mapping[str, Path], folder: Path, rounds: int) -> None:
    """Print milliseconds by operator on one thread: the sum over nodes of each node's 10th percentile."""
    for name in ("fp32", "int8 cpu"):
        session = opened(paths[name], 1, str(folder / "profile"))
        for _ in range(rounds):
            session.run(None, {"image": drawn_frame(SIDE, SIDE)[None]})
        nodes, kinds = defaultdict(list), {}
        for event in json.loads(Path(session.end_profiling()).read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
                nodes[event["name"]].append(event["dur"] / 1e3)
                kinds[event["name"]] = event["args"]["op_name"]
        total: dict[str, float] = defaultdict(float)
        for node, durations in nodes.items():
            total[kinds[node]] += float(np.percentile(durations, 10))
        print(f"{name}: {sum(total.values()):.1f} ms in {len(nodes)} nodes")
        for kind, value in sorted(total.items(), key=lambda item: -item[1])[:12]:
            print(f"  {kind:<24} {value:7.2f}")


def choices(paths: Mapping[str, Path], model: SOLOv2, annotations: Path, images: Path, folder: Path) -> None:
    """Print the AP of every calibration method and size on further pictures."""
    contract = InputContract("image", SIDE, SIDE)
    measure = partial(evaluate, annotations=annotations, images=images, limit=LIMIT)
    with load(paths["fp32"], threads=2) as segment:
        print(f"float32 AP {measure(segment).ap:.2f}")
    for target in ("cpu", "tensorrt"):
        for count in (8, 16, 32, 64):
            pictures = read_calibration(bundle().calibration, limit=count, allow_small=True)
            batches = partial(pictures.batches, model.spec, contract)
            builder = int8_builder(onnx.load(paths["fp32"]), batches, target, Probes(model, contract))
            for method in METHODS:
                path = folder / "choice.onnx"
                onnx.save(builder.build(method=method), path)
                with load(path, threads=2) as segment:
                    print(f"{target:<9} {count:3} pictures  {method:<12} AP {measure(segment).ap:.2f}", flush=True)


def recipes(paths: Mapping[str, Path], model: SOLOv2, annotations: Path, images: Path, folder: Path) -> None:
    """Print signal to noise and AP of the recipe of each target, and of the recipe without one of its parts."""
    contract = InputContract("image", SIDE, SIDE)
    pictures = read_calibration(bundle().calibration)
    entries = json.loads(annotations.read_text())["images"][:LIMIT:4]
    frames = [read_picture(images / entry["file_name"]) for entry in entries]

    def outputs(path: Path) -> list[RawOutputs]:
        with load(path, threads=2) as segment:
            return [segment.raw(frame) for frame in frames]

    exact, path = outputs(paths["fp32"]), folder / "recipe.onnx"
    for target in ("cpu", "tensorrt"):
        batches = partial(pictures.batches, model.spec, contract)
        whole = int8_builder(onnx.load(paths["fp32"]), batches, target, Probes(model, contract))
        trials = {"as shipped": whole, "weights at the nearest step": replace(whole, weights={})}
        if whole.islands:
            trials["no layer float"] = replace(whole, islands=frozenset())
        for label, builder in trials.items():
            onnx.save(builder.build(), path)
            decibels = " / ".join(f"{value:.1f}" for value in signal_to_noise(exact, outputs(path)).values())
            with load(path, threads=2) as segment:
                found = evaluate(segment, annotations, images, limit=LIMIT)
            print(f"{target:<9} {label:<28} {decibels} dB  AP {found.ap:.2f}", flush=True)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("all", "operators", "choices", "recipes", "variant"), default="all")
    parser.add_argument("name", nargs="?", default="light-448-r18")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    other = args.what == "variant"
    model = SOLOv2(variant(args.name)).eval() if other else load_model(bundle().checkpoint)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = exported(model, folder, small=other)
        if args.what in ("choices", "recipes"):
            show = choices if args.what == "choices" else recipes
            show(paths, model, args.annotations, args.images, folder)
        elif args.what == "operators":
            operators(paths, folder, args.rounds)
        else:
            compare(paths, args.threads, args.rounds)
        if args.what == "all":
            accuracy(paths)


if __name__ == "__main__":
    main()
