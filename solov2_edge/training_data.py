"""The part of ``solov2-edge train`` that concerns data: its arguments, the pictures they ask for, and their cache."""

from __future__ import annotations

import argparse
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.annotation_arguments import FORMS, add_annotation_arguments, class_choice
from solov2_edge.console import Console
from solov2_edge.errors import InputError, require

if TYPE_CHECKING:
    from solov2_edge.annotated_pictures import CocoPictures
    from solov2_edge.scene_cache import SceneCache

__all__ = ["add_data_arguments", "open_training", "open_validation"]

FREE_SHARE = 0.25  # of the free memory that a cache may take without being asked for
CROPS = 1.2  # bytes kept of a scene, over those of its picture: masks are kept as their boxes


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a run learns from and is measured on, and what looks at it without training."""
    add_annotation_arguments(parser)
    add = parser.add_argument
    add("--val-annotations", type=Path, metavar="PATH", help=f"what to measure mask AP on: {FORMS}")
    add("--val-images", type=Path, metavar="DIR", help="folder of its pictures (default: a COCO json's --images)")
    add(
        "--check",
        action="store_true",
        help="name every bad annotation and picture, count objects by class and size, and end without training: exit "
        "code 3 if anything is bad",
    )
    add(
        "--cache",
        choices=("ram", "disk", "off"),
        help="keep decoded pictures and masks (default: ram where they fit into a quarter of the free memory)",
    )
    add("--draw-batch", type=Path, metavar="FILE.png", help="draw the first batch with its targets, then go on")


def open_training(args: argparse.Namespace, workers: int, console: Console) -> CocoPictures:
    """Read the pictures of a run, with the cache that was asked for.

    Raises:
        InputError: annotations cannot be used, or the cache does not fit into memory.
    """
    from solov2_edge.annotated_pictures import read_pictures

    pictures = read_pictures(args.annotations, args.images, class_choice(args))
    return replace(pictures, scenes=_cache(args.cache, pictures, workers, console))


def open_validation(args: argparse.Namespace) -> tuple[Path, Path | None, dict[str, Any]] | None:
    """Return (annotations, images, options) for ``evaluate``, or None where nothing is to be measured.

    They are read once here: what cannot be used is told of now, not after the first epochs.

    Raises:
        InputError: the annotations cannot be read.
    """
    require(
        args.val_annotations is not None or args.val_images is None,
        "--val-images without --val-annotations; give both or neither",
    )
    if args.val_annotations is None:
        return None
    from solov2_edge.runtime.annotation_sets import COCO, locate, read_located

    located = locate(args.val_annotations, args.val_images)
    if located.form == COCO and args.val_images is None:
        located = replace(located, images=args.images)
    choice = class_choice(args)
    choice.apply(read_located(located, split="val").data, str(args.val_annotations), strict=False)
    return args.val_annotations, located.images, {"choice": choice}


def _cache(kind: str | None, pictures: CocoPictures, workers: int, console: Console) -> SceneCache | None:
    """Return the cache of that kind; without one named, memory if there is plenty."""
    from solov2_edge.scene_cache import DiskScenes, RamScenes

    if kind == "off":
        return None
    if kind == "disk":
        from solov2_edge.download import cache_folder

        folder = cache_folder().parent / "scenes"
        console.log(f"decoded pictures are kept in {folder}, which may be deleted at any time")
        masks = [[tuple(entry[1:]) for entry in objects] for objects in pictures.annotations]
        return DiskScenes(folder, pictures.files, masks)
    # A picture that carries no object never comes here, so each has its size with its first.
    needed = int(sum(3 * objects[0][2] * objects[0][3] for objects in pictures.annotations) * CROPS)
    needed += sum(16 * len(objects) + 12 for objects in pictures.annotations)
    shared = multiprocessing.get_start_method() == "fork"
    total, free = needed * (1 if shared else max(workers, 1)), _free_memory()
    if kind is None:
        return RamScenes(len(pictures.files), needed) if free is not None and total <= FREE_SHARE * free else None
    if free is not None and total > free:
        raise InputError(
            f"--cache ram needs {total / 1e9:.1f} GB for the decoded pictures and {free / 1e9:.1f} GB are free; give "
            "--cache disk or off"
        )
    return RamScenes(len(pictures.files), needed)


def _free_memory() -> int | None:
    """Return the bytes of memory that can be had, here or in this container, or None where nothing says so."""
    found = [_number_in("/proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024)]
    limit, used = (_number_in(f"/sys/fs/cgroup/memory.{name}", r"(\d+)$", 1) for name in ("max", "current"))
    found.append(None if limit is None or used is None else max(limit - used, 0))
    known = [value for value in found if value is not None]
    return min(known) if known else None


def _number_in(path: str, pattern: str, unit: int) -> int | None:
    try:
        match = re.search(pattern, Path(path).read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return int(match[1]) * unit if match else None
