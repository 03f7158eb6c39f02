import numpy as np
import pytest

from solov2_edge.converters.instance_parity import (
    compare_instances,
    decode_findings,
    overall_findings,
    picture_findings,
)
from solov2_edge.converters.tolerances import tolerance_of
from solov2_edge.runtime import DecodeOptions, Instances

OPTIONS = DecodeOptions()


def instances(*scores, shift=0):
    """One box of 3 x 8 pixels per score, side by side; ``shift`` moves all of them down."""
    masks = np.zeros((len(scores), 8, 40), bool)
    for number, mask in enumerate(masks):
        mask[shift:, 3 * number : 3 * number + 3] = True
    return Instances.from_masks(masks, scores, np.zeros(len(scores), int), ("ant",))


def compared(reference, ours, precision):
    return compare_instances(reference, ours, OPTIONS, tolerance_of(precision).margin)


def by_name(findings):
    return {finding.quantity: finding for finding in findings}


@pytest.mark.parametrize(
    ("reference", "ours", "passed"),
    [
        ((0.9, 0.5), (0.9, 0.5), True),
        ((0.9, 0.5), (0.9,), False),
        ((0.9,), (0.9, 0.5), False),
        ((0.9, 0.1001), (0.9,), True),  # at the edge of the score threshold
        ((), (), True),
        ((), (0.7,), False),
        ((0.9,), (0.88,), False),
    ],
)
def test_each_picture_in_float32(reference, ours, passed):
    parity = compared(instances(*reference), instances(*ours), "fp32")
    bounds = tolerance_of("fp32").picture
    rows = list(picture_findings("p", parity, bounds, noisy=False))
    assert all(row.passed for row in rows) == passed
    assert parity.at_50.matched == min(len(reference), len(ours))
    reported = picture_findings("p", parity, bounds, noisy=True)
    assert all(row.passed and row.bound is None for row in reported)


def test_what_is_missed_and_what_is_extra_is_named():
    parity = compared(instances(0.9, 0.8, 0.7), instances(0.9, 0.8), "fp32")
    assert parity.at_50.missed == (2,)
    assert parity.at_50.extra == ()
    assert parity.at_50.recall == pytest.approx(2 / 3)
    assert parity.at_50.precision == 1.0
    assert compared(instances(0.9), instances(0.9, 0.6), "fp32").at_50.extra == (1,)


def test_masks_that_moved_match_at_the_lower_iou_only():
    parity = compared(instances(0.9, 0.8), instances(0.85, 0.8, shift=2), "int8")
    assert parity.ious == (0.75, 0.75)
    assert parity.at_50.matched == 2
    assert parity.at_90.matched == 0
    assert parity.at_90.missed == (0, 1)
    assert sorted(parity.scores) == pytest.approx([0.0, 0.05])


def test_all_pictures_together():
    good = compared(instances(*[0.9] * 10), instances(*[0.9] * 10), "int8")
    loses_one = compared(instances(*[0.9] * 10), instances(*[0.9] * 9), "int8")
    bounds = tolerance_of("int8").overall
    rows = by_name(overall_findings([good] * 5 + [loses_one], bounds))
    assert rows["overall recall at 0.5"].value == pytest.approx(59 / 60)
    assert rows["overall recall at 0.5"].bound == bounds.at_50
    assert all(row.passed for row in rows.values())
    rows = by_name(overall_findings([loses_one] * 6, bounds))
    assert not rows["overall recall at 0.5"].passed
    assert rows["overall precision at 0.5"].passed


def test_of_few_instances_one_may_differ():
    bounds = tolerance_of("int8").overall
    one_of_three = compared(instances(0.9, 0.8, 0.7), instances(0.9, 0.8), "int8")
    assert all(row.passed for row in overall_findings([one_of_three], bounds))
    two_of_three = compared(instances(0.9, 0.8, 0.7), instances(0.9), "int8")
    assert not by_name(overall_findings([two_of_three], bounds))["overall recall at 0.5"].passed
    none_of_one = compared(instances(0.9), instances(), "int8")
    assert all(row.passed for row in overall_findings([none_of_one], bounds))
    assert all(row.passed for row in overall_findings([], bounds))


def test_drifting_masks_and_scores_fail_together():
    bounds = tolerance_of("int8").overall
    rows = by_name(overall_findings([compared(instances(0.9, 0.8), instances(0.6, 0.5, shift=2), "int8")], bounds))
    failed = {name for name, row in rows.items() if not row.passed}
    assert failed == {
        "overall recall at 0.9",
        "overall precision at 0.9",
        "overall mean mask IoU",
        "overall score of 90%",
    }


def test_decoding_is_held_to_the_oracle_whatever_the_precision():
    same = by_name(decode_findings("p", instances(0.9, 0.8), instances(0.9, 0.8), OPTIONS))
    assert all(row.passed for row in same.values())
    other = by_name(decode_findings("p", instances(0.9, 0.8), instances(0.9, 0.79, shift=1), OPTIONS))
    assert not other["instances in common"].passed
    assert not other["score"].passed
