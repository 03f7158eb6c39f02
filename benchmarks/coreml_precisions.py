"""Mask AP, size and parity of the bundled model as a Core ML package, at every precision.

Run with ``python benchmarks/coreml_precisions.py``; takes about ten minutes on two cores. The packages are executed
by the program interpreter, not by Apple's runtime, on the 54 validation pictures at 448 x 448; w8a8 is calibrated on
the 64 training pictures that ship with the package. AP is COCO mask AP in points of 100, by pycocotools.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.mil_interpreter import load
from solov2_edge.converters.to_coreml import PRECISIONS, export_coreml
from solov2_edge.reference import load_reference
from solov2_edge.runtime.evaluate import evaluate

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "nuclei_val"
SIZE = (448, 448)  # H x W the model was trained at
DROPS = {"fp32": 0.05, "fp16": 0.1}  # points of AP a precision may cost; the compressed ones:
DROP = 0.5


def main() -> None:
    """Print one line per precision."""
    files = bundle()
    model, checkpoint = load_model(files.checkpoint)
    exact = evaluate(load_reference(files.checkpoint, input_size=SIZE), DATA / "instances.json", DATA / "images")
    print(
        f"{'':<10} {'MB':>6} {'AP':>6} {'drop':>6} {'AP50':>6} {'AP75':>6}   largest difference from PyTorch, of range"
    )
    print(f"{'PyTorch':<10} {'':>6} {exact.ap:>6.2f} {'':>6} {exact.ap50:>6.2f} {exact.ap75:>6.2f}", flush=True)
    drops = {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "nuclei.mlpackage"
            calibration = read_calibration(files.checkpoint.with_name("calibration")) if precision == "w8a8" else None
            manifest = export_coreml(
                model,
                path,
                height=SIZE[0],
                width=SIZE[1],
                precision=precision,
                calibration=calibration,
                source_sha256=checkpoint.sha256,
                weights_licence=checkpoint.licence or "unknown",
            )
            with load(path) as segment:
                got = evaluate(segment, DATA / "instances.json", DATA / "images")
        drops[precision] = exact.ap - got.ap
        parity = ", ".join(f"{output} {value:.1e}" for output, value in manifest.parity.items())
        print(
            f"{precision:<10} {manifest.size_bytes / 1e6:>6.2f} {got.ap:>6.2f} {drops[precision]:>6.2f} "
            f"{got.ap50:>6.2f} {got.ap75:>6.2f}   {parity}",
            flush=True,
        )
    for precision, drop in drops.items():
        assert drop <= DROPS.get(precision, DROP), f"{precision} loses {drop:.2f} points"


if __name__ == "__main__":
    main()
