"""Elementwise ops, activations and reductions of MIL (iOS15 to iOS18), in float32.

Reference: coremltools ``converters/mil/mil/ops/defs``: elementwise_unary, elementwise_binary, activation, reduction.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_types import KINDS, Value
from solov2_edge.errors import require

__all__ = ["OPS"]


def pair(a: Arguments) -> tuple[Tensor, Tensor]:
    """Return x and y, which MIL wants of one kind; numpy's broadcasting."""
    x, y = a.value("x"), a.value("y")
    require(x.kind == y.kind, f"{a.what} combines {x.kind} with {y.kind}; MIL wants one kind, convert again")
    return a.tensor("x"), a.tensor("y")


def binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Arguments], Tensor]:
    """Return the op that combines x and y elementwise."""
    return lambda a: compute(*pair(a))


def comparison(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Arguments], Value]:
    """Return the op that compares x and y elementwise; booleans come out."""
    return lambda a: Value(compute(*pair(a)), "bool")


def unary(compute: Callable[[Tensor], Tensor]) -> Callable[[Arguments], Tensor]:
    """Return the op that maps x elementwise."""
    return lambda a: compute(a.tensor("x"))


def real_div(a: Arguments) -> Tensor:
    """Quotient of x and y; for integers the quotient is truncated when it is narrowed."""
    x, y = pair(a)
    return x / y


def log(a: Arguments) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(a.tensor("x") + a.number("epsilon", 1e-45))


def rsqrt(a: Arguments) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(a.tensor("x") + a.number("epsilon", 1e-12))


def inverse(a: Arguments) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (a.tensor("x") + a.number("epsilon", 1e-4))


def clip(a: Arguments) -> Tensor:
    """X, kept between alpha and beta."""
    return a.tensor("x").clamp(a.number("alpha"), a.number("beta"))


def cast(a: Arguments) -> Value:
    """X as another kind; to an integer by truncation, to bool by x != 0."""
    kind = a.text("dtype", choices=tuple(KINDS))
    x = a.tensor("x")
    return Value(x != 0 if kind == "bool" else x, kind)


def leaky_relu(a: Arguments) -> Tensor:
    """X where positive, alpha x elsewhere."""
    return functional.leaky_relu(a.tensor("x"), a.number("alpha", 0.01))


def sigmoid_hard(a: Arguments) -> Tensor:
    """Alpha x + beta, kept between 0 and 1."""
    return (a.number("alpha", 0.2) * a.tensor("x") + a.number("beta", 0.5)).clamp(0, 1)


def softmax(a: Arguments) -> Tensor:
    """exp(x) over its sum along the axis, -1 by default."""
    return torch.softmax(a.tensor("x"), a.integer("axis", -1))


def select(a: Arguments) -> Value:
    """Elements of a where cond, of b elsewhere."""
    first, second = a.value("a"), a.value("b")
    require(first.kind == second.kind, f"{a.what} selects from {first.kind} and {second.kind}; convert again")
    return Value(torch.where(a.tensor("cond"), a.tensor("a"), a.tensor("b")), first.kind)


def reduction(compute: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[Arguments], Tensor]:
    """Return the op that reduces over ``axes``, all of them by default."""

    def reduce(a: Arguments) -> Tensor:
        x = a.tensor("x")
        return compute(x, a.ints("axes", range(x.dim())), a.flag("keep_dims", False))

    return reduce


def reduce_argmax(a: Arguments) -> Value:
    """Index of the largest element along the axis, -1 by default; int32 unless ``output_dtype`` says uint16 (iOS17)."""
    kind = a.text("output_dtype", "int32", ("int32", "uint16"))
    return Value(a.tensor("x").argmax(a.integer("axis", -1), a.flag("keep_dims", False)), kind)


OPS: dict[str, Callable[[Arguments], Tensor | Value]] = {
    "add": binary(torch.add),
    "sub": binary(torch.sub),
    "mul": binary(torch.mul),
    "real_div": real_div,
    "floor_div": binary(torch.floor_divide),
    "mod": binary(torch.remainder),
    "pow": binary(torch.pow),
    "maximum": binary(torch.maximum),
    "minimum": binary(torch.minimum),
    "equal": comparison(torch.eq),
    "not_equal": comparison(torch.ne),
    "greater": comparison(torch.gt),
    "greater_equal": comparison(torch.ge),
    "less": comparison(torch.lt),
    "less_equal": comparison(torch.le),
    "logical_and": comparison(torch.logical_and),
    "logical_or": comparison(torch.logical_or),
    "select": select,
    "cast": cast,
    "abs": unary(torch.abs),
    "ceil": unary(torch.ceil),
    "floor": unary(torch.floor),
    "round": unary(torch.round),  # half to even, as numpy's
    "sign": unary(torch.sign),
    "exp": unary(torch.exp),
    "log": log,
    "sqrt": unary(torch.sqrt),
    "rsqrt": rsqrt,
    "square": unary(torch.square),
    "inverse": inverse,
    "clip": clip,
    "relu": unary(torch.relu),
    "relu6": unary(functional.relu6),
    "leaky_relu": leaky_relu,
    "sigmoid": unary(torch.sigmoid),
    "sigmoid_hard": sigmoid_hard,
    "silu": unary(functional.silu),
    "tanh": unary(torch.tanh),
    "erf": unary(torch.erf),
    "softplus": unary(functional.softplus),
    "softmax": softmax,
    "reduce_mean": reduction(torch.mean),
    "reduce_sum": reduction(torch.sum),
    "reduce_max": reduction(torch.amax),
    "reduce_min": reduction(torch.amin),
    "reduce_l2_norm": reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "reduce_sum_square": reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "reduce_argmax": reduce_argmax,
}
