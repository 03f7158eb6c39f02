"""BackboneSpec: every number that defines the residual network. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from solov2_edge.errors import require

__all__ = ["BackboneSpec", "one_of", "positive"]


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of the allowed ones."""
    require(value in allowed, f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def positive(name: str, values: tuple[int, ...], count: int) -> None:
    """Refuse anything but a tuple of ``count`` whole numbers above 0."""
    good = isinstance(values, tuple) and all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)
    require(good and len(values) == count, f"{name} must be {count} positive integers, got {values!r}")


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """A residual network of four stages with outputs C2..C5 at 1/4, 1/8, 1/16 and 1/32 of the input.

    Attributes:
        block: ``"basic"`` (two 3x3) or ``"bottleneck"`` (1x1, 3x3, 1x1 with four times the width at its end).
        depths: blocks per stage.
        widths: inner width per stage; a bottleneck's output is four times as wide.
        stem_width: channels after the stem.
        stem: ``"conv7"`` (7x7 stride 2, then 3x3 stride-2 max pool: ResNet) or ``"conv3x2"`` (two 3x3 stride-2
            convolutions, no pooling: cheaper at small widths).
        style: ``"pytorch"`` puts a bottleneck's stride on its 3x3, ``"caffe"`` on its first 1x1.
        dcn: ``"none"``, ``"v1"`` (18 offset channels) or ``"v2"`` (27: offsets and modulation), in the 3x3 of
            every bottleneck of stages 2-4 (res3-res5).
        groups: of every bottleneck's 3x3; above 1 it is a ResNeXt (Xie et al., CVPR 2017), 64 in ResNeXt-101 64x4d.
        base_width: a bottleneck's 3x3 has ``width * base_width / 64 * groups`` channels; 4 in ResNeXt-101 64x4d.
    """

    block: str = "basic"
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem_width: int = 64
    stem: str = "conv7"
    style: str = "pytorch"
    dcn: str = "none"
    groups: int = 1
    base_width: int = 64

    def __post_init__(self) -> None:
        one_of("backbone.block", self.block, ("basic", "bottleneck"))
        one_of("backbone.stem", self.stem, ("conv7", "conv3x2"))
        one_of("backbone.style", self.style, ("pytorch", "caffe"))
        one_of("backbone.dcn", self.dcn, ("none", "v1", "v2"))
        positive("backbone.depths", self.depths, 4)
        positive("backbone.widths", self.widths, 4)
        positive("backbone.stem_width", (self.stem_width,), 1)
        if self.dcn != "none":
            require(
                self.block == "bottleneck",
                f"backbone.dcn={self.dcn!r} needs bottleneck blocks, got {self.block!r}; use dcn='none'",
            )
        positive("backbone.groups and base_width", (self.groups, self.base_width), 2)
        if (self.groups, self.base_width) != (1, 64):
            require(
                self.block == "bottleneck",
                f"backbone.groups and base_width shape bottlenecks, got {self.block!r} blocks; leave them out",
            )
            require(
                all(width * self.base_width % 64 == 0 for width in self.widths),
                f"backbone.widths times base_width must be multiples of 64, got {self.widths} and {self.base_width}",
            )

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Channels of a block's 3x3 convolutions, per stage."""
        return tuple(width * self.base_width // 64 * self.groups for width in self.widths)

    @property
    def out_channels(self) -> tuple[int, int, int, int]:
        """Channels of C2..C5."""
        expansion = 4 if self.block == "bottleneck" else 1
        a, b, c, d = self.widths
        return (a * expansion, b * expansion, c * expansion, d * expansion)
