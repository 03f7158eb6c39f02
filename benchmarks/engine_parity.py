"""Every variant through ONNX Runtime, OpenVINO and ncnn, against PyTorch: nothing is timed.

Run with ``python benchmarks/engine_parity.py``; some minutes, which is why it is no test. Weights are random, and where
convolutions are deformable their offsets are held still: with random ones float32's own rounding moves the outputs by
more than the bound. Each network is exported, which judges it in ONNX Runtime and in ncnn, and judged again in OpenVINO
and ncnn by what lies on disk.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import tempfile
from pathlib import Path

import torch

from solov2_edge.converters.damping import damped_model
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.to_ncnn import export_ncnn
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import InputContract
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.ncnn_session import NcnnSession
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.vino import VinoSession
from solov2_edge.variants import VARIANTS, variant

VARIANTS_HERE = (
    *("nano", "light-448-r18", "light-448-r34", "light-448-r50", "light-512-r50-dcnv1", "light-512-r50-dcnv2"),
    "full-r50",
)
ENGINES = {"onnxruntime": (".onnx", OrtSession), "openvino": (".onnx", VinoSession), "ncnn": (".ncnn", NcnnSession)}


def main() -> None:
    """Convert, judge and print a line per variant and engine; a lost parity ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="*", default=VARIANTS_HERE, choices=sorted(VARIANTS))
    parser.add_argument("--size", nargs=2, type=int, default=(128, 192), metavar=("H", "W"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    height, width = args.size
    print(f"largest difference from PyTorch, as a part of the range, float32, {height}x{width}")
    for name in args.variant:
        torch.manual_seed(0)
        model = SOLOv2(variant(name)).eval()
        if model.spec.dcn != "none":
            model = damped_model(model)
        probes = Probes(model, InputContract("image", height, width))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a"
            export_onnx(model, path.with_suffix(".onnx"), height=height, width=width)
            export_ncnn(model, path.with_suffix(".ncnn"), height=height, width=width)
            for engine, (suffix, session) in ENGINES.items():
                with session(path.with_suffix(suffix), threads=1) as opened:
                    apart = probes.judge(f"running in {engine}", lambda b, s=opened: undecoded(s.run(b)), "fp32")
                print(f"{name:<24}{engine:<14}{max(apart.values()):.1e}", flush=True)


if __name__ == "__main__":
    main()
