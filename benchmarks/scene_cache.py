"""What a cache of decoded pictures saves: milliseconds of preparing a sample without one, from memory and from disk.

``python benchmarks/scene_cache.py [--annotations PATH --images DIR] [--input-size 448x448]``: the same samples in turn
from each, one thread, medians over the pictures; that every cache gives the very samples of decoding is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from solov2_edge.annotated_pictures import CocoPictures, read_pictures, read_scene
from solov2_edge.augment import AugmentOptions
from solov2_edge.choices import parse_size
from solov2_edge.data import TrainingSet
from solov2_edge.scene_cache import DiskScenes, RamScenes
from solov2_edge.variants import variant

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "nuclei_val"
EPOCHS = 3  # the first fills the caches and is not counted


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, default=DATA / "instances.json")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--input-size", default="448x448")
    parser.add_argument("--limit", type=int, default=200, help="pictures (default: %(default)s)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    shipped = DATA / "images" if args.annotations == DATA / "instances.json" else None
    every = read_pictures(args.annotations, args.images or shipped)
    pictures = CocoPictures(every.class_names, every.files[: args.limit], every.annotations[: args.limit])
    spec, size = variant("nano", pictures.class_names), parse_size(args.input_size)
    with tempfile.TemporaryDirectory() as folder:
        masks = [[entry[1:] for entry in objects] for objects in pictures.annotations]
        kept = {
            "off": pictures,
            "ram": replace(pictures, scenes=RamScenes(len(pictures.files), 1 << 33)),
            "disk": replace(pictures, scenes=DiskScenes(Path(folder), pictures.files, masks)),
        }
        sets = {name: TrainingSet(own, spec, size, AugmentOptions(), 0) for name, own in kept.items()}
        scenes: dict[str, list[float]] = {name: [] for name in kept}
        samples: dict[str, list[float]] = {name: [] for name in kept}
        for epoch in range(EPOCHS):
            for index in range(len(pictures.files)):
                got = {}
                for name in kept:
                    started = time.process_time()
                    read_scene(kept[name], index)
                    between = time.process_time()
                    got[name] = sets[name][epoch, index]
                    if epoch:
                        scenes[name].append(1e3 * (between - started))
                        samples[name].append(1e3 * (time.process_time() - between))
                for name in ("ram", "disk"):
                    assert torch.equal(got[name].image, got["off"].image)
                    assert torch.equal(got[name].masks, got["off"].masks)
        size_on_disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(f"{len(pictures.files)} pictures, {size_on_disk / 1e6:.0f} MB decoded, process CPU time, one thread")
    print("cache   scene ms   sample ms   of no cache")
    whole = statistics.median(samples["off"])
    for name in kept:
        scene, sample = statistics.median(scenes[name]), statistics.median(samples[name])
        print(f"{name:5}  {scene:9.2f}  {sample:10.2f}  {sample / whole:12.2f}")


if __name__ == "__main__":
    main()
