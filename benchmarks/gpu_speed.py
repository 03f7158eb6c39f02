"""Frames per second of the networks on a GPU: float16, eager and compiled, one frame or 16 at a time.

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
ROUNDS = 30
INSTANCES = 20
PICTURE = (480, 640)  # H x W, a usual COCO picture


def _rate(run: Callable[[], object], frames: int) -> float:
    """Return frames per second, from the median of ROUNDS runs after warming up."""
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return frames / statistics.median(seconds)


def _whole_frame(network: Callable[[Tensor], tuple[Tensor, ...]], name: str) -> Callable[[], int]:
    """Return what takes one picture through everything and gives the number of instances."""
    spec, (height, width) = variant(name), SIZES[name]
    frame = np.random.default_rng(0).integers(0, 255, (*PICTURE, 3), np.uint8)
    geometry = fixed_geometry(*PICTURE, height, width)
    planted = planted_outputs(spec, geometry, INSTANCES)
    options = DecodeOptions()

    def run() -> int:
        batch = torch.from_numpy(preprocess(frame, geometry, "tensor", spec)).cuda().half()
        scores, kernels, features = network(batch.contiguous(memory_format=torch.channels_last))
        arrays = [t[0].float().cpu().numpy() for t in (scores.sigmoid(), kernels, features)]
        RawOutputs(*arrays)  # what came back is whole; what is decoded holds instances
        return len(decode(planted, geometry, spec, options))

    return run


def measure(name: str) -> None:
    """Print one variant's line."""
    torch.manual_seed(0)
    model = SOLOv2(variant(name)).eval().half().cuda().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    compiled = torch.compile(model, mode="reduce-overhead", dynamic=False)
    cells = [f"{name:<22}", "{}x{}".format(*SIZES[name])]
    with torch.inference_mode():
        for batch in BATCHES:
            images = torch.rand(batch, 3, *SIZES[name], device="cuda", dtype=torch.float16)
            images = images.contiguous(memory_format=torch.channels_last)
            exact, fast = model(images), compiled(images)
            for one, other in zip(exact, fast, strict=True):
                spread = (one - other).abs().max() / one.abs().max()
                assert spread < 5e-2, f"compiled {name} is {spread:.1e} of range from eager"
            cells += [f"{_rate(partial(network, images), batch):8.0f}" for network in (model, compiled)]
        whole = _whole_frame(compiled, name)
        assert whole() == INSTANCES
        cells.append(f"{_rate(whole, 1):8.0f}")
    print(*cells, f"{PAPER[name]:8.1f}" if name in PAPER else "       -", flush=True)


def main() -> None:
    """Print a line per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=list(SIZES))
    names = parser.parse_args().variants
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, float16, frames per second")
    heads = [f"{kind} {batch}" for batch in BATCHES for kind in ("eager", "comp.")]
    print(f"{'':<22} {'HxW':<7}", *(f"{head:>8}" for head in heads), f"{'frame':>8} {'paper':>8}")
    for name in names:
        measure(name)


if __name__ == "__main__":
    main()
