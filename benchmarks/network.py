"""Time the networks alone, `nano` and Light-448-R18, in ONNX Runtime, OpenVINO, LiteRT and ncnn, in one run.

Run with ``python benchmarks/network.py``; converting takes some minutes the first time (and the conversion extras).
Float32 and int8; OpenVINO runs ONNX Runtime's float32 file and an 8-bit one of its own. With ``--precision fp16`` ncnn
runs the file whose weights take half the room, with ``bf16`` OpenVINO and ncnn the float32 file in bfloat16.
Weights are random: only time is measured, and that outputs agree with float32 in ONNX Runtime is asserted afterwards.
``--yolo FILE.onnx`` times another network beside them, on the same threads with the same options, and prints how long
`nano` takes by it; the file's input decides the size, so that both get one picture size, and `nano` is then fed a
tensor as the other is.

Contenders take turns, in another order every round, after a pause in which the last one's threads come to rest, and
each once untimed before its timed run. On a machine that does other things, ``--threads 1`` and the column of CPU time
say more than the time that passed.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from kept import kept_folder

from solov2_edge.bundled import bundle
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.parity import differences, noise
from solov2_edge.converters.to_ncnn import export_ncnn
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.to_tflite import export_tflite
from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.litert import LitertSession
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.ncnn_session import NcnnSession
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.pictures import list_pictures, read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.runtime.session import Session
from solov2_edge.runtime.threads import ORT_CONFIG
from solov2_edge.runtime.vino import VinoSession
from solov2_edge.variants import VARIANTS, variant

BF16 = "bf16"  # how OpenVINO and ncnn compute a float32 file, not a file of its own
# Left out: what is not made, and float16 files that are computed in float32 where the float32 file stands beside them.
NOT_MADE = {("onnx", BF16), ("tflite", BF16), ("onnx", "fp16"), ("openvino", "fp16"), ("tflite", "fp16")}
FEW = 8  # calibration pictures: nobody will look at what these random weights segment
# name -> (suffix of its files, what writes them, what runs them)
ENGINES: dict[str, tuple[str, Any, Any]] = {
    "onnx": ("onnx", export_onnx, OrtSession),
    "openvino": ("onnx", export_onnx, VinoSession),
    "tflite": ("tflite", export_tflite, LitertSession),
    "ncnn": ("ncnn", export_ncnn, NcnnSession),
}
PRECISIONS = ("fp32", "fp16", "int8", BF16)
OWN_INT8 = {"openvino": "openvino"}  # engine -> target of its 8-bit file
BOUNDS = {"fp32": 1e-4, "fp16": 1e-2}  # largest difference, relative to the output's range
LARGEST_NOISE = (
    0.1  # of int8 and bf16, relative to the output's variance: a broken file has more. Accuracy is judged elsewhere
)
WARM_UP = 2  # rounds


@dataclass(slots=True)
class Contender:
    """One network, open."""

    name: str
    run: Callable[[], Any]
    network: str = ""  # the variant; empty for a peer
    precision: str = "fp32"
    milliseconds: list[float] = field(default_factory=list)
    cpu_milliseconds: list[float] = field(default_factory=list)

    def once(self) -> tuple[float, float]:
        """Return the milliseconds of a run and of all threads' work in it."""
        cpu, start = time.process_time(), time.perf_counter()
        self.run()
        return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - cpu)

    @property
    def median(self) -> float:
        """Return the median time of a run in ms."""
        return float(np.median(self.milliseconds))


def artefact(
    folder: Path, name: str, size: tuple[int, int], engine: str, precision: str, given: str, calibration: Path
) -> Path | None:
    """Return the network's file, converted unless the folder holds it; None where the converter refuses it."""
    kind, export, _ = ENGINES[engine]
    precision = "fp32" if precision == BF16 else precision
    own = OWN_INT8.get(engine) if precision == "int8" else None
    word = precision if own is None else f"{precision}-{own}"
    path = folder / f"{name}-{size[0]}x{size[1]}-{given}.{word}.{kind}"
    if path.exists():
        return path
    options: dict[str, Any] = {"precision": precision}
    if kind == "onnx":
        options["input_kind"] = given
    if own is not None:
        options["target"] = own
    if precision == "int8":
        options["calibration"] = read_calibration(calibration, limit=FEW, allow_small=True)
    torch.manual_seed(0)
    start = time.perf_counter()
    try:
        export(SOLOv2(variant(name)).eval(), path, height=size[0], width=size[1], **options)
    except SolovEdgeError as error:
        print(f"left out: {path.name}: {error}")
        return None
    print(f"converted {path.name} in {time.perf_counter() - start:.0f} s", flush=True)
    return path


def ours(path: Path, network: str, engine: str, precision: str, threads: int, name: str) -> Contender:
    """Open a file of ours on a picture of the bundled ones."""
    chosen = {"providers": "cpu-bf16"} if precision == BF16 else {}
    session: Session = ENGINES[engine][2](path, threads=threads, **chosen)
    contract, spec = session.manifest.input, session.manifest.spec
    frame = read_picture(list_pictures(bundle().pictures)[0])
    geometry = fixed_geometry(*frame.shape[:2], contract.height, contract.width)
    batch = preprocess(frame, geometry, contract.kind, spec)
    return Contender(name, lambda: session.run(batch), network, precision)


def peer(path: Path, threads: int) -> tuple[Contender, tuple[int, int]]:
    """Open another network's ONNX file with one float32 picture as input, and return its size (H, W)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    for key, value in ORT_CONFIG.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    shape = list(source.shape)
    fixed = len(shape) == 4 and all(isinstance(side, int) for side in shape) and shape[:2] == [1, 3]
    require(
        fixed and source.type == "tensor(float)",
        f"{path} takes {source.type} {shape}, expected tensor(float) [1, 3, H, W]; export it at a fixed size",
    )
    pixels = np.random.default_rng(0).random(shape, np.float32)
    return Contender(path.name, lambda: session.run(None, {source.name: pixels})), (shape[2], shape[3])


def interleave(contenders: list[Contender], rounds: int) -> None:
    """Time every contender once per round, its neighbours another each round."""
    for number in range(-WARM_UP, rounds):
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            time.sleep(PAUSE_SECONDS)
            contender.once()  # wakes its threads and fills the caches, for all alike
            wall, cpu = contender.once()
            if number >= 0:
                contender.milliseconds.append(wall)
                contender.cpu_milliseconds.append(cpu)


def check(contenders: list[Contender]) -> None:
    """Assert that every file of a variant computes what its float32 file in ONNX Runtime does."""
    faults, exact = [], {}
    for each in contenders:
        if not each.network:
            continue
        raw = each.run()
        want = exact.setdefault(each.network, raw)
        if each.precision in BOUNDS:
            found, bound = differences(raw, want), BOUNDS[each.precision]
        else:
            found = {output: error / signal for output, (error, signal) in noise(raw, want).items()}
            bound = LARGEST_NOISE
        if not max(found.values()) <= bound:
            faults.append(f"{each.name}: {found}")
    assert not faults, faults


def show(contenders: list[Contender]) -> None:
    """Print one line for each; ratios are to the first."""
    base = contenders[0]
    print(f"{'network only, ms':<36}{'median':>8}{'p10':>8}{'p90':>8}{'best':>8}{'ratio':>7}{'CPU':>8}{'ratio':>7}")
    for each in contenders:
        low, high = np.percentile(each.milliseconds, (10, 90))
        cpu = float(np.median(each.cpu_milliseconds))
        print(
            f"{each.name:<36}{each.median:8.1f}{low:8.1f}{high:8.1f}{min(each.milliseconds):8.1f}"
            f"{each.median / base.median:7.2f}{cpu:8.1f}{cpu / float(np.median(base.cpu_milliseconds)):7.2f}"
        )


def main() -> None:
    """Convert, time, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="*", default=["nano", "light-448-r18"], choices=sorted(VARIANTS))
    parser.add_argument("--precision", nargs="*", default=["fp32", "int8"], choices=PRECISIONS)
    parser.add_argument("--engine", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--size", nargs=2, type=int, default=(448, 448), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calibration", type=Path, default=bundle().calibration, help="folder of pictures")
    parser.add_argument("--folder", type=Path, default=kept_folder(), help="of artefacts (%(default)s)")
    parser.add_argument("--convert-only", action="store_true", help="make the artefacts and stop")
    parser.add_argument("--yolo", type=Path, nargs="*", default=[], help="ONNX files to time nano against")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    compare(args, args.folder)


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Open what was asked for, time it in turn, print and check."""
    contenders = []
    # Float32 in ONNX Runtime always takes part, and first: the others' outputs are compared with its own.
    asked = [(e, p) for e in args.engine for p in args.precision if (e, p) not in NOT_MADE]
    wanted = dict.fromkeys([("onnx", "fp32"), *asked])
    for network in args.variant:
        for engine, precision in wanted:
            path = artefact(folder, network, tuple(args.size), engine, precision, "image", args.calibration)
            if path is not None and not args.convert_only:
                name = f"{network} {precision} {engine}"
                contenders.append(ours(path, network, engine, precision, args.threads, name))
    if args.convert_only:
        return
    pairs = []
    for file in args.yolo:
        other, size = peer(file, args.threads)
        path = artefact(folder, "nano", size, "onnx", "fp32", "tensor", args.calibration)
        assert path is not None  # a float32 export is refused only where it is wrong
        own = ours(path, "", "onnx", "fp32", args.threads, f"nano fp32 onnx {size[0]}x{size[1]} tensor")
        pairs.append((own, other))
        contenders += [own, other]
    machine = read_machine()
    print(f"{machine.cpu}, {machine.usable_cores} cores, load {machine.load}, {args.threads} threads, {versions()}")
    interleave(contenders, args.rounds)
    show(contenders)
    for own, other in pairs:
        cpu = float(np.median(own.cpu_milliseconds) / np.median(other.cpu_milliseconds))
        print(f"{own.name} / {other.name}: {own.median / other.median:.2f} of the time, {cpu:.2f} of the CPU time")
    check(contenders)


if __name__ == "__main__":
    main()
