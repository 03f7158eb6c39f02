from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.advice import Candidate, advise, median_error

MB = 1_000_000
Row = tuple[str, str, float, float | None, float | None, float | None]


def candidate(row: Row, error: float = 0.001) -> Candidate:
    """(name, precision, MB, ratio, drop, parity)"""
    name, precision, size, ratio, drop, parity = row
    time = None if ratio is None else 100 * ratio
    return Candidate(name, precision, int(size * MB), time, ratio, error, drop, parity)


FP32: Row = ("fp32", "fp32", 6.4, 1.0, 0.0, 1e-6)
UNPROVEN: Row = ("fp32", "fp32", 6.4, 1.0, None, 1e-6)


@pytest.mark.parametrize(
    ("rows", "choice"),
    [
        # int8 is faster and accurate
        ([FP32, ("int8", "int8", 1.7, 0.35, 0.3, 0.2)], "int8"),
        # int8 is faster and loses too much
        ([FP32, ("int8", "int8", 1.7, 0.35, 0.6, 0.2)], "fp32"),
        # exactly the bound is allowed
        ([FP32, ("int8", "int8", 1.7, 0.35, 0.5, 0.2)], "int8"),
        # int8 is slower here
        ([FP32, ("int8", "int8", 1.7, 1.3, 0.0, 0.2)], "fp32"),
        # equally fast and accurate: the smaller file
        ([FP32, ("fp16", "fp16", 3.2, 1.03, -0.04, 1e-3)], "fp16"),
        # equally fast, but less accurate
        ([FP32, ("int8", "int8", 1.7, 0.97, 0.4, 0.2)], "fp32"),
        # more than 5 % slower is slower, however small
        ([FP32, ("fp16", "fp16", 3.2, 1.08, 0.0, 1e-3)], "fp32"),
        # the fastest of several
        ([FP32, ("a", "int8", 1.7, 0.5, 0.3, 0.2), ("b", "int8-dynamic", 1.7, 0.6, 0.1, 0.1)], "a"),
        # of several as fast, the most accurate
        ([FP32, ("a", "int8", 1.7, 0.50, 0.3, 0.2), ("b", "int8-dynamic", 1.9, 0.52, 0.1, 0.1)], "b"),
        # without AP, float's recorded parity counts as accurate, and int8's as not proven
        ([UNPROVEN, ("int8", "int8", 1.7, 0.98, None, 0.2)], "fp32"),
        ([UNPROVEN, ("fp16", "fp16", 3.2, 0.98, None, 1e-3)], "fp16"),
        ([UNPROVEN, ("fp16", "fp16", 3.2, 0.98, None, None)], "fp32"),
        # much faster is shipped, unproven as it is
        ([UNPROVEN, ("int8", "int8", 1.7, 0.35, None, 0.2)], "int8"),
        # what cannot be timed here is never chosen
        ([FP32, ("ml", "palette6", 1.3, None, None, 0.1)], "fp32"),
    ],
)
@pytest.mark.parametrize("turn", [1, -1])
def test_the_rule(rows: list[Row], choice: str, turn: int) -> None:
    advice = advise([candidate(row) for row in rows][::turn], "fp32", 0.5)
    assert advice.choice == choice
    assert set(advice.reasons) == {row[0] for row in rows} - {choice}
    assert advice.verdict.startswith(f"ship {choice}: ")
    assert advice.accuracy_known == (rows[0][4] is not None)


def test_a_difference_the_measurement_cannot_tell_is_none() -> None:
    rows = [FP32, ("int8", "int8", 1.7, 0.85, 0.3, 0.2)]
    assert advise([candidate(row, 0.001) for row in rows], "fp32", 0.5).choice == "int8"
    assert advise([candidate(row, 0.1) for row in rows], "fp32", 0.5).choice == "fp32"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("int8", "int8", 1.7, 1.3, 0.0, 0.2), "it takes 1.30 times as long"),
        (("int8", "int8", 1.7, 0.3, 9.83, 0.2), "it loses 9.83 points of AP, at most 0.5 are allowed"),
        (("int8", "int8", 1.7, 0.97, 0.4, 0.2), "it is about as fast and it loses 0.40 points of AP"),
        (("fp16", "fp16", 9.9, 1.0, 0.0, 1e-3), "it is about as fast and larger (9.9 MB)"),
        (("ml", "palette6", 1.3, None, None, None), "it cannot be timed on this machine"),
    ],
)
def test_every_other_one_is_told_why_not(row: Row, reason: str) -> None:
    assert advise([candidate(FP32), candidate(row)], "fp32", 0.5).reasons == {row[0]: reason}


def test_what_is_said_of_the_choice() -> None:
    advice = advise([candidate(FP32), candidate(("int8", "int8", 1.7, 0.4, 0.3, 0.2))], "fp32", 0.5)
    assert advice.verdict == (
        "ship int8: 40.0 ms a frame, 1.7 MB; 2.50 times as fast as fp32, 0.30 points of AP below it"
    )
    slower = advise([candidate(FP32), candidate(("x", "int8", 1.7, 1.4, 0.0, 0.2))], "fp32", 0.5)
    assert slower.verdict == "ship fp32: 100.0 ms a frame, 6.4 MB; int8 is no faster than fp32 here"
    both = [candidate(FP32), *(candidate((p, p, 1.7, 1.2, 0.0, 0.2)) for p in ("int8", "int16x8"))]
    assert advise(both, "fp32", 0.5).verdict.endswith("; int8 and int16x8 are no faster than fp32 here")


def test_nothing_may_be_shipped() -> None:
    rows = [candidate(("a", "int8", 1.0, 1.0, 3.0, 0.2)), candidate(("b", "int8", 1.0, 0.9, 2.0, 0.2))]
    advice = advise(rows, "a", 0.5)
    assert advice.choice is None
    assert advice.verdict == "none of them is within 0.5 points of a"
    assert set(advice.reasons) == {"a", "b"}


def test_the_error_of_a_median() -> None:
    samples = np.random.default_rng(0).normal(1.0, 0.1, (4000, 50))
    low, high = np.percentile(samples, (5, 95))
    assert median_error(float(low), float(high), 50) == pytest.approx(np.median(samples, axis=1).std(), rel=0.05)


def test_what_cannot_be_decided_is_refused() -> None:
    with pytest.raises(InputError, match="must be one of the candidates"):
        advise([candidate(FP32)], "other", 0.5)
    with pytest.raises(InputError, match="names of their own"):
        advise([candidate(FP32), candidate(FP32)], "fp32", 0.5)
    with pytest.raises(InputError, match="at least 0 points"):
        advise([candidate(FP32)], "fp32", -1.0)
    with pytest.raises(InputError, match="a time and a ratio, or neither"):
        Candidate("a", "fp32", 1, frame_ms=3.0)
    with pytest.raises(InputError, match="unknown precision"):
        Candidate("a", "fp8", 1)
