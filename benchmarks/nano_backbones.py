"""Which backbone and widths `nano` should have: GFLOP and ONNX Runtime time at 448 x 448, interleaved in one run.

Run with ``python benchmarks/nano_backbones.py``; takes some minutes. Weights are random: only time is measured.
Ratios are to `nano` as it is; a machine that does other things at the same time shows in the spread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.spec import BackboneSpec, ModelSpec
from solov2_edge.variants import variant

SIZE = 448  # pixels, H and W
ROUNDS = 30
THREADS = 2
NANO = variant("nano", ("thing",))


def _trial(depths: tuple[int, int, int, int], stem: str, pyramid: int, mask: int, thin: bool = False) -> ModelSpec:
    widths, stem_width = ((24, 48, 96, 192), 24) if thin else ((32, 64, 128, 192), 32)
    backbone = BackboneSpec("basic", depths, widths, stem_width, stem)
    return replace(NANO, backbone=backbone, pyramid_width=pyramid, mask_width=mask, mask_channels=mask, norm_groups=8)


TRIALS = {
    "nano": NANO,
    "7x7 stem, one block a stage, 64 wide": _trial((1, 1, 1, 1), "conv7", 64, 64),
    "3x3 stem, 1-2-2-1 blocks, 64 wide": _trial((1, 2, 2, 1), "conv3x2", 64, 64),
    "3x3 stem, 1-2-2-1 blocks, 64 wide, masks 48": _trial((1, 2, 2, 1), "conv3x2", 64, 48),
    "3x3 stem, 1-2-2-1 blocks, 48 wide": _trial((1, 2, 2, 1), "conv3x2", 48, 48),
    "3x3 stem, 1-2-2-2 blocks, 48 wide, thin": _trial((1, 2, 2, 2), "conv3x2", 48, 48, thin=True),
}


def main() -> None:
    """Export every trial, then time all of them in turns."""
    frame = np.random.default_rng(0).integers(0, 255, (1, SIZE, SIZE, 3), np.uint8)
    sessions, costs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, spec) in enumerate(TRIALS.items()):
            torch.manual_seed(0)
            model = SOLOv2(spec).eval()
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                model(torch.zeros(1, 3, SIZE, SIZE))
            costs[name] = (counter.get_total_flops() / 1e9, sum(p.numel() for p in model.parameters()) / 1e6)
            path = Path(folder) / f"{number}.onnx"
            export_onnx(model, path, height=SIZE, width=SIZE)
            sessions[name] = OrtSession(path, threads=THREADS)
        times: dict[str, list[float]] = {name: [] for name in TRIALS}
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                start = time.perf_counter()
                raw = session.run(frame)
                times[name].append(1e3 * (time.perf_counter() - start))
                assert raw.mask_features.shape[1:] == (SIZE // 4, SIZE // 4)
    own = statistics.median(times["nano"])
    for name, values in times.items():
        median, low = statistics.median(values), min(values)
        gflop, millions = costs[name]
        print(f"{name:<46} {gflop:5.2f} GFLOP {millions:5.2f} M {median:7.1f} ms (min {low:.1f})  x{median / own:.2f}")


if __name__ == "__main__":
    main()
