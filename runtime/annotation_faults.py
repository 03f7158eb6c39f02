"""What is wrong with an annotation, said so that its owner finds it: the file, the place in it, the fault, the cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from solov2_edge.errors import InputError

__all__ = ["Fault", "Report", "refuse"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad annotation or picture.

    Attributes:
        file: the annotation file, or the picture.
        where: the place in it: ``"annotation 17"``, ``"shape 3"``, ``"line 5"``; empty where the file itself is bad.
        what: what is wrong.
        cure: what to do.
    """

    file: str
    where: str
    what: str
    cure: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        return f"{place} {self.what}; {self.cure}"


Report = Callable[[Fault], None]  # told of a fault; if it returns, the reader leaves the entry out and goes on


def refuse(fault: Fault) -> None:
    """Raise the fault as :class:`InputError`: what a reader does with one unless it is to find them all."""
    raise InputError(str(fault))
