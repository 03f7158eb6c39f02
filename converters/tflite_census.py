"""What a quantised TFLite file really computes in integers, counted from its tensors' types and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.errors import GateError

__all__ = ["Census", "require_integers", "take_census"]

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
ENOUGH = 0.5  # of the layers, that must run as the precision says


@dataclass(frozen=True, slots=True)
class Census:
    """How many layers (convolutions, and matrix products with constant weights) take which types.

    Attributes:
        int8: int8 activations and weights.
        int16: int16 activations, int8 weights.
        dynamic: float activations, int8 weights: the engine quantises the activations as it runs.
        floating: float activations and weights, whatever the weights are stored in.
        other: anything else.
    """

    int8: int
    int16: int
    dynamic: int
    floating: int
    other: int

    @property
    def layers(self) -> int:
        """All layers."""
        return self.int8 + self.int16 + self.dynamic + self.floating + self.other

    def __str__(self) -> str:
        counts = (
            (self.int8, "in int8"),
            (self.int16, "in int16 x int8"),
            (self.dynamic, "with int8 weights and float activations"),
            (self.floating, "in float"),
            (self.other, "in other types"),
        )
        return f"of {self.layers} layers " + ", ".join(f"{count} {what}" for count, what in counts if count)


def take_census(flatbuffer: bytes) -> Census:
    """Count the layers of a .tflite file's content.

    Raises:
        InputError: not a TFLite model.
    """
    found = {"int8": 0, "int16": 0, "dynamic": 0, "floating": 0, "other": 0}
    names = {("int8", "int8"): "int8", ("int16", "int8"): "int16", ("float32", "int8"): "dynamic"}
    facts = read_facts(flatbuffer)
    # Weights that an operator unpacks as the network runs (float16, or int8 for size alone) are multiplied as floats.
    found["floating"] = sum(facts.ops.get(kind, 0) for kind in CONVOLUTIONS) - sum(
        count for (kind, _, _), count in facts.kernels.items() if kind in CONVOLUTIONS
    )
    for (_, activation, weights), count in facts.kernels.items():
        floats = activation.startswith("float") and weights.startswith("float")
        found[names.get((activation, weights), "floating" if floats else "other")] += count
    return Census(**found)


def require_integers(census: Census, precision: str) -> None:
    """Refuse a file that is named after integers and computes in floats.

    Args:
        census: of the file.
        precision: what it is called.

    Raises:
        GateError: fewer than half of the layers run as the precision says.
    """
    right = {"int8": census.int8, "int16x8": census.int16, "int8-dynamic": census.dynamic}.get(precision)
    if right is not None and right < max(1, ENOUGH * census.layers):
        raise GateError(
            f"at least half of the layers of a file called {precision} must run in these types, but here {census}; "
            "nothing was written, convert to fp16 or report this network"
        )
