"""Running an ML Program op by op; a value is forgotten once nothing needs it any more."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from solov2_edge.converters.mil_precision import narrow
from solov2_edge.converters.mil_program import Program, compute
from solov2_edge.converters.mil_types import Value
from solov2_edge.errors import require

__all__ = ["Observer", "execute"]

Observer = Callable[[str, Tensor], None]


def execute(program: Program, feeds: Mapping[str, Tensor], observe: Observer | None = None) -> dict[str, Tensor]:
    """Run a program once.

    Args:
        program: what to run.
        feeds: input name -> tensor of the declared shape; rounded to the declared kind.
        observe: called with name and value of every input, and of every op's every result as it is made. float16
            comes as float32; the value must not be changed.

    Returns:
        Output name -> tensor.

    Raises:
        InputError: feeds that the program does not take, or an op that cannot be computed as declared.
    """
    require(
        set(feeds) == set(program.inputs),
        f"the program takes inputs {sorted(program.inputs)}, got {sorted(feeds)}",
    )
    values: dict[str, Value] = {}
    scope = ChainMap(values, dict(program.constants))
    with torch.inference_mode():
        for name, declared in program.inputs.items():
            require(
                tuple(feeds[name].shape) == declared.shape,
                f"input {name!r} takes {declared}, got shape {tuple(feeds[name].shape)}",
            )
            values[name] = Value(narrow(feeds[name], declared.kind), declared.kind)
            if observe:
                observe(name, values[name].data)
        for operation in program.operations:
            results = compute(operation, scope)
            for (name, _), value in zip(operation.outputs, results, strict=True):
                values[name] = value
                if observe:
                    observe(name, value.data)
            for name in operation.last_uses:
                values.pop(name, None)
    return {name: scope[name].data for name in program.outputs}
