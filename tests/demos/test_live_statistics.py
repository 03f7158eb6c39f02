from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.demos import live_statistics
from solov2_edge.demos.live_statistics import Meter, Quantiles
from solov2_edge.runtime.source import SourceStatus


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [50.0]
    monkeypatch.setattr(live_statistics, "perf_counter", lambda: now[0])
    return now


def test_quantiles_are_right_to_half_a_percent() -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 5000)
    quantiles = Quantiles()
    for value in values.tolist():
        quantiles.add(value)
    for share in (0.01, 0.5, 0.95, 1.0):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert quantiles(share) == pytest.approx(expected, rel=0.006)


def test_quantiles_of_nothing_and_of_the_absurd() -> None:
    quantiles = Quantiles()
    assert quantiles(0.5) == 0
    for value in (0.0, -1.0, 1e12):
        quantiles.add(value)
    assert quantiles(0.5) == pytest.approx(1e-3, rel=0.01)
    assert quantiles(1.0) == pytest.approx(1e7, rel=0.02)


def test_figures_of_a_stream(clock: list[float]) -> None:
    meter = Meter()
    status = SourceStatus("reopening", 2, 1, "gone")
    first = meter.count(10.0, 5.0, 0, status)
    assert (first.frames, first.fps, first.elapsed) == (1, 0, 0)
    for index in range(100):
        clock[0] += 0.1
        now = meter.count(10.0 + index, 5.0, index, status)
    assert now.frames == meter.frames == 101
    assert now.fps == pytest.approx(10)
    assert now.latency == pytest.approx(np.median(np.arange(80, 110)))  # of the last 30
    assert now.network == 5
    assert (now.dropped, now.corrupt, now.reopened, now.state, now.message) == (99, 2, 1, "reopening", "gone")
    assert now.elapsed == pytest.approx(10)
    summary = meter.summary(status)
    assert (summary["frames"], summary["fps"], summary["dropped"]) == (101, pytest.approx(10), 99)
    assert summary["latency_ms"]["p50"] == pytest.approx(59, rel=0.02)
    assert summary["latency_ms"]["p95"] == pytest.approx(104, rel=0.02)
    assert (summary["corrupt"], summary["reopened"]) == (2, 1)
    assert now.to_dict()["frames"] == 101
