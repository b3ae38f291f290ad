"""Counts of durations by size: what Prometheus calls a histogram, cheap enough for every call.

Rule: the bounds never change, so that histograms of two moments can be subtracted bound by bound.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final

import attrs

BOUNDS: Final = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
)
"""Seconds: 1-2-5 steps, from what an idle event loop needs to what no person waits for."""


class Histogram:
    """Durations, alive: `record` adds one."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration; about 0.2 µs."""
        self._counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def statistics(self) -> HistogramStatistics:
        """Return a snapshot that later calls don't change."""
        return HistogramStatistics(tuple(self._counts), self._sum)


@attrs.frozen
class HistogramStatistics:
    """A histogram at one moment.

    Attributes:
        counts: for each of `BOUNDS` how many durations were at most that and above the one before it;
            then how many were above the last.
        sum: seconds, all together.
    """

    counts: Sequence[int]
    sum: float

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Seconds; 0 when there was none."""
        return self.sum / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Return the seconds that ``share`` (0 to 1) of the durations did not exceed; 0 when there was none.

        Between two bounds it is interpolated; above the last it is the last, as Prometheus does it.
        """
        target = share * self.count
        below = 0
        for index, upper in enumerate(BOUNDS):
            here = self.counts[index]
            if here and below + here >= target:
                lower = BOUNDS[index - 1] if index else 0.0
                return lower + (upper - lower) * max(target - below, 0.0) / here
            below += here
        return BOUNDS[-1] if below < self.count else 0.0
