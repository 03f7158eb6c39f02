"""What is fuzzed: every parser of this project, from bytes that anybody may hand over.

A target takes bytes and returns, or raises ``InputError``; anything else is a fault. ``seeds`` are good inputs to
begin from: the artefacts of tests/data/schema1, and what is written here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

__all__ = ["TARGETS", "Target"]

CHECKOUT = Path(__file__).resolve().parent.parent
ARTEFACTS = CHECKOUT / "tests/data/schema1/artefacts.zip"
MOST_PIXELS = 1 << 20  # of a mask that is also decoded, not only checked


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        parse: takes bytes; raises ``InputError`` for what is bad and nothing else.
        seeds: returns good inputs.
    """

    parse: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def stored(name: str) -> list[bytes]:
    """Return a file out of the kept artefacts."""
    with zipfile.ZipFile(ARTEFACTS) as archive:
        return [archive.read(name)]


@lru_cache(maxsize=1)
def place() -> Path:
    """Return a folder for what has to be a file; in memory where the system has such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="solov2-edge-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))


def as_file(name: str, data: bytes) -> Path:
    """Write the bytes to a file of that name and return its path."""
    path = place() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def manifest(data: bytes) -> object:
    """Read a manifest."""
    from solov2_edge.manifest import Manifest

    return Manifest.from_json(data)


def pickled(data: bytes) -> object:
    """Read a pickle as data."""
    from solov2_edge.unpickle import read_pickle

    return read_pickle(io.BytesIO(data))


def checkpoint(data: bytes) -> object:
    """Read a checkpoint's names, shapes and spec, and its weights: zip, pickle stream or safetensors."""
    from solov2_edge.checkpoint import read_checkpoint

    return read_checkpoint(as_file("fuzzed.pth", data))


def rle(data: bytes) -> object:
    """Read run lengths, compressed and as JSON."""
    from solov2_edge.runtime.annotations import is_segmentation
    from solov2_edge.runtime.rle import decode_rle, decompress_counts, rle_runs

    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return decompress_counts(data)
    if not isinstance(value, dict):
        return is_segmentation(value)
    height, width, _ = rle_runs(value)
    return decode_rle(value) if height * width <= MOST_PIXELS else None


def coco(data: bytes) -> object:
    """Read COCO annotations."""
    from solov2_edge.runtime.annotations import read_annotations

    return read_annotations(as_file("coco.json", data))


def labelme(data: bytes) -> object:
    """Read a folder of one LabelMe file."""
    from solov2_edge.runtime.annotation_sets import open_annotations

    as_file("labelme/a.png", PNG)
    return open_annotations(as_file("labelme/a.json", data).parent)


def stream(data: bytes) -> object:
    """Read the address of a source that opens nothing."""
    from solov2_edge.runtime.opening_source import open_source
    from solov2_edge.runtime.source_http import without_secrets

    text = data.decode(errors="replace")
    with contextlib.suppress(ValueError):  # what open_source asks first
        urlsplit(f"rtsp://{text}").port  # noqa: B018 - what it raises is what is wanted
        without_secrets(f"rtsp://{text}")
    with open_source(f"test://{text}") as source:
        return source.status()


def mil(data: bytes) -> object:
    """Read an ML Program."""
    from solov2_edge.converters.mil_package import read_package
    from solov2_edge.converters.mil_program import read_program

    prefix = "tiny.fp32.mlpackage"
    for name in ("Manifest.json", "Data/com.apple.CoreML/weights/weight.bin"):
        if not (place() / prefix / name).exists():
            as_file(f"{prefix}/{name}", stored(f"{prefix}/{name}")[0])
    folder = as_file(f"{prefix}/Data/com.apple.CoreML/model.mlmodel", data).parents[2]
    package = read_package(folder)
    return read_program(package.model, package.folder)


def tflite(data: bytes) -> object:
    """Read the metadata and the graph of a TFLite model."""
    from solov2_edge.converters.tflite_facts import read_facts
    from solov2_edge.runtime.tflite_file import read_metadata

    read_metadata(data)
    return read_facts(data)


def onnx(data: bytes) -> object:
    """Read the manifest inside an ONNX file."""
    from solov2_edge.runtime.onnx_file import read_manifest_text

    return read_manifest_text(as_file("fuzzed.onnx", data))


def picture(data: bytes) -> object:
    """Read a picture's kind and size from its head."""
    from solov2_edge.runtime.picture_headers import SNIFF_BYTES, is_whole, picture_format, picture_size

    kind = picture_format(data[:SNIFF_BYTES])
    return None if kind is None else (picture_size(data, kind), is_whole(data, kind))


def _pictures() -> list[bytes]:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return [bytes(cv2.imencode(suffix, noise)[1]) for suffix in (".png", ".jpg", ".webp", ".bmp", ".tiff")]


def _coco() -> list[bytes]:
    shapes = [[[1, 1, 5, 1, 5, 5]], {"size": [6, 8], "counts": [8, 4, 36]}, {"size": [6, 8], "counts": "0`1"}]
    objects = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": shape, "area": 8, "iscrowd": 0}
        for i, shape in enumerate(shapes)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    return [json.dumps({"images": images, "categories": [{"id": 1, "name": "nut"}], "annotations": objects}).encode()]


def _labelme() -> list[bytes]:
    square = {
        "label": "nut",
        "points": [[1, 1], [5, 1], [5, 5]],
        "shape_type": "polygon",
        "group_id": None,
        "flags": {},
    }
    box = {**square, "points": [[1, 1], [4, 5]], "shape_type": "rectangle"}
    base = {"version": "5.0.0", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": 6, "imageWidth": 8}
    return [json.dumps({**base, "shapes": [square, box]}).encode()]


def _checkpoints() -> list[bytes]:
    import torch

    from solov2_edge.checkpoint import save_checkpoint
    from solov2_edge.model import SOLOv2
    from solov2_edge.spec import BackboneSpec, ModelSpec

    widths = {"pyramid_width": 4, "tower_depth": 1, "tower_width": 4, "mask_width": 4, "mask_channels": 4}
    backbone = BackboneSpec("basic", (1, 1, 1, 1), widths=(4, 4, 4, 4), stem_width=4)
    spec = ModelSpec(name="custom", class_names=("nut",), backbone=backbone, norm_groups=2, **widths)
    state = SOLOv2(spec).state_dict()
    save_checkpoint(place() / "seed.safetensors", spec, state)
    seeds = [(place() / "seed.safetensors").read_bytes()]
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"state_dict": state, "meta": {"epoch": 3}}, buffer, _use_new_zipfile_serialization=new)
        seeds.append(buffer.getvalue())
    return seeds


def _pickles() -> list[bytes]:
    import pickle
    from collections import OrderedDict

    value = {"state_dict": OrderedDict(a=np.zeros(3, np.float32)), "meta": ([1, 2.5, "x"], {None, b"y"}, 1 << 70)}
    return [pickle.dumps(value, protocol=protocol) for protocol in range(6)]


_RLE = [
    b'{"size": [6, 8], "counts": [8, 4, 36]}',
    b'{"size": [6, 8], "counts": "84T1"}',
    b"84T1",
    b"[[1, 1, 5, 1, 5, 5]]",
]
_ADDRESSES = [b"64x48?fps=0&frames=3&shapes=2", b"640x480?fps=29.97", b"", b"name:secret@host:554/a?b=c"]
PNG = _pictures()[0]

TARGETS = {
    "manifest": Target(manifest, lambda: stored("tiny.fp32.onnx.json") + stored("tiny.fp32.ncnn.json")),
    "pickle": Target(pickled, _pickles),
    "checkpoint": Target(checkpoint, _checkpoints),
    "rle": Target(rle, lambda: _RLE),
    "coco": Target(coco, _coco),
    "labelme": Target(labelme, _labelme),
    "stream": Target(stream, lambda: _ADDRESSES),
    "mil": Target(mil, lambda: stored("tiny.fp32.mlpackage/Data/com.apple.CoreML/model.mlmodel")),
    "tflite": Target(tflite, lambda: stored("tiny.fp32.tflite")),
    "onnx": Target(onnx, lambda: stored("tiny.fp32.onnx")),
    "picture": Target(picture, _pictures),
}
