"""A float32 network that can be written with any of its layers in 8 bits: the one face all formats show.

Sensitivity and the search for mixed precision know nothing but this; a format adds one file that says how its layers
are called and how they are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from solov2_edge.errors import require

__all__ = ["BY", "Chooser", "Chosen", "Layer", "Quantisable", "block_of", "groups_of"]

BY = ("layer", "block")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that conversion to int8 would reduce.

    Attributes:
        name: as in the checkpoint, the same in every format: ``"backbone.layer1.0.conv1"``.
        work: multiplications of one run, over all levels it runs on.
        runs: operators it stands for: 5 for a layer of the head's towers, which run on five levels.
    """

    name: str
    work: int
    runs: int = 1


class Quantisable(Protocol):
    """A proven float32 network with its calibration."""

    @property
    def suffix(self) -> str: ...  # noqa: D102 - of its files: ".onnx", ".tflite"

    @property
    def layers(self) -> tuple[Layer, ...]: ...  # noqa: D102 - what int8 reduces, in the order they run

    @property
    def facts(self) -> Mapping[str, Any]: ...  # noqa: D102 - JSON-ready: how it is quantised, for whom to read later

    def build(self, keep_float: frozenset[str] = frozenset()) -> bytes:
        """Return a file that the runtime opens, all layers in 8 bits but those named.

        With all layers kept float it is the float32 file that conversion writes.

        Raises:
            InputError: no layer has such a name.
            GateError: the file does not hold what it should.
        """
        ...

    def still_int8(self, keep_float: frozenset[str]) -> bool:
        """Tell whether a file with these layers float may be called int8: at least half of its operators are."""
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a :data:`Chooser` decides.

    Attributes:
        layers: names of the layers that stay float.
        record: what the manifest says of it, JSON-ready.
    """

    layers: frozenset[str]
    record: dict[str, Any]


Chooser = Callable[[Quantisable], Chosen]


def block_of(name: str) -> str:
    """Return the block a layer belongs to, from its name.

    A residual block of the backbone (``backbone.layer1.0``), else all that have the same first two parts: the
    laterals of the pyramid, a tower of the head, the mask branch.
    """
    parts = name.split(".")
    residual = len(parts) > 3 and parts[0] == "backbone" and parts[2].isdigit()
    return ".".join(parts[: 3 if residual else 2])


def groups_of(layers: Sequence[Layer], by: str) -> dict[str, tuple[str, ...]]:
    """Return group -> its layers' names, in the order they run.

    Args:
        layers: of the network.
        by: ``"layer"``: each by itself; ``"block"``: by :func:`block_of`.
    """
    require(by in BY, f"layers are grouped by {' or '.join(BY)}, got {by!r}")
    found: dict[str, list[str]] = {}
    for layer in layers:
        found.setdefault(layer.name if by == "layer" else block_of(layer.name), []).append(layer.name)
    return {name: tuple(names) for name, names in found.items()}
