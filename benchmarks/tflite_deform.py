"""What a deformable convolution costs in LiteRT, against an ordinary one of the same size.

Run with ``python benchmarks/tflite_deform.py``; takes a minute. Sizes are those of light-512-r50-dcnv2 at 448 x 768:
the 3x3 convolutions of stages 2 to 4 and of the towers. Both run in turns, two threads; the ratio of medians is what
counts. Each result is compared with PyTorch's.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from solov2_edge.converters.tflite_deform import GatheredDeformConv2d
from solov2_edge.converters.tflite_lower import lower_module
from solov2_edge.deform import DeformConv2d

ROUNDS = 30
THREADS = 2
SIZES = {"stage 2": (128, 56, 96), "stage 3": (256, 28, 48), "stage 4": (512, 14, 24), "tower": (256, 40, 40)}
OF_RANGE = 1e-5


class _ChannelsLast(nn.Module):
    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"y": self.convolution(rows.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)}


def deformable(channels: int) -> DeformConv2d:
    """Return a modulated deformable convolution whose offsets are about a pixel."""
    convolution = DeformConv2d(channels, channels, 1, "v2").eval().requires_grad_(False)
    nn.init.normal_(convolution.conv_offset.weight, std=1 / (9 * channels) ** 0.5)
    return convolution


def main() -> None:
    """Print milliseconds and their ratio for every size."""
    torch.manual_seed(0)
    for name, (channels, height, width) in SIZES.items():
        rows = torch.randn(1, height, width, channels)
        plain = nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)
        moved = deformable(channels)
        runners = {}
        for kind, module, reference in (("plain", plain, plain), ("deformable", GatheredDeformConv2d(moved), moved)):
            model = lower_module(_ChannelsLast(module), {"rows": rows})
            interpreter = Interpreter(model_content=model, num_threads=THREADS)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows.numpy())
            runners[kind] = (interpreter, _ChannelsLast(reference)(rows)["y"].numpy())
        times: dict[str, list[float]] = {kind: [] for kind in runners}
        for _ in range(ROUNDS):
            for kind, (interpreter, expected) in runners.items():
                start = time.perf_counter()
                interpreter.invoke()
                times[kind].append(1e3 * (time.perf_counter() - start))
                got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
                assert np.abs(got - expected).max() <= OF_RANGE * np.ptp(expected)
        plain_ms, moved_ms = (statistics.median(times[kind]) for kind in ("plain", "deformable"))
        size = f"{channels} channels, {height} x {width}"
        print(
            f"{name:<8} {size:<26} {plain_ms:7.1f} ms plain {moved_ms:7.1f} ms deformable  x{moved_ms / plain_ms:.1f}"
        )


if __name__ == "__main__":
    main()
