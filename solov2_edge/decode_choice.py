"""``convert --decode graph`` and what is baked into such a graph."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from solov2_edge.choices import require_positive
from solov2_edge.errors import require
from solov2_edge.manifest import GraphDecode
from solov2_edge.spec import ModelSpec

__all__ = ["DECODABLE", "add_decode_arguments", "check_candidates", "decode_of"]

DECODABLE = ("onnx", "tflite", "coreml")
OWN = GraphDecode()
MAX_CANDIDATES = 10_000  # a graph compares every pair: 10^8 of them take 400 MB
# keyword of GraphDecode -> (argparse type, metavar, help)
BAKED: dict[str, tuple[Any, str, str]] = {
    "max_candidates": (int, "K", "candidates the graph has room for; the time it takes grows with K squared"),
    "max_instances": (int, "N", "most instances per picture, at most K: rows of every output"),
    "score_threshold": (float, "P", "least class score of a candidate, 0..1"),
    "keep_threshold": (float, "P", "least score after Matrix NMS, above 0"),
    "mask_threshold": (float, "P", "least mask probability, 0..1"),
}


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--decode`` and what goes with it."""
    parser.add_argument(
        "--decode",
        choices=("host", "graph"),
        default="host",
        help="host (default): the graph gives raw outputs, the runtime decodes them with any thresholds; graph: Matrix "
        "NMS is part of the graph, with the limits below baked in, so that everything can stay on a GPU",
    )
    group = parser.add_argument_group("baked into a graph that decodes (--decode graph)")
    for keyword, (kind, metavar, text) in BAKED.items():
        default = getattr(OWN, keyword)
        group.add_argument(
            _option(keyword), type=kind, metavar=metavar, help=f"{text} (default: {default})", dest=f"decode_{keyword}"
        )
    group.add_argument(
        "--nms-kernel", choices=("gaussian", "linear"), help="decay of Matrix NMS", dest="decode_nms_kernel"
    )


def decode_of(args: argparse.Namespace, formats: Iterable[str]) -> GraphDecode | None:
    """Return what the user wants baked in; None where the host decodes.

    Raises:
        InputError: a value that goes into no graph, is out of range, or a format that cannot hold the decoding.
    """
    names = [field.name for field in fields(GraphDecode)]
    values: dict[str, Any] = {name: getattr(args, f"decode_{name}", None) for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    if args.decode == "host":
        require(
            not given,
            f"{_option(next(iter(given), ''))} is baked into graphs that decode: add --decode graph, or leave it out "
            "and give it when the artefact runs",
        )
        return None
    for name in formats:
        require(
            name in DECODABLE,
            f"--decode graph is for {' and '.join(DECODABLE)}, got {name}; convert that in a command of its own",
        )
    for name in ("max_candidates", "max_instances"):
        require_positive(_option(name), given.get(name))
    most = given.get("max_candidates", 0)
    require(
        most <= MAX_CANDIDATES,
        f"--max-candidates must be at most {MAX_CANDIDATES}, since time and memory grow with its square, got {most}",
    )
    # Fewer candidates than rows would leave rows that nothing can fill.
    if "max_instances" not in given:
        given["max_instances"] = min(OWN.max_instances, given.get("max_candidates", OWN.max_candidates))
    return GraphDecode(**given)


def check_candidates(decode: GraphDecode, spec: ModelSpec) -> None:
    """Refuse room for more candidates than a network has cells times classes."""
    most = spec.num_cells * spec.num_classes
    require(
        decode.max_candidates <= most,
        f"max_candidates must be at most {most}, one for each cell and class of {spec.name}, "
        f"got {decode.max_candidates}",
    )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
