"""How float16 is emulated: every op computes in float32 on float16 numbers, and its result is rounded to float16.

That is the accumulation model: inside one op float32, between ops float16, round to nearest even, overflow to
infinity. Apple's CPU and GPU kernels accumulate float16 products in float16 or float32, the Neural Engine in wider
registers of its own; none is documented, so no emulation can be bit-exact. A value of kind fp16 is held as float32
(see :mod:`~solov2_edge.converters.mil_types`), which loses nothing and needs one rounding per op.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solov2_edge.converters.mil_types import KINDS

__all__ = ["narrow"]


def narrow(result: Tensor, kind: str) -> Tensor:
    """Return an op's result as numbers of ``kind``: rounded for fp16, converted where the holding dtype differs.

    A float becomes an integer by truncation, as in MIL's value inference.
    """
    if kind == "fp16":
        return result.to(torch.float16).to(torch.float32)
    return result.to(KINDS[kind].held)
