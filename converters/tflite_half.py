"""float16: convolution weights stored in half, computed with as the device pleases.

The usual float16 TFLite file: a DEQUANTIZE stands behind every weight. XNNPACK unpacks the weights once when the file
is opened and computes in float32; a GPU delegate takes both away and computes in float16.
"""

from __future__ import annotations

from typing import Any

from solov2_edge.converters.quiet import quiet

with quiet():
    from ai_edge_quantizer.quantizer import Quantizer

__all__ = ["to_half"]

HALF_WEIGHTS: list[dict[str, Any]] = [
    {
        "regex": ".*",
        "operation": "CONV_2D",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"},
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
            "skip_checks": False,
            "min_weight_elements": 0,
        },
    }
]


def to_half(flatbuffer: bytes) -> bytes:
    """Return a float16 copy of a float32 TFLite model; inputs, outputs and activations keep their types."""
    with quiet():
        return bytes(Quantizer(bytearray(flatbuffer), HALF_WEIGHTS).quantize().quantized_model)
