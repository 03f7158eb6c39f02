"""A TFLite model's content brought inside its FlatBuffer."""

from __future__ import annotations

from typing import Any

import numpy as np

from solov2_edge.converters.quiet import quiet

with quiet():
    from ai_edge_litert.tools import flatbuffer_utils

__all__ = ["packed", "written"]


def packed(flatbuffer: bytes) -> bytes:
    """Return the model with every weight inside the FlatBuffer.

    ai-edge-quantizer appends weights behind it, found by their distance from the file's start, as the format allows
    for files above 2 GB: older interpreters do not know that, and metadata cannot be put in front of it.
    """
    with quiet():
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
        return written(model)


def written(model: Any) -> bytes:
    """Return the FlatBuffer of a model's object.

    The library writes an array at once, but byte by byte what its readers return as a list or as bytes: 5 s for the
    bundled model.
    """
    for buffer in model.buffers:
        data = buffer.data
        if data is not None:
            raw = isinstance(data, bytes | bytearray)
            buffer.data = np.frombuffer(data, np.uint8) if raw else np.asarray(data, np.uint8)
    with quiet():
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
