"""Which backbone and widths `nano` should have: GFLOP, parameters and ONNX Runtime time at 448 x 448, in one run.

Run with ``python benchmarks/nano_backbones.py``; takes some minutes. Weights are random: only time is measured, as CPU
time of one thread, which repeats within 2 % on a machine that does other things too. Ratios are to `nano` as it is,
or to another network's file of that size named with ``--yolo FILE.onnx``.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import ours, peer
from torch.utils.flop_counter import FlopCounterMode

from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.model import SOLOv2
from solov2_edge.spec import BackboneSpec, ModelSpec
from solov2_edge.variants import variant

SIZE = 448  # pixels, H and W
NANO = variant("nano")


def _trial(depths: tuple[int, int, int, int] = (1, 1, 2, 1), last: int = 192, **changes: Any) -> ModelSpec:
    backbone = replace(NANO.backbone, depths=depths, widths=(32, 64, 128, last))
    return replace(NANO, backbone=backbone, **changes)


TRIALS = {
    "nano": NANO,
    "7x7 stem, one block a stage, 64 wide": replace(
        NANO,
        backbone=BackboneSpec("basic", (1, 1, 1, 1), NANO.backbone.widths, 32, "conv7"),
        pyramid_width=64,
        mask_width=64,
        mask_channels=64,
    ),
    "mask_width 32": _trial(mask_width=32),
    "masks 32": _trial(mask_width=32, mask_channels=32),
    "masks 32, 1-1-2-2 blocks": _trial((1, 1, 2, 2), mask_width=32, mask_channels=32),
    "masks 32, 1-2-2-2 blocks": _trial((1, 2, 2, 2), mask_width=32, mask_channels=32),
    "towers 48, 1-1-2-2 blocks": _trial((1, 1, 2, 2), tower_width=48),
    "last stage 256": _trial(last=256),
    "1-1-2-2 blocks": _trial((1, 1, 2, 2)),
    "pyramid 64": _trial(pyramid_width=64),
}


def main() -> None:
    """Export every trial, then time all of them in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--yolo", type=Path, help="an ONNX file of another network at 448 x 448")
    args = parser.parse_args()
    contenders, costs = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, spec) in enumerate(TRIALS.items()):
            torch.manual_seed(0)
            model = SOLOv2(spec).eval()
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                model(torch.zeros(1, 3, SIZE, SIZE))
            costs[name] = (counter.get_total_flops() / 1e9, sum(p.numel() for p in model.parameters()) / 1e6)
            path = Path(folder) / f"{number}.onnx"
            export_onnx(model, path, height=SIZE, width=SIZE, input_kind="tensor")
            contenders.append(ours(path, name, "fp32", 1, name))
        if args.yolo:
            other, size = peer(args.yolo, 1)
            assert size == (SIZE, SIZE), size
            contenders.append(other)
        for number in range(-1, args.rounds):
            for contender in contenders:
                start = time.thread_time()
                contender.run()
                if number >= 0:
                    contender.cpu_milliseconds.append(1e3 * (time.thread_time() - start))
        for contender in contenders:
            if contender.network:
                assert contender.run().mask_features.shape[1:] == (SIZE // 4, SIZE // 4)
    base = float(np.median(contenders[-1 if args.yolo else 0].cpu_milliseconds))
    for contender in contenders:
        low, median, high = np.percentile(contender.cpu_milliseconds, (10, 50, 90))
        cost = costs.get(contender.name)
        shown = f"{cost[0]:5.2f} GFLOP {cost[1]:5.2f} M" if cost else " " * 19
        print(f"{contender.name:<38} {shown} {median:6.1f} ms ({low:.1f} to {high:.1f})  x{median / base:.2f}")


if __name__ == "__main__":
    main()
