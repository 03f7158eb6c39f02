"""A TFLite model's content brought inside its FlatBuffer."""

from __future__ import annotations

from solov2_edge.converters.quiet import quiet

with quiet():
    from ai_edge_litert.tools import flatbuffer_utils

__all__ = ["packed"]


def packed(flatbuffer: bytes) -> bytes:
    """Return the model with every weight inside the FlatBuffer.

    ai-edge-quantizer appends weights behind it, found by their distance from the file's start, as the format allows
    for files above 2 GB: older interpreters do not know that, and metadata cannot be put in front of it.
    """
    with quiet():
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
