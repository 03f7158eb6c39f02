"""What precisions cost on 80 classes and everyday pictures: a network fitted to COCO pictures, converted and measured.

Run with ``python benchmarks/coco80.py --data FOLDER [--variant light-448-r18]``. The folder holds COCO 2017's layout:
``annotations/instances_{train,val}2017.json`` and ``train2017``, ``val2017``, a part of each is enough. The network is
trained on the train pictures until it fits them, and kept in the git-ignored ``.cache/coco80``, so that the next run
only measures. Accuracy is that on the pictures it was fitted to, which says nothing of how well it generalises and
everything of what rounding takes away: its scores are high, and all its classes are in use. Calibration sees the val
pictures only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from solov2_edge.cli import main as solov2_edge

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "coco80"
SIZE = "448x448"
# variant -> epochs and peak learning rate; the 80 pictures of the train set then reach 45 AP with nano, 60 with R18
RUNS = {"nano": (545, 0.003), "light-448-r18": (516, 0.001)}
FORMATS = {"onnx": ("fp32", "fp16", "int8"), "tflite": ("fp32", "fp16", "int8-dynamic", "int8")}


def _run(*words: object) -> None:
    """Run one verb as a user would; its own sentence says why it failed."""
    code = solov2_edge([str(word) for word in words])
    if code:
        sys.exit(code)


def fit(data: Path, name: str, epochs: int, folder: Path) -> Path:
    """Train the variant unless a finished run is there; return its checkpoint."""
    checkpoint = folder / "fitted.safetensors"
    if not checkpoint.is_file():
        _run(
            *("train", "--annotations", data / "annotations/instances_train2017.json", "--images", data / "train2017"),
            *("--variant", name, "--input-size", SIZE, "--epochs", epochs, "--batch-size", 16, "--precision", "bf16"),
            *("--learning-rate", RUNS[name][1], "--workers", 2, "--keep-every", 20, "--resume", "-o", folder / "run"),
        )
        (folder / "run/last.safetensors").replace(checkpoint)
    return checkpoint


def convert(data: Path, checkpoint: Path, formats: list[str], folder: Path) -> list[Path]:
    """Write every precision of the formats; return the artefacts, float32 of the first format leading."""
    made = []
    for format_ in formats:
        precisions = FORMATS[format_]
        _run(
            *("convert", checkpoint, "--to", format_, "--precision", *precisions, "--input-size", SIZE),
            *("--calibrate", data / "val2017", "--name", "fitted", "-o", folder),
        )
        made += [folder / f"fitted.{precision}.{format_}" for precision in precisions]
    if "onnx" in formats:
        _run(
            *("convert", checkpoint, "--to", "onnx", "--precision", "int8", "--for", "tensorrt", "--input-size", SIZE),
            *("--calibrate", data / "val2017", "--name", "fitted", "-o", folder),
        )
        made.append(folder / "fitted.int8-tensorrt.onnx")
    return made


def main() -> None:
    """Fit, convert, and let ``eval`` print AP and drops with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder in COCO 2017's layout")
    parser.add_argument("--variant", choices=tuple(RUNS), default="nano")
    parser.add_argument("--epochs", type=int, help="default: what fits the 80 pictures")
    parser.add_argument("--to", nargs="+", choices=tuple(FORMATS), default=list(FORMATS), metavar="FORMAT")
    args = parser.parse_args()
    if args.data is None:
        print("no --data: this needs COCO pictures, of which the project ships none")
        return
    folder = CACHE / args.variant
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = fit(args.data, args.variant, args.epochs or RUNS[args.variant][0], folder)
    artefacts = convert(args.data, checkpoint, args.to, folder)
    _run(
        *("eval", *artefacts, "--baseline", artefacts[0]),
        *("--annotations", args.data / "annotations/instances_train2017.json", "--images", args.data / "train2017"),
    )


if __name__ == "__main__":
    main()
