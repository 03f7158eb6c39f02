"""What cannot carry the semantic branch of a network with stuff says so before any work is done."""

from __future__ import annotations

from solov2_edge.errors import InputError
from solov2_edge.spec import ModelSpec

__all__ = ["refuse_stuff"]


def refuse_stuff(spec: ModelSpec, what: str) -> None:
    """Refuse a network with stuff.

    Args:
        spec: of the network.
        what: cannot carry its semantic branch.

    Raises:
        InputError: the network has one.
    """
    if spec.stuff_names:
        raise InputError(
            f"{what} has no semantic branch, and {spec.name} needs one for its stuff ({', '.join(spec.stuff_names)}); "
            "convert it to ONNX at fp32 or fp16, decoded on the host"
        )
