"""What an op gets: its inputs by name, read once each, so that an input nobody looked at is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from solov2_edge.converters.mil_types import MAX_ELEMENTS, Value
from solov2_edge.errors import InputError, require

__all__ = ["Arguments"]


class Arguments:
    """The inputs of one op.

    Args:
        what: the op's type and name, for messages.
        values: input name -> its values; more than one only for inputs that take a list.

    Raises of every method:
        InputError: the input is missing and has no default, or is not what the op takes.
    """

    def __init__(self, what: str, values: Mapping[str, Sequence[Value]]) -> None:
        self.what, self._values = what, values
        self._unread = set(values)

    def has(self, name: str) -> bool:
        """Whether an input was given; asking does not count as reading."""
        return name in self._values

    def values(self, name: str) -> list[Value]:
        """Return a list input."""
        self._unread.discard(name)
        require(name in self._values, f"{self.what} lacks its input {name!r}; convert the checkpoint again")
        return list(self._values[name])

    def value(self, name: str) -> Value:
        """Return a single input with its kind."""
        values = self.values(name)
        require(len(values) == 1, f"{self.what} has {len(values)} values for {name!r}, expected one; convert again")
        return values[0]

    def tensor(self, name: str) -> Tensor:
        """Return a single tensor; float16 is held as float32."""
        data = self.value(name).data
        require(isinstance(data, Tensor), f"{self.what} has a text for {name!r}, expected a tensor; convert again")
        result: Tensor = data
        return result

    def optional(self, name: str) -> Tensor | None:
        """Return a single tensor, or None where it was not given."""
        return self.tensor(name) if self.has(name) else None

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Return a list of integers (or of one integer, or of flags as 0 and 1)."""
        if default is not None and not self.has(name):
            return list(default)
        tensor = self.tensor(name)
        require(
            not tensor.is_floating_point() and tensor.dim() <= 1,
            f"{self.what} takes integers for {name!r}, got {self.value(name).type}; convert again",
        )
        numbers: list[int] = tensor.reshape(-1).long().tolist()
        return numbers

    def integer(self, name: str, default: int | None = None) -> int:
        """Return one integer."""
        return int(self._scalar(name, self.ints(name, None if default is None else [default])))

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return one boolean."""
        if default is not None and not self.has(name):
            return default
        tensor = self.tensor(name)
        require(tensor.dtype == torch.bool, f"{self.what} takes a boolean for {name!r}; convert the checkpoint again")
        return bool(self._scalar(name, tensor.reshape(-1).tolist()))

    def number(self, name: str, default: float | None = None) -> float:
        """Return one number of any kind as a float."""
        if default is not None and not self.has(name):
            return default
        return float(self._scalar(name, self.tensor(name).reshape(-1).tolist()))

    def text(self, name: str, default: str | None = None, choices: Sequence[str] = ()) -> str:
        """Return one text, which must be one of ``choices`` where these are given."""
        if default is not None and not self.has(name):
            return default
        text = self.value(name).data
        require(isinstance(text, str), f"{self.what} takes a text for {name!r}; convert the checkpoint again")
        require(
            not choices or text in choices,
            f"{self.what} has {name} {text!r}; the interpreter supports {', '.join(choices)}",
        )
        return str(text)

    def fits(self, shape: Sequence[int]) -> None:
        """Refuse a result that is larger than any here, before memory is taken for it."""
        sizes = " x ".join(map(str, shape))
        require(prod(shape) <= MAX_ELEMENTS, f"{self.what} would make {sizes} elements, more than any network here has")

    def leading_kind(self) -> str:
        """Return the kind that the result has unless the op says otherwise: that of its main input."""
        for name in ("x", "values", "input", "data"):
            if self._values.get(name):
                return self._values[name][0].kind
        raise InputError(f"{self.what} has no main input; convert the checkpoint again")

    def refuse_unread(self) -> None:
        """Refuse inputs that the op did not look at: ignoring one would compute something else than Core ML."""
        require(
            not self._unread,
            f"{self.what} has inputs the interpreter does not know: {', '.join(sorted(self._unread))}",
        )

    def _scalar(self, name: str, numbers: Sequence[Any]) -> Any:
        require(len(numbers) == 1, f"{self.what} takes one number for {name!r}, got {len(numbers)}; convert again")
        return numbers[0]
