"""The paper's ablations at nano's size: one short training each on the nuclei, all else equal, and their AP in a table.

Run with ``python benchmarks/ablations.py --annotations instances_train.json --images DIR``; about two minutes a row on
two CPU cores. Each starts from the bundled model's backbone and pyramid with a fresh head, so that a few epochs tell
something. Those were learnt together with the default head: that is a head start for no row over the others, yet not
what training from scratch would say. One seed; docs/ablations.md says what differences mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from solov2_edge.annotated_pictures import read_pictures
from solov2_edge.augment import AugmentOptions
from solov2_edge.checkpoint import expected_shapes, read_checkpoint
from solov2_edge.model import SOLOv2
from solov2_edge.reference import reference_from_model
from solov2_edge.runtime.evaluate import evaluate
from solov2_edge.spec_changes import changed_variant
from solov2_edge.train import train
from solov2_edge.train_options import TrainOptions
from solov2_edge.zoo import bundled_path

VALIDATION = Path(__file__).resolve().parent.parent / "tests" / "data" / "nuclei_val"
# Table 3a: kernel shape and E; 3b: coordinates; 3d: mask features.
ROWS: dict[str, tuple[str, ...]] = {
    "1x1 x 48, both coordinates, unified": (),
    "1x1 x 16": ("mask_channels=16",),
    "1x1 x 96": ("mask_channels=96",),
    "3x3 x 48": ("kernel_size=3",),
    "no coordinates": ("kernel_coordinates=off", "feature_coordinates=off"),
    "coordinates in kernels only": ("feature_coordinates=off",),
    "coordinates in features only": ("kernel_coordinates=off",),
    "separate mask features": ("mask_features=separate",),
}


def row(changes: tuple[str, ...], args: argparse.Namespace) -> dict[str, Any]:
    """Train one variant and return its figures; AP is that of the weights' moving average."""
    pictures = read_pictures(args.annotations, args.images)
    spec = changed_variant("nano", changes, pictures.class_names)
    options = TrainOptions(
        epochs=args.epochs,
        input_size=(args.size, args.size),
        warmup_steps=30,
        ema_decay=0.98,  # over 50 steps: a run has a few hundred
        precision="bf16",
        evaluate_every=args.epochs,
        seed=args.seed,
        augment=AugmentOptions(turns=True, scale=(0.8, 1.25), colour=0.5),
    )
    bundled = read_checkpoint(bundled_path()).state
    body = {name: tensor for name, tensor in bundled.items() if name.startswith(("backbone.", "neck."))}

    def measure(model: SOLOv2) -> dict[str, float]:
        segment = reference_from_model(model, input_size=options.input_size)
        found = evaluate(segment, args.val / "instances.json", args.val / "images")
        return {"ap": found.ap, "ap50": found.ap50, "ap75": found.ap75}

    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(pictures, spec, Path(folder), options, initial=body, evaluate=measure)
        lines = (Path(folder) / "log.csv").read_text(encoding="utf-8").splitlines()
    last = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    return {
        "changes": list(changes),
        "parameters": sum(torch.Size(s).numel() for s in expected_shapes(spec).values()),
        "loss": float(last["loss"]),
        **{name: float(last[name]) for name in ("ap", "ap50", "ap75")},
        "cpu_seconds": round(time.process_time() - start),
    }


def main() -> None:
    """Train the rows and print them as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--val", type=Path, default=VALIDATION, help="folder of instances.json and images/")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="input side in pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(ROWS), help="rows to train (all)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file, row by row")
    args = parser.parse_args()
    print(f"{args.epochs} epochs at {args.size}x{args.size}, seed {args.seed}, {torch.get_num_threads()} threads\n")
    print("| network | parameters | loss | AP | AP50 | AP75 | CPU s |\n|---|---|---|---|---|---|---|")
    found = {}
    for name in args.only or ROWS:
        figures = found[name] = row(ROWS[name], args)
        assert 0 < figures["ap"] < 100, f"{name} learnt nothing: {figures}"
        print(
            f"| {name} | {figures['parameters']:,} | {figures['loss']:.3f} | {figures['ap']:.1f} | "
            f"{figures['ap50']:.1f} | {figures['ap75']:.1f} | {figures['cpu_seconds']} |",
            flush=True,
        )
        if args.json is not None:
            args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
