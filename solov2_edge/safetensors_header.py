"""The same checkpoint is the same bytes: a safetensors header whose strings stand in order.

The library keeps them in a hash map and writes them in another order every time. Format: header length (uint64,
little-endian), a JSON header, the tensors; offsets count from the header's end, so it may be written anew.
"""

from __future__ import annotations

import json
import struct

__all__ = ["with_sorted_metadata"]

_METADATA = "__metadata__"
_ALIGNMENT = 8  # bytes; the library pads its header with spaces to this


def with_sorted_metadata(data: bytes) -> bytes:
    """Return the safetensors file ``data`` with its metadata sorted by key; tensors stay as they are."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    strings = dict(sorted(header.pop(_METADATA, {}).items()))
    text = json.dumps({_METADATA: strings, **header}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
