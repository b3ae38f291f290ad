"""Histograms: what falls where, what a quantile says, and that a snapshot stays."""

from __future__ import annotations

import pytest

from trio_stomp.histogram import BOUNDS, Histogram, HistogramStatistics


def recorded(*seconds: float) -> HistogramStatistics:
    histogram = Histogram()
    for each in seconds:
        histogram.record(each)
    return histogram.statistics()


def test_bounds_rise() -> None:
    assert sorted(set(BOUNDS)) == list(BOUNDS)


@pytest.mark.parametrize("index", range(len(BOUNDS)))
def test_a_bound_belongs_to_what_is_below_it(index: int) -> None:
    assert recorded(BOUNDS[index]).counts[index] == 1
    assert recorded(BOUNDS[index] * 1.001).counts[index + 1] == 1


def test_nothing_recorded_is_nothing() -> None:
    empty = recorded()
    assert (empty.count, empty.sum, empty.mean, empty.quantile(0.5)) == (0, 0.0, 0.0, 0.0)


def test_mean_is_exact() -> None:
    assert recorded(1.0, 2.0, 6.0).mean == 3.0


def test_a_quantile_is_interpolated_between_two_bounds() -> None:
    assert recorded(0.015, 0.015).quantile(0.5) == pytest.approx(0.015)
    assert recorded(*[0.015] * 9, 0.04).quantile(0.9) == pytest.approx(0.02)
    assert 0.02 < recorded(*[0.015] * 9, 0.04).quantile(0.95) <= 0.05
    assert recorded(0.00005).quantile(1.0) == BOUNDS[0]


def test_a_quantile_above_all_bounds_is_the_last_bound() -> None:
    assert recorded(1.0, 100.0).quantile(0.99) == BOUNDS[-1]


def test_a_snapshot_stays_as_it_is() -> None:
    histogram = Histogram()
    before = histogram.statistics()
    histogram.record(1.0)
    assert (before.count, histogram.statistics().count) == (0, 1)
