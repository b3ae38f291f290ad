"""What a soak test concludes: who got what, how memory and latency went, and what is wrong with it.

Rule: nothing here does I/O or looks at a clock, so that each check is known to bite (tests/test_soak.py).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence

import attrs

MIB = 1024 * 1024

WARM_UP = 0.25
"""Share of the time that memory is left to find its level: caches fill, arenas grow."""
GROWTH_BYTES = 4 * MIB
"""Bytes that resident memory may grow by after the warm-up, or `GROWTH_SHARE` of it, whichever is more:
freed arenas come back in pieces of 1 MiB, and which of them is still used is chance."""
GROWTH_SHARE = 0.05
DRIFT = 1.5
"""How many times the first third's p99 the last third's may be; more if the generator itself was later in the
last third than in the first, for then the machine was busier with something else."""
DRIFT_FLOOR = 0.005
"""Seconds; a smaller p99 counts as this, because below it the machine's other work decides."""
WINDOW = 5.0
"""Seconds. A third's p99 is the median of its windows', so that one hiccup of the machine is not a drift."""


@attrs.define(eq=False)
class Stream:
    """A subscriber's view of numbered messages: each once, in order, none left out.

    Attributes:
        last: the highest number that has come, by source.
        lost, twice, early: messages left out, seen again, seen though they were never to come.
    """

    name: str
    last: dict[str, int] = attrs.field(factory=dict)
    lost: int = 0
    twice: int = 0
    early: int = 0

    def see(self, source: str, number: int) -> None:
        """One message has come; numbers begin with 1, a number of 0 was taken back by its sender."""
        last = self.last.get(source, 0)
        if number == 0:
            self.early += 1
        elif number <= last:
            self.twice += 1
        else:
            self.lost += number - last - 1
            self.last[source] = number

    def missing(self, confirmed: Mapping[str, int]) -> int:
        """How many of the confirmed messages have not come, of the sources that this one listens to."""
        return self.lost + sum(
            max(number - self.last.get(source, 0), 0) for source, number in confirmed.items()
        )


@attrs.define(eq=False)
class Queue:
    """A queue's view of numbered messages: each is settled once, however often it has to be given out.

    Attributes:
        confirmed: the highest number whose receipt has come; all below it are confirmed too.
        given, settled: numbers that somebody got, and that somebody who stayed acknowledged.
        again: how often a message was given out again, as it should.
        twice, unmarked: given out again after it was settled; given out again without ``redelivered``.
    """

    confirmed: int = 0
    given: set[int] = attrs.field(factory=set)
    settled: set[int] = attrs.field(factory=set)
    again: int = 0
    twice: int = 0
    unmarked: int = 0

    def see(self, number: int, *, is_redelivered: bool) -> None:
        """One message was given out."""
        self.again += is_redelivered
        self.twice += number in self.settled
        self.unmarked += number in self.given and not is_redelivered
        self.given.add(number)

    @property
    def missing(self) -> int:
        """How many confirmed messages nobody has got."""
        return sum(number not in self.given for number in range(1, self.confirmed + 1))


@attrs.define(eq=False)
class Latencies:
    """Seconds from sending to arrival, by window of time."""

    windows: list[list[float]] = attrs.field(factory=list)

    def record(self, at: float, seconds: float) -> None:
        """One message, that came ``at`` seconds after the start."""
        index = int(at / WINDOW)
        while len(self.windows) <= index:
            self.windows.append([])
        self.windows[index].append(seconds)

    def p99(self) -> list[float]:
        """Of each window that had something."""
        return [quantile(window, 0.99) for window in self.windows if window]

    def thirds(self) -> tuple[float, float]:
        """Median of the windows' p99 in the first and in the last third; 0 when there are too few."""
        found = self.p99()
        share = len(found) // 3
        if not share:
            return 0.0, 0.0
        return statistics.median(found[:share]), statistics.median(found[-share:])


@attrs.frozen(kw_only=True)
class Sample:
    """The server at one moment; ``at`` is seconds after the start."""

    at: float
    resident: int
    tasks: int
    sessions: int
    descriptors: int
    cpu: float


@attrs.frozen(kw_only=True)
class Outcome:
    """All that was seen, for `faults` and for the report."""

    seconds: float
    samples: Sequence[Sample]
    before: Sample
    after: Sample
    drift: tuple[float, float]
    lateness: tuple[float, float]
    lost: int
    twice: int
    early: int
    unmarked: int
    internal_errors: int
    leftovers: Mapping[str, int]
    surprises: Sequence[str]
    log: str

    @property
    def growth(self) -> tuple[float, float]:
        """Bytes by which resident memory grew after the warm-up, by its slope, and how many it may."""
        warm = [sample for sample in self.samples if sample.at >= WARM_UP * self.seconds]
        if len(warm) < 2:
            return 0.0, GROWTH_BYTES
        rate = slope([(sample.at, float(sample.resident)) for sample in warm])
        allowed = max(GROWTH_BYTES, GROWTH_SHARE * statistics.median(sample.resident for sample in warm))
        return rate * (warm[-1].at - warm[0].at), allowed

    @property
    def drift_found(self) -> float:
        """How many times the first third's p99 the last third's is."""
        first, last = (max(p99, DRIFT_FLOOR) for p99 in self.drift)
        return last / first

    def doubts(self) -> Iterator[str]:
        """Yield what was let pass though it shows nothing."""
        if DRIFT < self.drift_found <= self.drift_allowed:
            yield (
                f"p99 drifted {self.drift_found:.2f} times, above {DRIFT:g}, but the generator itself was "
                f"{self.drift_allowed / DRIFT:.2f} times later too: p99 is not shown to be flat, "
                "run it on a quiet machine"
            )

    @property
    def drift_allowed(self) -> float:
        """How many times the first third's p99 the last third's may be."""
        first, last = (max(p99, DRIFT_FLOOR) for p99 in self.lateness)
        return DRIFT * max(last / first, 1.0)

    def faults(self) -> Iterator[str]:
        """Yield what is not as it must be."""
        grown, allowed = self.growth
        if grown > allowed:
            yield f"memory grew by {grown / MIB:.1f} MiB after the warm-up, allowed are {allowed / MIB:.1f}"
        if self.drift_found > self.drift_allowed:
            first, last = (max(p99, DRIFT_FLOOR) for p99 in self.drift)
            yield (
                f"p99 went from {first * 1000:.1f} to {last * 1000:.1f} ms, "
                f"allowed is {self.drift_allowed:.2f} times"
            )
        for count, what in (
            (self.lost, "messages lost"),
            (self.twice, "messages that came twice or out of order"),
            (self.early, "messages of aborted transactions that came"),
            (self.unmarked, "messages given out again without `redelivered`"),
            (self.internal_errors, "internal errors"),
        ):
            if count:
                yield f"{count} {what}"
        for name in ("tasks", "sessions", "descriptors"):
            was, now = getattr(self.before, name), getattr(self.after, name)
            if now > was:
                yield f"{now} {name} at the end, {was} at the start"
        for name, count in self.leftovers.items():
            if count:
                yield f"{name} is {count} at the end, expected 0"
        yield from dict.fromkeys(self.surprises)
        if "Traceback" in self.log:
            yield "the server's log has a traceback"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil and Sen's: the median of the slopes between all pairs, which single leaps don't move."""
    step = max(len(points) // 200, 1)
    pairs = itertools.combinations(points[::step], 2)
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs if x2 > x1)
