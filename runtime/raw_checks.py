"""What raw outputs must be before they are decoded: of this network, and finite, found out at next to no cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.upscale import SCALE
from solov2_edge.spec import ModelSpec

__all__ = ["check_finite", "check_mask_features", "check_shapes"]

_WITNESSES = 4  # kernels whose logits are asked whether the mask features are finite


def check_shapes(raw: RawOutputs, geometry: Geometry, spec: ModelSpec) -> None:
    """Refuse outputs of another spec or geometry."""
    require(
        raw.class_scores.shape == (spec.num_cells, spec.num_classes),
        f"class scores must be {spec.num_cells} cells x {spec.num_classes} classes for {spec.name}, "
        f"got {raw.class_scores.shape}; the manifest describes another network",
    )
    require(
        raw.kernels.shape[1] == spec.kernel_length,
        f"kernels must hold {spec.kernel_length} numbers for {spec.name}, got {raw.kernels.shape[1]}; "
        "the manifest describes another network",
    )
    expected = (spec.feature_channels, geometry.input_height // SCALE, geometry.input_width // SCALE)
    require(
        raw.mask_features.shape == expected,
        f"mask features must be {expected} for a {geometry.input_height} x {geometry.input_width} input, "
        f"got {raw.mask_features.shape}; the manifest describes another network",
    )


def check_finite(name: str, values: NDArray[np.float32]) -> None:
    """Refuse NaN and infinity; large arrays are read once, into no array of flags.

    A sum of squares is finite only if every value is. One that overflows proves nothing: then each value is asked.
    """
    flat = values.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.dot(flat, flat)
    if not np.isfinite(squares) and not np.isfinite(flat).all():
        raise SolovEdgeError(
            f"the artefact produced non-finite values (NaN or infinity) in its {name}; "
            "convert the checkpoint again at a higher precision"
        )


def check_mask_features(
    mask_features: NDArray[np.float32], kernels: NDArray[np.float32], logits: NDArray[np.float32] | None
) -> None:
    """Refuse NaN and infinity in the mask features, by the logits that were made of them wherever those tell.

    A sum of products is finite only if every feature with a weight that is not 0 is. So finite logits of a few kernels
    that together leave no channel out prove all features finite, and the features need no second reading.

    Args:
        mask_features: (E, h, w) float32.
        kernels: (k, E) float32.
        logits: (k, h, w) float32, of these kernels; None where they are no longer there.
    """
    proven = logits is not None and kernels[:_WITNESSES].any(axis=0).all() and np.isfinite(logits[:_WITNESSES]).all()
    if not proven:
        check_finite("mask features", mask_features)
