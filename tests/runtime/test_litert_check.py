from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.litert_check import probe, require_agreement

ARRAYS = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in ((19, 2), (19, 4), (4, 16, 24))]


@dataclass
class Fixed:
    """A network that always gives the same, or raises."""

    arrays: Sequence[Any]
    providers: tuple[str, ...] = ("GPU (made up)",)

    def run(self, batch: Any) -> list[Any]:
        assert batch.dtype == np.uint8
        if not self.arrays:
            raise RuntimeError("shader failed\nto compile")
        return list(self.arrays)


def noisy(decibels: float) -> list[Any]:
    """Add noise to the mask features alone."""
    noise = np.random.default_rng(1).normal(size=ARRAYS[2].shape)
    noise *= np.linalg.norm(ARRAYS[2]) / np.linalg.norm(noise) / 10 ** (decibels / 20)
    return [*ARRAYS[:2], (ARRAYS[2] + noise).astype(np.float32)]


def test_float16_passes_and_wrong_arithmetic_does_not(tiny_manifest: Manifest) -> None:
    for good in (ARRAYS, [array.astype(np.float16).astype(np.float32) for array in ARRAYS], noisy(15.5)):
        require_agreement("x.tflite", Fixed(good), Fixed(ARRAYS), tiny_manifest)
    with pytest.raises(InputError, match=r"other mask_features with GPU \(made up\) than on the CPU: 14 dB"):
        require_agreement("x.tflite", Fixed(noisy(14.4)), Fixed(ARRAYS), tiny_manifest)


def test_what_is_not_finite_does_not_pass(tiny_manifest: Manifest) -> None:
    for bad in (np.nan, np.inf):
        broken = [ARRAYS[0], ARRAYS[1].copy(), ARRAYS[2]]
        broken[1][3, 3] = bad
        with pytest.raises(InputError, match="other kernels with"):
            require_agreement("x.tflite", Fixed(broken), Fixed(ARRAYS), tiny_manifest)


def test_outputs_that_are_zero(tiny_manifest: Manifest) -> None:
    zeros = [np.zeros_like(array) for array in ARRAYS]
    require_agreement("x.tflite", Fixed(zeros), Fixed(zeros), tiny_manifest)
    with pytest.raises(InputError, match="other class_scores"):
        require_agreement("x.tflite", Fixed(ARRAYS), Fixed(zeros), tiny_manifest)


def test_a_run_that_fails_is_one_sentence(tiny_manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"cannot be run by GPU \(made up\): shader failed to compile; run it"):
        require_agreement("x.tflite", Fixed([]), Fixed(ARRAYS), tiny_manifest)


def test_the_probe_has_the_contracts_shape_and_something_to_see(tiny_manifest: Manifest) -> None:
    image = probe(tiny_manifest.input)
    assert (image.shape, image.dtype.name) == ((1, 64, 96, 3), "uint8")
    assert image.std() > 50
    tensor = probe(replace(tiny_manifest, input=InputContract("tensor", 64, 96)).input)
    assert (tensor.shape, tensor.dtype.name) == ((1, 3, 64, 96), "float32")
    np.testing.assert_allclose(tensor[0, 2], (image[0, ..., 2].astype(np.float32) - 127) / 64)
