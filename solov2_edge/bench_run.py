"""The measurement behind ``solov2-edge bench``: opens everything, measures in turn, and gathers the document."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.choices import parse_size, size_text
from solov2_edge.command_segment import segmenter_options
from solov2_edge.console import Console
from solov2_edge.engine_choice import Placed, placed
from solov2_edge.manifest import sha256_of, size_of
from solov2_edge.opening import INTERPRETED, is_checkpoint, open_segmenter
from solov2_edge.runtime.bench import Contender, Limit, look, measure
from solov2_edge.runtime.bench_frames import frames_sha256, read_frames, resized
from solov2_edge.runtime.bench_report import report, result_entry
from solov2_edge.runtime.bench_scenes import find_scenes
from solov2_edge.runtime.bench_stream import Throughput, measure_streams, stream_entry, stream_limit
from solov2_edge.runtime.machine import read_clocks, read_machine, thread_variables, versions
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.threads import ORT_CONFIG

__all__ = ["INTERPRETER_NOTE", "measure_models"]

INTERPRETER_NOTE = "interpreter times mean nothing for a phone"
DECODED_NOTE = "decodes inside its graph: network holds Matrix NMS, decode only brings masks to the frame"
FRAME_INCLUDES = {
    "crops": "preprocess, network and decode; masks stay crops in frame pixels",
    "rle": "preprocess, network, decode and the COCO RLE of every mask",
    "full": "preprocess, network, decode and every mask pasted into a canvas of the frame's size",
}

Frames = tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """One model, open with one number of threads, and what is known of it."""

    path: Path
    segment: Any
    facts: dict[str, Any]


def measure_models(
    args: argparse.Namespace, sizes: Sequence[tuple[int, int]], seconds: float, console: Console
) -> dict[str, Any]:
    """Open every model with every number of threads, and measure them in turn on every frame size.

    Args:
        args: the verb's arguments, checked.
        sizes: (H, W) the frames are stretched to; none leaves them as they are.
        seconds: to measure for, where the number of rounds is not given.
        console: for progress.

    Returns:
        The document of :func:`solov2_edge.runtime.bench_report.report`.
    """
    sources = list(dict.fromkeys(args.source)) or [bundle().pictures]
    read = [read_frames(source, args.frames) for source in sources]
    frames: list[tuple[Path, Frames]] = [
        (source, resized(own, *size) if size else own)
        for source, own in zip(sources, read, strict=True)
        for size in (sizes or (None,))
    ]
    machine = read_machine()
    limit = Limit(rounds=args.repeats) if args.repeats else Limit(seconds=seconds)
    with ExitStack() as stack:
        models = [
            _open(model, threads, args, console, stack)
            for model in placed(args.models, args.engine)
            for threads in dict.fromkeys(args.threads or [None])
        ]
        lines = [(model, source, _contender(model, own)) for model in models for source, own in frames]
        contenders = [contender for *_, contender in lines]
        seen = [look(contender, args.warm_up) for contender in console.track(contenders, len(contenders), "warm-up")]
        scenes = find_scenes(contenders, seen, list(dict.fromkeys(args.instances)))
        console.log(f"measuring {len(contenders)} in turn")
        with console.counter("measuring") as progress:
            measured = measure(contenders, scenes, limit, masks=args.masks, progress=progress)
        streams = _streams(contenders, limit, args, console)
    results = [
        {
            **result_entry({**model.facts, "source": source.name}, contender, times, own, measured[0]),
            "stream": stream_entry(stream, args.stream),
        }
        for (model, source, contender), times, own, stream in zip(lines, measured, scenes, streams, strict=True)
    ]
    settings = {
        "source": sources,
        "frames_sha256": frames_sha256([frame for own in read for frame in own]),
        "warm_up": args.warm_up,
        "repeats": limit.rounds,
        "seconds": limit.seconds,
        "masks": args.masks,
        "frame_includes": FRAME_INCLUDES[args.masks],
        "opencv_threads": cv2.getNumThreads(),
        "engine_config": {"onnxruntime": ORT_CONFIG},
        "thread_variables": thread_variables(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    after = {"clock_after_mhz": read_clocks().now_mhz}
    return report({**machine.to_dict(), **after}, versions(), settings, results)


def _streams(
    contenders: Sequence[Contender], limit: Limit, args: argparse.Namespace, console: Console
) -> list[Throughput | None]:
    if args.stream is None:
        return [None] * len(contenders)
    most = max(len(contender.frames) for contender in contenders)
    with console.counter("streaming") as progress:
        return measure_streams(contenders, stream_limit(limit, most), args.stream, masks=args.masks, progress=progress)


def _open(model: Placed, threads: int | None, args: argparse.Namespace, console: Console, stack: ExitStack) -> _Model:
    path = model.path
    console.log(f"opening {path.parent / model.name}" + (f" with {threads} threads" if threads else ""))
    size = parse_size(args.input_size) if args.input_size is not None and is_checkpoint(path) else None
    options = segmenter_options(argparse.Namespace(**{**vars(args), "threads": None, "engine": model.engine}))
    start = time.perf_counter()
    segment: Any = open_segmenter(path, threads=threads, input_size=size, **options)
    opened = time.perf_counter() - start
    stack.callback(segment.close)
    manifest = getattr(segment, "manifest", None)
    interpreted = segment.engine.startswith(INTERPRETED)
    decoded = manifest is not None and manifest.decode is not None
    facts = {
        "artefact": path,
        "name": model.name,
        "sha256": sha256_of(path),
        "size_bytes": size_of(path),
        "format": "checkpoint" if manifest is None else manifest.format,
        "precision": "fp32" if manifest is None else manifest.precision,
        "variant": segment.spec.name,
        "classes": segment.spec.num_classes,
        "engine": segment.engine,
        "providers": list(segment.providers),
        "threads": threads,
        "open_ms": 1e3 * opened,
        "meaningful": not interpreted,
        "note": INTERPRETER_NOTE if interpreted else DECODED_NOTE if decoded else "",
    }
    return _Model(path, segment, facts)


def _contender(model: _Model, frames: Frames) -> Contender:
    segment, threads = model.segment, model.facts["threads"]
    name = f"{model.facts['name']} at {size_text(*frames[0].shape[:2])}"
    if not is_checkpoint(model.path):
        size = segment.manifest.input.height, segment.manifest.input.width
        return Contender(
            name,
            segment,
            segment.spec,
            segment.options,
            frames,
            lambda height, width: fixed_geometry(height, width, *size),
            gives_raw=segment.manifest.decode is None,
        )
    import torch

    from solov2_edge.reference import oracle_decode

    # PyTorch has one number of threads for the whole process: each turn sets its own.
    own_threads = threads or torch.get_num_threads()
    return Contender(
        name,
        segment,
        segment.spec,
        segment.options,
        frames,
        segment.geometry,
        oracle_decode,
        lambda: torch.set_num_threads(own_threads),
    )
