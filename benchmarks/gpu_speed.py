"""Frames per second of the networks on a GPU in float16, one frame or 16 at a time.

Run with ``python benchmarks/gpu_speed.py`` where PyTorch finds a CUDA device; elsewhere it says so and ends. Weights
are random: only time is measured. The paper's figures (table 3(f), one V100) are of whole frames one at a time: 46.5
frames per second for SOLOv2-448 and 31.3 for SOLOv2-512, both on ResNet-50. The column beside them here counts the
same: a 640 x 480 picture is resized, copied to the GPU, run, and 20 instances come back as masks of the picture's
size. Their outputs are planted, since random weights find none; decoding is this project's own, on one CPU thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from solov2_edge.model import SOLOv2
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.variants import variant

# variant -> H x W of the input: the box its pictures are fitted into
SIZES = {
    "nano": (448, 448),
    "light-448-r18": (448, 768),
    "light-448-r50": (448, 768),
    "light-512-r50-dcnv1": (512, 864),
}
PAPER = {"light-448-r50": 46.5, "light-512-r50-dcnv1": 31.3}  # frames per second on a V100, table 3(f)
BATCHES = (1, 16)
WARM_UP = 5  # runs
INSTANCES = 20
PICTURE = (480, 640)  # H x W, a usual COCO picture


def _rate(run: Callable[[], object], frames: int, rounds: int) -> float:
    """Return frames per second, from the median of ``rounds`` runs after warming up."""
    seconds = []
    for turn in range(WARM_UP + rounds):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if turn >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    return frames / statistics.median(seconds)


def _whole_frame(network: Callable[[Tensor], tuple[Tensor, ...]], name: str, like: Tensor) -> Callable[[], int]:
    """Return what takes one picture through everything and gives the number of instances."""
    spec, (height, width) = variant(name), SIZES[name]
    frame = np.random.default_rng(0).integers(0, 255, (*PICTURE, 3), np.uint8)
    geometry = fixed_geometry(*PICTURE, height, width)
    planted = planted_outputs(spec, geometry, INSTANCES)
    options = DecodeOptions()

    def run() -> int:
        batch = torch.from_numpy(preprocess(frame, geometry, "tensor", spec)).to(like.device, like.dtype)
        scores, kernels, features = network(batch.contiguous(memory_format=torch.channels_last))
        arrays = [t[0].float().cpu().numpy() for t in (scores.sigmoid(), kernels, features)]
        RawOutputs(*arrays)  # what came back is whole; what is decoded holds instances
        return len(decode(planted, geometry, spec, options))

    return run


def measure(name: str, device: str, compiled: bool, rounds: int) -> None:
    """Print one variant's line, figure by figure."""
    torch.manual_seed(0)
    kind = torch.float16 if device == "cuda" else torch.float32
    model = SOLOv2(variant(name)).eval().to(device, kind, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    network = torch.compile(model, mode="reduce-overhead", dynamic=False) if compiled else model
    print(f"{name:<22}", "{}x{}".format(*SIZES[name]), end="", flush=True)
    with torch.inference_mode():
        for batch in BATCHES:
            images = torch.rand(batch, 3, *SIZES[name], device=device, dtype=kind)
            images = images.contiguous(memory_format=torch.channels_last)
            for exact, got in zip(model(images), network(images), strict=True):
                spread = (exact - got).abs().max() / exact.abs().max()
                assert spread < 5e-2, f"compiled {name} is {spread:.1e} of range from eager"
            print(f"{_rate(partial(network, images), batch, rounds):9.1f}", end="", flush=True)
        whole = _whole_frame(network, name, images)
        assert whole() == INSTANCES
        print(f"{_rate(whole, 1, rounds):9.1f}", f"{PAPER[name]:8.1f}" if name in PAPER else "       -", flush=True)


def main() -> None:
    """Print a line per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(SIZES), metavar="VARIANT", help=", ".join(SIZES))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: float32, for comparison")
    parser.add_argument("--compile", action="store_true", help="torch.compile with CUDA graphs: a minute a variant")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    cv2.setNumThreads(1)
    torch.backends.cudnn.benchmark = True
    where = f"{torch.cuda.get_device_name()}, float16" if args.device == "cuda" else "CPU, float32"
    print(f"{where}, PyTorch {torch.__version__}, {'compiled' if args.compile else 'eager'}, frames per second")
    print(f"{'':<22} {'HxW':<6}", *(f"batch {batch:<2}" for batch in BATCHES), f"{'frame':>8} {'paper':>8}")
    for name in args.variants:
        measure(name, args.device, args.compile, args.rounds)


if __name__ == "__main__":
    main()
