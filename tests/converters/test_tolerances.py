from dataclasses import astuple
from itertools import pairwise

import pytest

from solov2_edge.converters.parity import BOUNDS, bound_of
from solov2_edge.converters.tolerances import TOLERANCES, tolerance_of
from solov2_edge.manifest import PRECISIONS


def test_every_precision_has_its_tolerances():
    assert set(TOLERANCES) == set(PRECISIONS)


def test_the_designs_bounds():
    assert bound_of("fp32") == 1e-4
    assert bound_of("fp16") == 1e-2
    assert BOUNDS == {"fp32": 1e-4, "fp16": 1e-2}
    assert tolerance_of("fp32").picture.at_90 == 1.0
    assert tolerance_of("fp32").picture.score == 1e-4


@pytest.mark.parametrize("precision", sorted(set(PRECISIONS) - {"fp32", "fp16"}))
def test_rounded_precisions_are_held_over_all_pictures(precision):
    overall = tolerance_of(precision).overall
    assert None not in astuple(overall)
    assert 0 < overall.noise < 1
    assert overall.at_90 < overall.at_50 < 1
    assert tolerance_of(precision).picture.at_50 is None


def test_a_finer_precision_is_never_held_more_loosely():
    order = ("fp32", "fp16", "palette6", "int8", "palette4")
    for finer, coarser in pairwise(order):
        a, b = tolerance_of(finer), tolerance_of(coarser)
        assert a.largest < b.largest or a.overall.noise < b.overall.noise
        assert a.margin <= b.margin
        assert a.overall.iou > b.overall.iou
