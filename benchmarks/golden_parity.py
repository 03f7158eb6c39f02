"""The PyTorch models against the recorded outputs of mmdetection 3.3.0, and their ONNX files against PyTorch.

Run with ``python benchmarks/golden_parity.py``; the same comparison is a test in ``tests/parity``. Two threads
reproduce the recording bit for bit where nothing is deformable: their number decides how convolutions round.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from solov2_edge.converters.parity import differences, rounding_noise
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.model import SOLOv2
from solov2_edge.reference import reference_from_model
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.preprocess import preprocess
from solov2_edge.variants import variant

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
import golden as cases


def main() -> None:
    """Print the largest difference per stage and how the instances compare."""
    torch.set_num_threads(2)
    for name in cases.CASES:
        case = cases.load_golden(name)
        model = SOLOv2(variant(name))
        model.load_state_dict(case.state)
        reference = reference_from_model(model)
        batch = preprocess(case.frame, reference.geometry(*case.frame.shape[:2]), "tensor", reference.spec)
        with torch.inference_mode():
            out = reference.model(torch.from_numpy(batch))
        stages = {
            "class logits": (out.class_logits[0].numpy(), case.arrays["out/class_logits"]),
            "kernels": (out.kernels[0].numpy(), case.arrays["out/kernels"]),
            "mask features": (out.mask_features[0, :, ::4, ::4].numpy(), case.arrays["out/mask_features_every4"]),
        }
        differences = [f"{k} {np.abs(got - want).max() / np.ptp(want):.1e}" for k, (got, want) in stages.items()]
        found, scores = reference(case.frame), case.arrays["result/scores"]
        print(f"{name}: of range: {', '.join(differences)}")
        same = len(found) == len(scores)
        print(f"  instances {len(found)} of {len(scores)}, largest score difference {_gap(found.scores, scores):.1e}")
        compare_onnx(reference, batch)
        assert same
        assert _gap(found.scores, scores) <= 1e-4


def compare_onnx(reference: Any, batch: np.ndarray) -> None:
    """Print how far the float32 ONNX file is from PyTorch, beside what one rounding of the input does to PyTorch."""
    expected = reference.run_batch(batch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "golden.onnx"
        height, width = batch.shape[2:]
        manifest = export_onnx(reference.model, path, height=height, width=width, input_kind="tensor")
        with OrtSession(path, threads=2) as session:
            got = differences(session.run(batch), expected)
    print(f"  ONNX float32 on the converter's probes: {', '.join(f'{k} {v:.1e}' for k, v in manifest.parity.items())}")
    noise = rounding_noise(reference.model, batch, "tensor", expected, "fp32")
    print(
        f"  on the golden picture: {', '.join(f'{k} {v:.1e}' for k, v in got.items())}; PyTorch's own noise {noise:.1e}"
    )


def _gap(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(np.sort(got) - np.sort(want)).max()) if len(got) == len(want) else float("nan")


if __name__ == "__main__":
    main()
