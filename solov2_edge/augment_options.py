"""What may happen to a training picture. Standard library only: ``train --help`` shows it."""

from __future__ import annotations

from dataclasses import dataclass

from solov2_edge.errors import require

__all__ = ["AugmentOptions"]


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """What may happen to a training picture.

    Attributes:
        flip: mirror left-right with probability 1/2 (the paper's recipe).
        turns: also mirror top-bottom and turn by quarters: for pictures with no upright direction.
        scale: (low, high) factor on the fitted size, drawn log-uniformly; above 1 a random window is cut.
        colour: strength 0..1 of brightness, contrast, gamma and saturation changes.
        copy_paste: probability that objects of another picture are pasted in; see :mod:`solov2_edge.copy_paste`.
    """

    flip: bool = True
    turns: bool = False
    scale: tuple[float, float] = (0.8, 1.25)
    colour: float = 0.5
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.scale[0] <= self.scale[1], f"scale must be a rising positive pair, got {self.scale!r}")
        for name in ("colour", "copy_paste"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must be in [0, 1], got {value!r}")
