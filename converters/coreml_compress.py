"""Compressed weights: which pass of coremltools compresses which convolution, and how."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet

__all__ = ["COMPRESSED", "Convolution", "convolutions", "weight_passes"]

COMPRESSED = ("int8", "palette6", "palette4", "int4", "w8a8")
PASSES = {
    "int8": "linear_quantize_weights",
    "w8a8": "linear_quantize_weights",
    "int4": "linear_quantize_weights",
    "palette6": "palettize_weights",
    "palette4": "palettize_weights",
}
# The last convolutions: what they say is the result, with nothing behind them that would even out an error.
PREDICTIONS = ("conv_cls_weight", "conv_kernel_weight", "conv_pred_conv_weight")
OFFSETS = "conv_offset_weight"  # an error there moves where a deformable convolution looks
# At four bits each of these alone cost the nano network more than all other convolutions together: the stem, and the
# kernel tower's first, whose few large weights for coordinates share their scale with many small ones.
STEM, KERNELS = "backbone_conv", "kernel_convs_0_conv_weight"
SMALLEST = 2048  # elements; below, tables and scales cost more than they save (coremltools' own default)
BLOCK = 32  # input channels that share a scale at four bits


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution of a Core ML program.

    Attributes:
        name: of the operator.
        weight: name of its weight, after the parameter it was made from.
        shape: of its weight, (O, C, kh, kw).
        normalised: whether a group norm follows.
    """

    name: str
    weight: str
    shape: tuple[int, int, int, int]
    normalised: bool

    @property
    def delicate(self) -> bool:
        """Whether its weights stay float whatever the precision."""
        return OFFSETS in self.weight or any(name in self.weight for name in PREDICTIONS)

    @property
    def compressed(self) -> bool:
        """Whether compression touches its weights."""
        return prod(self.shape) > SMALLEST and not self.delicate

    @property
    def stem(self) -> bool:
        """Whether it stands before the backbone's first stage."""
        return STEM in self.weight

    @property
    def sensitive(self) -> bool:
        """Whether four bits are too few for it; int4 gives it eight, with a scale per output channel."""
        return self.stem or KERNELS in self.weight

    @property
    def block(self) -> int:
        """Input channels that share a scale at four bits: the divisor of them that is nearest to :data:`BLOCK`."""
        channels = self.shape[1]
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
        return min(divisors, key=lambda n: max(n / BLOCK, BLOCK / n))


def convolutions(model: Any) -> tuple[Convolution, ...]:
    """Return the convolutions of a program converted by coremltools, with float weights, in order."""
    found = []
    for op in model._mil_program.functions["main"].operations:
        if op.op_type == "conv" and op.weight.op is not None and op.weight.op.op_type == "const":
            users = [user.op_type for user in op.outputs[0].child_ops]
            found.append(Convolution(op.name, op.weight.name, tuple(op.weight.shape), users == ["mul"]))
    return tuple(found)


def weight_passes(precision: str, found: tuple[Convolution, ...]) -> list[tuple[str, dict[str, Any]]]:
    """Return coremltools' passes, each with its options, that compress the weights of a float16 program.

    Args:
        precision: one of :data:`COMPRESSED`.
        found: the program's convolutions.
    """
    load_coremltools()
    with quiet():
        import coremltools.optimize.coreml as optimize

    def config(convolution: Convolution) -> Any:
        if not convolution.compressed:
            return None
        if precision.startswith("palette"):
            return optimize.OpPalettizerConfig(mode="kmeans", nbits=int(precision[-1]), weight_threshold=SMALLEST)
        if precision == "int4" and not convolution.sensitive:
            return optimize.OpLinearQuantizerConfig(
                mode="linear_symmetric",
                dtype="int4",
                granularity="per_block",
                block_size=convolution.block,
                weight_threshold=SMALLEST,
            )
        return optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric", granularity="per_channel", weight_threshold=SMALLEST
        )

    by_name = {convolution.name: config(convolution) for convolution in found}
    return [(f"compression::{PASSES[precision]}", {"config": optimize.OptimizationConfig(op_name_configs=by_name)})]
