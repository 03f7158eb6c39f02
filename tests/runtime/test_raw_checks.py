from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import SolovEdgeError
from solov2_edge.runtime import raw_checks
from solov2_edge.runtime.quarter_masks import mask_logits
from solov2_edge.runtime.raw_checks import check_finite, check_mask_features

BAD = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("place", [0, 13, 59])
def test_one_bad_value_anywhere_is_found(value: float, place: int) -> None:
    values = np.ones((5, 12), np.float32)
    check_finite("kernels", values)
    values.flat[place] = value
    with pytest.raises(SolovEdgeError, match="in its kernels"):
        check_finite("kernels", values)


def test_values_whose_squares_overflow_are_finite() -> None:
    check_finite("kernels", np.full((3, 3), 3e38, np.float32))


def no_second_reading(name: str, values: NDArray[np.float32]) -> None:
    raise AssertionError(f"{name} were read again")


def test_finite_logits_prove_finite_features(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.ones((3, 2, 2), np.float32)
    kernels = np.array([[1, 0, 0], [0, -1, 0], [0, 0, 2]], np.float32)
    monkeypatch.setattr(raw_checks, "check_finite", no_second_reading)
    check_mask_features(features, kernels, mask_logits(kernels, features))
    for logits in (None, mask_logits(kernels[:2], features)):  # none left, and a channel no kernel weighs
        with pytest.raises(AssertionError, match="mask features were read again"):
            check_mask_features(features, kernels[:2], logits)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize("kernel", [[1.0, 2.0, -1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
def test_a_bad_feature_is_found_whatever_the_kernel_weighs(channel: int, value: float, kernel: list[float]) -> None:
    features = np.ones((3, 4, 5), np.float32)
    features[channel, 2, 3] = value
    kernels = np.array([kernel], np.float32)
    with pytest.raises(SolovEdgeError, match="in its mask features"):
        check_mask_features(features, kernels, mask_logits(kernels, features))


def test_huge_finite_features_whose_logits_overflow_pass() -> None:
    features = np.full((2, 3, 3), 1e30, np.float32)
    kernels = np.full((1, 2), 1e30, np.float32)
    logits = mask_logits(kernels, features)
    assert np.isinf(logits).all()
    check_mask_features(features, kernels, logits)
