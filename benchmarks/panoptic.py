"""The panoptic extension from data to figures: drawn scenes, a nano network with stuff trained on them, PQ held out.

No picture here is a photograph: things (discs, boxes, triangles of any colour, overlapping) lie on two grounds that
differ in texture, not in colour, with a border between them and a strip of void. What is shown is that the parts work
together, not how well a network of this size does on photographs.

    python benchmarks/panoptic.py --output panoptic-output

runs the four verbs it prints: train, convert, eval, segment; some six minutes of one core. ``--epochs 0``
takes the training that is there. Fails where the artefact's PQ is not the checkpoint's, or neither finds its way.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import solov2_edge
from solov2_edge.demos.colours import colour
from solov2_edge.runtime.panoptic_annotations import encode_ids, read_panoptic, read_segment_ids

SIDE = 192  # pixels of a picture
THINGS, STUFF = ("disc", "box", "triangle"), ("waves", "gravel")
VOID_SHARE, VOID_HEIGHT = 0.3, 20  # of the pictures have a strip, so high in pixels, that is annotated as nothing
NANO = Path(solov2_edge.__file__).parent / "assets" / "nano-nuclei.safetensors"  # spares the first epochs
LEAST_AREA = 40  # visible pixels below which a thing is void
LEAST_PQ, MOST_APART = 50.0, 0.5  # points
STUFF_AREA = 512  # least pixels of a stuff segment: these pictures have an eighth of COCO's


def _grounds(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a picture (S, S, 3) of both grounds and where the first, waves, is."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    angle, length = rng.uniform(0, np.pi), rng.uniform(8, 14)
    bend = 8 * np.sin((y * np.cos(angle) - x * np.sin(angle)) / rng.uniform(25, 50))
    waves = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle) + bend) / length)
    gravel = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)).astype(np.float32), (0, 0), float(rng.uniform(1.2, 2.2)))
    gravel /= gravel.std()
    turn, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3) * SIDE
    wobble = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)).astype(np.float32), (0, 0), 24)
    side = (x - SIDE / 2) * np.cos(turn) + (y - SIDE / 2) * np.sin(turn) + 15 * wobble / wobble.std()
    first = side > offset
    texture = np.where(first, waves, gravel)[..., None] * rng.uniform(14, 26, 3)
    return texture + rng.uniform(70, 180, 3), first  # one colour for both


def _outline(kind: str, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return the corners (n, 2) x, y of one thing."""
    radius, turn = rng.uniform(11, 36), rng.uniform(0, 2 * np.pi)
    if kind == "disc":
        corners = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        stretch = np.array([1.0, rng.uniform(0.8, 1.0)])
    else:
        corners = np.arange(4 if kind == "box" else 3) * 2 * np.pi / (4 if kind == "box" else 3)
        stretch = np.ones(2)
    points = np.stack([np.cos(corners), np.sin(corners)], -1) * stretch * radius
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.rint(points @ rotation.T + rng.uniform(16, SIDE - 16, 2)).astype(np.int32)


def scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int32], list[dict[str, int]]]:
    """Return a picture (S, S, 3) BGR, its map of segment ids (S, S) and the segments."""
    picture, first = _grounds(rng)
    ids = np.where(first, 1, 2).astype(np.int32)
    labels = {1: len(THINGS) + 1, 2: len(THINGS) + 2}
    if rng.random() < VOID_SHARE:
        start = int(rng.integers(SIDE - VOID_HEIGHT))
        picture[start : start + VOID_HEIGHT] = rng.uniform(0, 255, 3)
        ids[start : start + VOID_HEIGHT] = 0
    for number in range(3, 3 + int(rng.integers(2, 8))):
        kind = int(rng.integers(len(THINGS)))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(mask, [_outline(THINGS[kind], rng)], 1)
        inside = mask > 0
        picture[inside] = rng.uniform(0, 255, 3) + rng.normal(0, 6, (int(inside.sum()), 1))
        ids[inside] = number
        labels[number] = kind + 1
    picture = cv2.GaussianBlur(picture, (3, 3), 0) + rng.normal(0, 4, picture.shape)
    areas = {number: int((ids == number).sum()) for number in labels}
    for number, area in areas.items():
        if 0 < area < LEAST_AREA:
            ids[ids == number] = 0
    segments = [
        {"id": number, "category_id": labels[number], "area": area, "iscrowd": 0}
        for number, area in areas.items()
        if area >= LEAST_AREA
    ]
    return picture.clip(0, 255).astype(np.uint8), ids, segments


def write_scenes(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` scenes as COCO has panoptic sets: images/, panoptic.json and panoptic/ with PNGs of ids."""
    for part in ("images", "panoptic"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    document: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    for number, name in enumerate((*THINGS, *STUFF), start=1):
        document["categories"].append({"id": number, "name": name, "isthing": int(name in THINGS)})
    for index in range(1, count + 1):
        picture, ids, segments = scene(np.random.default_rng((seed, index)))
        cv2.imwrite(str(folder / "images" / f"{index:04d}.png"), picture)
        cv2.imwrite(str(folder / "panoptic" / f"{index:04d}.png"), encode_ids(ids))
        size = {"height": SIDE, "width": SIDE}
        document["images"].append({"id": index, "file_name": f"{index:04d}.png", **size})
        entry = {"image_id": index, "file_name": f"{index:04d}.png", "segments_info": segments}
        document["annotations"].append(entry)
    (folder / "panoptic.json").write_text(json.dumps(document))


def _verb(*words: str | Path) -> str:
    """Run a verb, saying which; return its stdout."""
    line = [str(word) for word in words]
    print("solov2-edge", shlex.join(line), flush=True)
    done = subprocess.run([sys.executable, "-m", "solov2_edge", *line], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _data(folder: Path) -> tuple[str | Path, ...]:
    """Return the options that name a set of scenes."""
    return "--annotations", folder / "panoptic.json", "--images", folder / "images", "--panoptic", folder / "panoptic"


def draw(scenes: Path, found: Path, count: int = 6, columns: int = 2) -> NDArray[np.uint8]:
    """Return the first scenes as (picture, found, annotated), side by side, several to a row."""
    tiles = []
    for (image, wanted), (_, got) in zip(
        read_panoptic(scenes / "panoptic.json").pictures[:count],
        read_panoptic(found / "panoptic.json").pictures,
        strict=False,
    ):
        picture = cv2.imread(str(scenes / "images" / image["file_name"]))
        parts = [picture]
        for folder, annotation in ((found, got), (scenes, wanted)):
            ids, tinted = read_segment_ids(folder / "panoptic", image, annotation), np.zeros_like(picture)
            for rank, segment in enumerate(annotation["segments_info"]):
                category = segment["category_id"]
                tint = colour(rank if category <= len(THINGS) else 1000 + category)
                tinted[ids == segment["id"]] = tint
            parts.append(cv2.addWeighted(picture, 0.35, tinted, 0.65, 0))
        tiles.append(np.pad(np.hstack(parts), ((0, 4), (0, 8), (0, 0)), constant_values=255))
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles) - columns + 1, columns)]
    return np.asarray(cv2.resize(np.vstack(rows), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    """Draw, train, convert, evaluate, segment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("panoptic-output"))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=160)
    args = parser.parse_args()
    train, val, run = (args.output / name for name in ("train", "val", "run"))
    write_scenes(train, args.pictures, seed=1)
    write_scenes(val, 60, seed=2)
    if args.epochs > 0:
        size = ("--variant", "nano", "--input-size", f"{SIDE}x{SIDE}")
        start = ("--init", NANO, "--epochs", str(args.epochs), "--batch-size", "4", "--warmup-steps", "50")
        print(_verb("train", *_data(train), *size, *start, "--turns", "--licence", "CC0", "-o", run), end="")
    checkpoint, artefact = run / "last.safetensors", run / "panoptic.fp32.onnx"
    _verb("convert", checkpoint, "--to", "onnx", "--input-size", f"{SIDE}x{SIDE}", "--name", "panoptic", "-o", run)
    merging = ("--stuff-area", str(STUFF_AREA))
    answer = _verb("eval", checkpoint, artefact, *_data(val), *merging, "--json")
    _verb("segment", artefact, val / "images", "--panoptic", *merging, "-o", args.output / "found")
    cv2.imwrite(str(args.output / "panoptic.png"), draw(val, args.output / "found"))
    results = json.loads(answer)["results"]
    for result in results:
        for kind in ("all", "things", "stuff"):
            figures = "  ".join(f"{name.upper()} {result[kind][name]:.1f}" for name in ("pq", "sq", "rq"))
            print(f"{Path(result['model']).name:22} {kind:7} {figures}")
        print("  " + ", ".join(f"{name} PQ {row['pq']:.1f}" for name, row in result["by_name"].items()))
    torch, onnx = (result["all"]["pq"] for result in results)
    assert abs(torch - onnx) <= MOST_APART, f"PQ {onnx:.2f} in ONNX Runtime, {torch:.2f} in PyTorch"
    assert min(torch, onnx) >= LEAST_PQ, f"PQ {min(torch, onnx):.1f}: the network has not found its way"


if __name__ == "__main__":
    main()
