"""Mask AP of the bundled model on its 54 validation pictures: PyTorch, float32 and float16 ONNX, at 448 x 448.

Run with ``python benchmarks/accuracy.py``; takes a minute. AP is COCO mask AP in points of 100, by pycocotools.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.opening import AnySegmenter
from solov2_edge.reference import load_reference
from solov2_edge.runtime import load
from solov2_edge.runtime.evaluate import Evaluation, evaluate

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "nuclei_val"
SIZE = (448, 448)  # H x W the model was trained at
FP16_DROP = 0.1  # points of AP float16 may cost (the design's number)


def measure(name: str, segment: AnySegmenter) -> Evaluation:
    """Evaluate on all validation pictures and print one line."""
    result = evaluate(segment, DATA / "instances.json", DATA / "images")
    sizes = f"{result.ap_small:5.1f} {result.ap_medium:5.1f} {result.ap_large:5.1f}"
    print(f"{name:<44} {result.ap:5.1f} {result.ap50:5.1f} {result.ap75:5.1f} {sizes}   {result.pictures} pictures")
    return result


def main() -> None:
    """Print one line per form of the bundled model."""
    files = bundle()
    print(f"{'':<44} {'AP':>5} {'AP50':>5} {'AP75':>5} {'small':>5} {'med.':>5} {'large':>5}")
    exact = measure("PyTorch, 448x448", load_reference(files.checkpoint, input_size=SIZE))
    measure("PyTorch, the reference's own geometry", load_reference(files.checkpoint))
    with load(files.artefact) as segment:
        shipped = measure(f"{files.artefact.name} as shipped", segment)
    model, checkpoint = load_model(files.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.onnx"
        export_onnx(model, path, height=SIZE[0], width=SIZE[1], precision="fp16", source_sha256=checkpoint.sha256)
        with load(path) as segment:
            half = measure("ONNX float16", segment)
    with load(files.artefact, max_instances=500) as segment:
        dense = evaluate(segment, DATA / "instances.json", DATA / "images", max_detections=500)
    print(f"{'as shipped, up to 500 detections':<44} {dense.ap:5.1f} {dense.ap50:5.1f} {dense.ap75:5.1f}")
    assert abs(shipped.ap - exact.ap) <= FP16_DROP
    assert abs(half.ap - exact.ap) <= FP16_DROP


if __name__ == "__main__":
    main()
