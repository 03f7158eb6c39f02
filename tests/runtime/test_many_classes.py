"""A head of LVIS's 1203 classes: the same instances as with few, and the memory of candidates bounded."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np

from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.spec import ModelSpec

NAMES = tuple(f"thing {number}" for number in range(1203))
SPEC = ModelSpec(name="many", class_names=NAMES, mask_channels=32)
GEOMETRY = fixed_geometry(120, 160, 96, 128)


def test_classes_beyond_the_first_hundreds_are_found_as_those_are() -> None:
    few = replace(SPEC, class_names=NAMES[:7])
    raw = planted_outputs(few, GEOMETRY, 9)
    scores = np.full((SPEC.num_cells, 1203), 0.04, np.float32)
    chosen = np.array([0, 79, 80, 255, 256, 1000, 1202])
    scores[:, chosen] = raw.class_scores
    expected = decode(raw, GEOMETRY, few)
    found = decode(replace(raw, class_scores=scores), GEOMETRY, SPEC)
    assert len(found) == len(expected) == 9
    np.testing.assert_array_equal(found.labels, chosen[expected.labels])
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.masks, expected.masks)
    assert "thing 1202" in found.names


def test_more_detections_than_coco_counts() -> None:
    raw = planted_outputs(SPEC, GEOMETRY, 250)
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(area_filter=False))) == 100
    assert len(decode(raw, GEOMETRY, SPEC, DecodeOptions(max_instances=300, area_filter=False))) > 200


def test_a_threshold_that_a_quarter_of_all_scores_passes_takes_little_memory() -> None:
    """4.7 million scores; one list of places per candidate would take 40 MB, and comparing needs ten."""
    scores = np.random.default_rng(0).random((SPEC.num_cells, 1203), np.float32)
    tracemalloc.start()
    try:
        found = find_candidates(scores, SPEC.grids, 0.75, True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) > 500_000
    assert peak < 6 * scores.nbytes


def test_the_manifest_carries_every_name() -> None:
    manifest = Manifest(SPEC, "onnx", "fp32", InputContract("image", 96, 128))
    assert Manifest.from_json(manifest.to_json()).spec.class_names == NAMES
