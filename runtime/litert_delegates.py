"""What runs a .tflite graph: kernels of the library itself, or a delegate that takes nodes over; asked for by name."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.machine import parse_cpu_max

__all__ = [
    "DEFAULT_REQUESTS",
    "Request",
    "available_cpus",
    "count_nodes",
    "count_parts",
    "delegate_requests",
    "nodes_taken",
]

# Name -> member of OpResolverType.
RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "cpu-reference": "BUILTIN_REF"}
ALIASES = {"cpu": "xnnpack"}  # the CPU's name in the other engines
LIBRARIES = (".so", ".dll", ".dylib")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # a container's share of CPU time
PART = "DELEGATE"  # the name of the node that stands for a part of the graph
NAMES = (*RESOLVERS, "gpu")
NNAPI = (
    "nnapi is Android's own and deprecated there, and no Python package has it; use gpu, or give the path of a "
    "delegate library"
)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that may run a graph.

    Attributes:
        name: ``"xnnpack"``, ``"builtin"``, ``"cpu-reference"``, ``"gpu"`` or the path of a delegate library.
        options: its own options.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def library(self) -> bool:
        """Say whether the name is the path of a library."""
        return self.name not in NAMES

    @property
    def foreign(self) -> bool:
        """Say whether something else than LiteRT's kernels for the CPU would compute."""
        return self.name not in RESOLVERS

    @property
    def resolver(self) -> str:
        """Return which set of kernels the interpreter begins with, a member of OpResolverType."""
        return RESOLVERS.get(self.name, "AUTO")


# XNNPACK takes no 16-bit activations, for example: then the library's own kernels run the graph.
DEFAULT_REQUESTS = (Request("xnnpack"), Request("builtin"))


def delegate_requests(
    providers: str | Sequence[str] | None, options: Mapping[str, Mapping[str, Any]] | None
) -> tuple[Request, ...]:
    """Return what to try, in order.

    Args:
        providers: one name means exactly that one; a sequence is a fallback list; None is
            :data:`DEFAULT_REQUESTS`.
        options: name -> that one's own options.

    Raises:
        InputError: a name is unknown or stands twice, a library does not exist, or options belong to a name that was
            not asked for or takes none.
    """
    if providers is None:
        asked = [request.name for request in DEFAULT_REQUESTS]
    else:
        require(
            isinstance(providers, str | Sequence),
            f"providers must be a name such as xnnpack, or a fallback list of names, got {providers!r}",
        )
        asked = [_known(name) for name in ((providers,) if isinstance(providers, str) else providers)]
    require(len(asked) > 0, "providers must name at least one, got none; use providers='xnnpack'")
    require(len(set(asked)) == len(asked), f"providers name one twice: {', '.join(asked)}; name each once")
    settings = {_known(name): dict(values) for name, values in (options or {}).items()}
    stray = sorted(set(settings) - set(asked))
    require(not stray, f"provider_options hold {', '.join(stray)}, which providers do not ask for; add it there")
    for name in RESOLVERS:
        given = sorted(settings.get(name, {}))
        require(not given, f"{name} takes no options, got {', '.join(given)}; leave them out")
    return tuple(Request(name, settings.get(name, {})) for name in asked)


def _known(name: str) -> str:
    require(isinstance(name, str), f"a provider is a name such as xnnpack or gpu, got {name!r}")
    word = ALIASES.get(name.lower(), name.lower())
    if word in NAMES:
        return word
    if word == "nnapi":
        raise InputError(NNAPI)
    if any(suffix in Path(word).suffixes for suffix in LIBRARIES):
        # A bare file name is looked up where the system keeps its libraries.
        there = os.path.basename(name) == name or Path(name).is_file()
        require(there, f"there is no delegate library at {name}; check the path")
        return name
    raise InputError(
        f"unknown provider {name!r}; expected {', '.join(NAMES)}, or the path of a delegate library "
        f"({', '.join(LIBRARIES)})"
    )


def available_cpus() -> int:
    """Return how many CPUs this process may use: the default number of threads.

    LiteRT itself would take one, ONNX Runtime what the machine has. Here a process or a container that was given two
    of 64 CPUs takes two: more threads than CPUs wait for each other inside every operator.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = parse_cpu_max(CPU_MAX.read_text())
    except OSError:
        quota = None
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def count_parts(operators: Sequence[Mapping[str, Any]]) -> int:
    """Count the parts of a graph that delegates have taken."""
    return sum(operator["op_name"] == PART for operator in operators)


def count_nodes(operators: Sequence[Mapping[str, Any]]) -> int:
    """Count the graph's own nodes."""
    return len(operators) - count_parts(operators)


def nodes_taken(operators: Sequence[Mapping[str, Any]], *, start: int = 0, stop: int | None = None) -> int:
    """Count the graph's nodes that delegates run.

    An interpreter lists the graph's own nodes and, behind them, one node per delegated part. What a part replaced is
    what its outputs are computed from, back to its inputs, which include every tensor it takes from outside.

    Args:
        operators: the interpreter's operator details, with ``op_name``, ``inputs`` and ``outputs``.
        start: the first part to count.
        stop: the part to stop before.
    """
    parts = [operator for operator in operators if operator["op_name"] == PART]
    nodes = [operator for operator in operators if operator["op_name"] != PART]
    makers = {int(index): number for number, node in enumerate(nodes) for index in node["outputs"]}
    taken: set[int] = set()
    for part in parts[start:stop]:
        outside = {int(index) for index in part["inputs"]}
        waiting = [int(index) for index in part["outputs"]]
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is not None and maker not in taken:
                taken.add(maker)
                waiting.extend(int(index) for index in nodes[maker]["inputs"] if int(index) not in outside)
    return len(taken)
