"""Sensitivity of a pretended engine whose layers add known noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from solov2_edge.converters.sensitivity import measure_sensitivity, signal_to_noise
from solov2_edge.errors import InputError
from solov2_edge.runtime.session import RawOutputs

HARM = {"stem": 4.0, "body": 1.0, "head": 9.0}


def build(kept: frozenset[str]) -> float:
    """The artefact is its noise: that of every layer not kept float."""
    return sum(noise for layer, noise in HARM.items() if layer not in kept)


def measure(noise: float) -> Mapping[str, float]:
    return {"quality": -noise}


def test_every_layer_is_seen_from_both_sides() -> None:
    lines: list[str] = []
    found = measure_sensitivity({name: [name] for name in HARM}, build, measure, log=lines.append)
    assert found.floating == {"quality": 0}
    assert found.reduced == {"quality": -14}
    assert [effect.alone["quality"] for effect in found.effects] == [-4, -1, -9]
    assert [effect.without["quality"] for effect in found.effects] == [-10, -13, -5]
    assert [effect.name for effect in found.ranked("quality")] == ["head", "stem", "body"]
    assert lines[0] == "all float: quality 0.0; all reduced: quality -14.0"
    assert lines[1] == "1/3 stem: alone quality -4.0; without it quality -10.0"
    assert len(lines) == 4


def test_groups_go_together() -> None:
    found = measure_sensitivity({"front": ["stem", "body"], "head": ["head"]}, build, measure)
    assert found.effects[0].layers == ("stem", "body")
    assert found.effects[0].alone == {"quality": -5}
    assert found.effects[0].without == {"quality": -9}


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(InputError, match="got none"):
        measure_sensitivity({}, build, measure)
    with pytest.raises(InputError, match="head has none"):
        measure_sensitivity({"stem": ["stem"], "head": []}, build, measure)


def raw(scores: float, features: float) -> RawOutputs:
    return RawOutputs(
        np.full((4, 1), scores, np.float32), np.ones((4, 2), np.float32), np.full((2, 3, 3), features, "f4")
    )


def test_signal_to_noise_is_in_decibels_over_all_pictures() -> None:
    found = signal_to_noise([raw(1.0, 2.0), raw(1.0, 2.0)], [raw(1.1, 2.0), raw(0.9, 0.0)])
    assert found["class_scores"] == pytest.approx(20, abs=1e-3)
    assert found["kernels"] == 150
    assert found["mask_features"] == pytest.approx(10 * np.log10(2), abs=1e-6)  # half of the signal is lost
    assert signal_to_noise([raw(0.0, 0.0)], [raw(0.0, 0.0)])["class_scores"] == 150
    with pytest.raises(InputError, match="as many outputs"):
        signal_to_noise([], [])
