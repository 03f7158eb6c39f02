"""Manifest: what an artefact is, what it takes and gives, where it came from, and what was measured of it.

Written beside every artefact (``<artefact>.json``) and inside it (ONNX ``metadata_props``, TFLite metadata, Core ML
user metadata, under :data:`METADATA_KEY`; a file in an ncnn artefact), minus what only the finished file can tell: its
own SHA-256 and size.
Standard library only: devices read manifests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.spec import ModelSpec

__all__ = [
    "DECODED_NAMES",
    "METADATA_KEY",
    "OUTPUT_NAMES",
    "SCHEMA_VERSION",
    "SEMANTIC_NAME",
    "GraphDecode",
    "InputContract",
    "Manifest",
    "manifest_path",
    "raw_names",
    "sha256_of",
    "size_of",
]

SCHEMA_VERSION = 1
METADATA_KEY = "solov2_edge.manifest"
OUTPUT_NAMES = ("class_scores", "kernels", "mask_features")
DECODED_NAMES = ("scores", "labels", "masks")  # of a graph that decodes
SEMANTIC_NAME = "semantic_logits"  # after the raw outputs, of a network with stuff

FORMATS = ("onnx", "tflite", "coreml", "ncnn")
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic", "int16x8", "palette6", "palette4", "int4", "w8a8")


def raw_names(spec: ModelSpec) -> tuple[str, ...]:
    """Return the usual output names of a graph that leaves decoding to the host."""
    return (*OUTPUT_NAMES, SEMANTIC_NAME) if spec.stuff_names else OUTPUT_NAMES


@dataclass(frozen=True, slots=True)
class InputContract:
    """What an artefact's one input takes.

    Attributes:
        kind: ``"image"``: uint8, (1, H, W, 3), RGB, 0..255, normalisation inside the graph; ``"tensor"``: float32,
            (1, 3, H, W), normalised, in the spec's channel order, as the reference has it.
        height: H in pixels, a multiple of 32.
        width: W in pixels, a multiple of 32.
        name: name of the graph's input.
    """

    kind: str
    height: int
    width: int
    name: str = "image"

    def __post_init__(self) -> None:
        require(self.kind in ("image", "tensor"), f"input kind must be image or tensor, got {self.kind!r}")
        for label, value in (("height", self.height), ("width", self.width)):
            good = isinstance(value, int) and not isinstance(value, bool) and value > 0 and value % 32 == 0
            require(good, f"input {label} must be a positive multiple of 32, got {value!r}")
        require(isinstance(self.name, str) and bool(self.name), f"input name must be a string, got {self.name!r}")


@dataclass(frozen=True, slots=True)
class GraphDecode:
    """What was baked into a graph that decodes; each field as in ``runtime.DecodeOptions``, whose defaults are these.

    Attributes:
        max_candidates: candidates the graph has room for. Where more exist, it takes those of best class score, while
            decoding on the host takes those of best score after maskness.
        max_instances: rows of every output.
        score_threshold: class score a candidate must exceed, in [0, 1).
        keep_threshold: score an instance must reach, in (0, 1]: a score of 0 marks an unused row.
        mask_threshold: probability a mask's pixel must exceed, in (0, 1).
        nms_kernel: ``"gaussian"`` or ``"linear"``.
        nms_sigma: of the Gaussian kernel; above 0.
        points_nms: whether a cell must be no worse than its left, upper and upper-left neighbours.
        area_filter: whether masks of at most as many quarter-scale pixels as their level's stride are dropped.
    """

    max_candidates: int = 500
    max_instances: int = 100
    score_threshold: float = 0.1
    keep_threshold: float = 0.05
    mask_threshold: float = 0.5
    nms_kernel: str = "gaussian"
    nms_sigma: float = 2.0
    points_nms: bool = True
    area_filter: bool = True

    def __post_init__(self) -> None:
        for name, value in (("max_candidates", self.max_candidates), ("max_instances", self.max_instances)):
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(good, f"{name} must be a whole number of at least 1, got {value!r}")
        require(
            self.max_instances <= self.max_candidates,
            f"max_instances must be at most max_candidates, got {self.max_instances} of {self.max_candidates}",
        )
        for name, number, good in (
            ("score_threshold", self.score_threshold, _number(self.score_threshold) and 0 <= self.score_threshold < 1),
            ("keep_threshold", self.keep_threshold, _number(self.keep_threshold) and 0 < self.keep_threshold <= 1),
            ("mask_threshold", self.mask_threshold, _number(self.mask_threshold) and 0 < self.mask_threshold < 1),
            ("nms_sigma", self.nms_sigma, _number(self.nms_sigma) and 0 < self.nms_sigma < float("inf")),
        ):
            require(good, f"{name} of a graph that decodes is out of range, got {number!r}")
        require(self.nms_kernel in ("gaussian", "linear"), f"nms_kernel must be known, got {self.nms_kernel!r}")
        for name, flag in (("points_nms", self.points_nms), ("area_filter", self.area_filter)):
            require(isinstance(flag, bool), f"{name} must be true or false, got {flag!r}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One artefact's description; JSON with :meth:`to_json` and :meth:`from_json`.

    Attributes:
        spec: the network.
        format: ``"onnx"``, ``"tflite"``, ``"coreml"`` or ``"ncnn"``.
        precision: one of :data:`PRECISIONS`.
        input: the input contract.
        outputs: graph output names of class scores, kernels and mask features, in this order; of scores, labels and
            masks where the graph decodes. Those of a network with stuff end with its semantic logits.
        source_sha256: SHA-256 of the checkpoint the artefact was made from.
        sha256: SHA-256 of the artefact; empty inside the artefact itself.
        size_bytes: size of the artefact; 0 inside the artefact itself.
        tools: tool name -> version, of everything that shaped the artefact.
        calibration: ``{"count": n, "sha256": ...}`` of the calibration set, or None.
        quantisation: how an integer file was chosen beyond its recipe's defaults, in JSON-ready data: layers kept
            float, the method, the accuracy measured and on what, and ``"target"``, without which an ONNX file is for
            CPUs; None where nothing was chosen.
        parity: measured differences from PyTorch: stage name -> maximal difference relative to the range.
        weights_licence: licence of the weights, in words a user can act on.
        dcn_lowering: ``"native"`` (DeformConv), ``"lowered"`` (portable operators) or ``"none"``.
        decode: what the graph decodes with; None: it gives class scores, kernels and mask features, and the host
            decodes.
        schema_version: version of this schema.
    """

    spec: ModelSpec
    format: str
    precision: str
    input: InputContract
    outputs: tuple[str, ...] = OUTPUT_NAMES
    source_sha256: str = ""
    sha256: str = ""
    size_bytes: int = 0
    tools: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    quantisation: dict[str, Any] | None = None
    parity: dict[str, float] = field(default_factory=dict)
    weights_licence: str = "unknown"
    dcn_lowering: str = "none"
    decode: GraphDecode | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        require(self.format in FORMATS, f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        require(
            self.precision in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
        )
        decoded = self.decode is not None
        stuff = bool(self.spec.stuff_names)
        require(
            not (decoded and stuff),
            f"a graph that decodes gives instances only, and {self.spec.name} has stuff; decode on the host",
        )
        wanted = "scores, labels and masks" if decoded else "class scores, kernels and mask features"
        wanted += ", then semantic logits" if stuff else ""
        require(
            len(self.outputs) == 3 + stuff
            and all(isinstance(name, str) and name for name in self.outputs)
            and tuple(self.outputs) != (OUTPUT_NAMES if decoded else DECODED_NAMES),
            f"outputs must name {wanted}, got {self.outputs!r}",
        )
        require(
            self.decode is None or isinstance(self.decode, GraphDecode),
            f"decode must be what a graph decodes with, or null, got {self.decode!r}",
        )
        for label, digest in (("source_sha256", self.source_sha256), ("sha256", self.sha256)):
            good = isinstance(digest, str) and (digest == "" or _is_sha256(digest))
            require(good, f"{label} must be 64 hex digits or empty, got {digest!r}")
        whole = isinstance(self.size_bytes, int) and not isinstance(self.size_bytes, bool) and self.size_bytes >= 0
        require(whole, f"size_bytes must be a whole number of at least 0, got {self.size_bytes!r}")
        require(
            self.quantisation is None or isinstance(self.quantisation, dict),
            f"quantisation must be a JSON object or null, got {self.quantisation!r}",
        )
        require(
            self.schema_version == SCHEMA_VERSION,
            f"manifest schema version {self.schema_version!r} is not {SCHEMA_VERSION}, the one this solov2-edge reads; "
            "install the version that wrote it or convert again",
        )

    def to_json(self) -> str:
        """Return the manifest as indented JSON text."""
        return json.dumps({**asdict(self), "spec": self.spec.to_dict()}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read :meth:`to_json` text.

        Raises:
            InputError: not JSON, another schema version, or a field that is unknown, missing or out of range.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the manifest is not JSON ({error}); convert the checkpoint again") from error
        require(isinstance(data, Mapping), "the manifest must be a JSON object; convert the checkpoint again")
        version = data.get("schema_version")
        require(
            version == SCHEMA_VERSION,
            f"manifest schema version {version!r} is not {SCHEMA_VERSION}, the one this solov2-edge reads; "
            "install the version that wrote it or convert again",
        )
        known = {f.name for f in fields(cls)}
        require(set(data) <= known, f"the manifest has unknown fields {sorted(set(data) - known)}")
        try:
            values = dict(data)
            values["spec"] = ModelSpec.from_dict(values["spec"])
            values["input"] = InputContract(**values["input"])
            values["outputs"] = tuple(values["outputs"])
            if values.get("decode") is not None:
                values["decode"] = GraphDecode(**values["decode"])
            return cls(**values)
        except InputError:
            raise
        except (KeyError, TypeError) as error:
            raise InputError(f"the manifest lacks or misspells a field ({error}); convert again") from error

    def embedded(self) -> Manifest:
        """Return the copy that goes inside the artefact: without its own hash and size."""
        return replace(self, sha256="", size_bytes=0)


def _is_sha256(digest: str) -> bool:
    return len(digest) == 64 and all(c in "0123456789abcdef" for c in digest)


def manifest_path(artefact: str | os.PathLike[str]) -> Path:
    """Return where the manifest of ``artefact`` lies: the same name with ``.json`` appended."""
    path = Path(artefact)
    return path.with_name(path.name + ".json")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of an artefact as 64 hex digits, reading 1 MiB at a time.

    A Core ML package or an ncnn artefact is a folder. Its digest is that of one line per file,
    ``<sha256>  ./<path inside>``, in the order of the paths; inside it,
    ``find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`` says the same.
    """
    import hashlib  # 2 ms of OpenSSL that opening an artefact by its embedded manifest never needs

    whole = Path(path)
    digest = hashlib.sha256()
    if whole.is_dir():
        for file in _files_of(whole):
            digest.update(f"{sha256_of(file)}  ./{file.relative_to(whole).as_posix()}\n".encode())
        return digest.hexdigest()
    with whole.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def size_of(path: str | os.PathLike[str]) -> int:
    """Return the size of an artefact in bytes; of a folder, the sum over its files."""
    whole = Path(path)
    return sum(file.stat().st_size for file in _files_of(whole)) if whole.is_dir() else whole.stat().st_size


def _files_of(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(files, key=lambda file: ("./" + file.relative_to(folder).as_posix()).encode())
