"""What is to be learnt from the runs: the size to take, the next one to measure, where a ramp broke, doubts.

Rule 1: throughput is noisy by some percent, and a run may be hit by something else on the machine. So the
best throughput is the mean of the runs near the highest (one lucky run does not set the bar), and a size
that did badly once is not the end: more are measured around it.
Rule 2: sizes measured more than once count with their mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

import attrs

from trio_stomp.config import METADATA_KEY, PoolConfig
from trio_stomp.stress import units
from trio_stomp.stress.criteria import Criterion, holds, meets, misses, shown
from trio_stomp.stress.results import BreakingPoint, Recommendation, Report, Run

TOLERANCE: Final = 0.05
"""How far below the best throughput a size may be; more than the noise of a quiet machine."""

NEAR_HIGHEST: Final = 0.07
"""Runs this near the highest make the best throughput: all that noise of 3 % either way may push apart."""

DENT: Final = 0.08
"""How far below its neighbours' line a run is not believed; noise of 3 % makes up to 6 % of that."""

CLOSE_ENOUGH: Final = 1.1
"""Neighbouring sizes with this ratio are not told apart by their throughput."""

BEYOND: Final = 2
"""How many times the range of the list is doubled, or halved, when the knee lies outside of it."""

BUSY: Final = 0.9
"""The share of a pool's threads in use from which the pool is taken for the limit."""

FAILED_SHARE: Final = 0.01
"""Of what a step of a ramp sent may fail this much, and it still holds."""

LOOP_LAG: Final = 0.05
"""Seconds; an event loop that is late by more is busy with something that should not run in it."""

CPU: Final = 0.9
"""Cores; above this Python's one lock is the limit, not the pool."""


@attrs.frozen
class _Size:
    """A pool size and what it achieved, all its runs together."""

    threads: int
    achieved: float
    runs: tuple[Run, ...]

    def meets(self, target: Sequence[Criterion]) -> bool:
        return all(meets(target, run) for run in self.runs)

    @property
    def carries_the_rate(self) -> bool:
        return all(carries_the_rate(run) for run in self.runs)

    @property
    def busy(self) -> float | None:
        """The share of its threads that were in use; None when it is not known."""
        known = [threads for run in self.runs if (threads := busy_threads(run)) is not None]
        return sum(known) / len(known) / self.threads if known else None


def _sizes(runs: Iterable[Run]) -> list[_Size]:
    """Return the measured sizes, the smallest first."""
    by_size: dict[int, list[Run]] = {}
    for run in runs:
        if run.threads:
            by_size.setdefault(run.threads, []).append(run)
    return [
        _Size(threads, sum(run.achieved for run in same) / len(same), tuple(same))
        for threads, same in sorted(by_size.items())
    ]


def _best(sizes: Sequence[_Size]) -> float:
    """Return the best throughput: the mean of what is near the highest."""
    highest = max((size.achieved for size in sizes), default=0.0)
    near = [size.achieved for size in sizes if size.achieved >= (1 - NEAR_HIGHEST) * highest]
    return sum(near) / len(near) if near else 0.0


def _good(sizes: Sequence[_Size], target: Sequence[Criterion]) -> list[_Size]:
    """Return the sizes within `TOLERANCE` of the best that meet the target, or all of those if none does."""
    fast = [size for size in sizes if size.achieved >= (1 - TOLERANCE) * _best(sizes)]
    return [size for size in fast if size.meets(target)] or fast


def carries_the_rate(run: Run) -> bool:
    """Return whether the run achieved what it was offered, within `TOLERANCE`."""
    return run.achieved >= (1 - TOLERANCE) * run.rate


def busy_threads(run: Run) -> float | None:
    """Return how many threads were in use on average (Little's law); None when it is not known."""
    if run.split is None or run.split.call is None:
        return None
    return run.achieved * run.split.call


def recommend(runs: Iterable[Run], target: Sequence[Criterion] = ()) -> Recommendation | None:
    """Return the smallest size within 5 % of the best throughput that meets the target.

    When none of those meets it, the one with the most throughput that does; when no size does, the smallest
    within 5 %, with ``meets_target`` False. None when no run has a size, or nothing was answered.
    """
    sizes = _sizes(runs)
    best = _best(sizes)
    if best <= 0:
        return None
    fast = [size for size in sizes if size.achieved >= (1 - TOLERANCE) * best]
    fitting = [size for size in sizes if size.meets(target)]
    if any(size in fitting for size in fast):
        chosen = next(size for size in fast if size in fitting)
        reason = f"the smallest within 5 % of the best throughput ({units.rate(best)})"
        if target:
            reason += f" that meets {_joined(target)}"
    elif fitting:
        chosen = next(size for size in fitting if size.achieved >= (1 - TOLERANCE) * _best(fitting))
        reason = (
            f"the most throughput that meets {_joined(target)}: {units.rate(chosen.achieved)}, "
            f"{units.share(chosen.achieved / best)} of the best, which {fast[0].threads} threads reach, "
            f"but miss the target ({_missed(target, fast[0].runs[0])})"
        )
    else:
        chosen = fast[0]
        reason = (
            f"the smallest within 5 % of the best throughput ({units.rate(best)}); no size meets "
            f"{_joined(target)} (here {_missed(target, chosen.runs[0])})"
        )
        if not chosen.carries_the_rate:
            reason += (
                f"; {units.rate(chosen.runs[0].rate)} is more than any size carries, and latency then grows "
                "for as long as the test lasts: offer less to see what it is in service"
            )
    reason += _limit_of_the_test(chosen, sizes)
    pool = chosen.runs[0].pool or "client_inbound"
    return Recommendation(
        pool=pool,
        threads=chosen.threads,
        toml=f"[pools.{_key(pool)}]\nthreads = {chosen.threads}",
        reason=reason + ".",
        meets_target=bool(fitting) if target else None,
    )


def _limit_of_the_test(chosen: _Size, sizes: Sequence[_Size]) -> str:
    """Return what the test could not see, as the end of a sentence; "" when it saw the knee."""
    largest = sizes[-1]
    if chosen.carries_the_rate:
        offered = max(run.rate for run in chosen.runs)
        busy = (
            "" if chosen.busy is None else f" with {units.share(min(chosen.busy, 1.0))} of its threads busy"
        )
        return (
            f"; it carries the offered rate{busy}, so the test did not find the service's limit: "
            f"offer more than {units.rate(offered)} to find it"
        )
    if chosen is largest and len(sizes) > 1 and _is_the_limit(largest, sizes[-2]):
        return "; it is the largest that was measured and throughput still grew: try larger ones"
    if chosen is sizes[0] and chosen.threads > 1 and len(sizes) > 1:
        return "; it is the smallest that was measured: a smaller one may do as well"
    return ""


def _is_the_limit(largest: _Size, before: _Size) -> bool:
    """Return whether the largest size still was what limited the throughput."""
    is_growing = largest.achieved > (1 + TOLERANCE) * before.achieved
    return is_growing and not largest.carries_the_rate and (largest.busy is None or largest.busy >= BUSY)


def _key(pool: str) -> str:
    """Return a pool's name as a key of TOML."""
    return pool if re.fullmatch(r"[A-Za-z0-9_-]+", pool) else json.dumps(pool)


def _missed(target: Iterable[Criterion], run: Run) -> str:
    return ", ".join(shown(criterion, run) for criterion in target if not holds(criterion, run))


def _joined(target: Iterable[Criterion]) -> str:
    return ",".join(map(str, target))


def next_size(
    runs: Iterable[Run], target: Sequence[Criterion] = (), listed: Collection[int] = ()
) -> int | None:
    """Return the size that is worth measuring next; None when the knee is known well enough.

    First outwards, when ``listed`` (the sizes that were asked for) has at least two: the largest doubled,
    at most twice, while it still is the limit; the smallest halved, at most twice, while it is as good as
    the best. Then the gap below the smallest good size is bisected (geometric mean) until the two are
    neighbours or within 10 %. Never a size that was measured.
    """
    sizes = _sizes(runs)
    if _best(sizes) <= 0:
        return None
    smallest, largest = sizes[0], sizes[-1]
    good = _good(sizes, target)[0]
    if len(set(listed)) > 1:
        if largest.threads < max(listed) * 2**BEYOND and _is_the_limit(largest, sizes[-2]):
            doubled = min(largest.threads * 2, _most_threads())
            return doubled if doubled > largest.threads else None
        if good is smallest and min(listed) < smallest.threads * 2**BEYOND and smallest.threads > 1:
            return smallest.threads // 2
    if good is smallest:
        return None
    below = max(size.threads for size in _believable(sizes) if size.threads < good.threads)
    if good.threads <= below * CLOSE_ENOUGH:
        return None
    measured = {size.threads for size in sizes}
    middle = math.sqrt(below * good.threads)
    between = (size for size in range(below + 1, good.threads) if size not in measured)
    return min(between, key=lambda size: abs(math.log(size / middle)), default=None)


def _believable(sizes: Sequence[_Size]) -> Iterator[_Size]:
    """Yield the sizes, less those far below the line between their neighbours.

    One thread more never gives more than the one before it gave, so throughput has no dents: there
    something else disturbed the run.
    """
    for index, size in enumerate(sizes):
        if 0 < index < len(sizes) - 1:
            before, after = sizes[index - 1], sizes[index + 1]
            slope = (after.achieved - before.achieved) / (after.threads - before.threads)
            expected = before.achieved + slope * (size.threads - before.threads)
            if size.achieved < (1 - DENT) * expected:
                continue
        yield size


def _most_threads() -> int:
    high = attrs.fields(PoolConfig).threads.metadata[METADATA_KEY].high
    return int(high)


def breaking_point(runs: Iterable[Run], target: Sequence[Criterion] = ()) -> BreakingPoint:
    """Return where a ramp broke: the first rate that was not carried, and the highest before it.

    A rate holds when at least 95 % of it is achieved, at most 1 % of the requests fail, and the target
    is met.
    """
    steps = sorted(runs, key=lambda run: run.rate)
    broken = next((run for run in steps if _wrong(run, target)), None)
    if broken is None:
        last = steps[-1].rate if steps else None
        return BreakingPoint(holds=last, breaks=None, reason="every rate was carried: ramp further up")
    before = [run.rate for run in steps if run.rate < broken.rate]
    after = [run.rate for run in steps if run.rate > broken.rate and not _wrong(run, target)]
    reason = "; ".join(_wrong(broken, target))
    if broken.generator.is_bottleneck:
        reason += "; the generator was too slow itself, the server may carry more"
    if after:
        reason += f"; {units.rate(after[-1])} was carried again: something else may have disturbed the test"
    return BreakingPoint(holds=before[-1] if before else None, breaks=broken.rate, reason=reason)


def _wrong(run: Run, target: Iterable[Criterion]) -> list[str]:
    """Return a phrase for each thing that makes a step of a ramp fail."""
    found = []
    if not carries_the_rate(run):
        part = units.share(run.achieved / run.rate)
        found.append(f"{units.rate(run.achieved)} achieved of {units.rate(run.rate)} ({part})")
    failed = run.errors + run.rejected + run.lost
    if failed > FAILED_SHARE * run.sent:
        kinds = (("rejected", run.rejected), ("errors", run.errors), ("lost", run.lost))
        detail = ", ".join(f"{name} {units.count(number)}" for name, number in kinds if number)
        found.append(f"{units.share(failed / run.sent)} of the requests failed ({detail})")
    return [*found, *misses(target, run)]


def judged_runs(report: Report) -> tuple[Run, ...]:
    """Return the runs that ``--fail-if`` is about: what the server does where it is meant to work.

    Of a sweep the recommended size; of a ramp the highest rate that holds, or the first when none does;
    otherwise every run. (The other runs of a sweep or ramp fail on purpose.)
    """
    if report.recommendation is not None:
        return tuple(run for run in report.runs if run.threads == report.recommendation.threads)
    if report.breaking_point is not None and report.runs:
        steps = sorted(report.runs, key=lambda run: run.rate)
        holding = [run for run in steps if run.rate == report.breaking_point.holds]
        return tuple(holding or steps[:1])
    return report.runs


def littles_law(run: Run) -> str | None:
    """Return one line: rate times service time is the number of busy threads; None when it is not known."""
    busy = busy_threads(run)
    if busy is None or run.split is None:
        return None
    line = (
        f"{units.rate(run.achieved)} \N{MULTIPLICATION SIGN} {units.duration(run.split.call)} = "
        f"{units.number(busy)} threads busy on average"
    )
    return line if run.threads is None else f"{line}, of {run.threads}"


def warnings(runs: Iterable[Run]) -> tuple[str, ...]:
    """Return a sentence for each thing that makes the numbers doubtful, with the runs that it is about."""
    runs = tuple(runs)
    found = []
    for doubt in _DOUBTS:
        sentences = [(run.label, sentence) for run in runs if (sentence := doubt(run)) is not None]
        if sentences:
            # The worst is not known here: the last is that of the largest size or rate.
            label, sentence = sentences[-1]
            others = _listed([name for name, _ in sentences[:-1]])
            found.append(f"{label}: {sentence}" + (f" (and in {others})." if others else "."))
    return tuple(found)


def _listed(labels: Sequence[str]) -> str:
    """Return at most four labels, and how many more there are."""
    more = f" and {len(labels) - 4} more" if len(labels) > 4 else ""
    return ", ".join(labels[:4]) + more


def _clients_queue(run: Run) -> str | None:
    """A session's frames are handled one after the other: it carries 1 / (time of one) a second at most."""
    if run.split is None:
        return None
    one = (run.split.call or 0.0) + run.split.rest
    if one <= 0 or run.clients / one >= run.rate:
        return None
    return (
        f"{units.count(run.clients)} clients whose frames take {units.duration(one)} each, one after the "
        f"other, carry {units.rate(run.clients / one)}, less than the {units.rate(run.rate)} offered: they "
        f"queue behind themselves; use {units.count(math.ceil(run.rate * one))} clients or more"
    )


def _generator(run: Run) -> str | None:
    if not run.generator.is_bottleneck:
        return None
    return (
        f"the generator was the bottleneck (it used {run.generator.cpu:.2f} cores, sends were late by "
        f"{units.duration(run.generator.late_p99)} at p99): this says little about the server"
    )


def _few_requests(run: Run) -> str | None:
    count = run.corrected.count
    for least, what in ((100, "p90"), (1000, "p99"), (10_000, "p99.9")):
        if count < least:
            return (
                f"{units.count(count)} requests are too few for {what}, which needs {units.count(least)}: "
                "offer more, or for longer"
            )
    return None


def _lost(run: Run) -> str | None:
    if not run.lost:
        return None
    return f"{units.count(run.lost)} of {units.count(run.sent)} requests got lost: nobody will answer them"


def _duplicates(run: Run) -> str | None:
    return None if not run.duplicates else f"there were {units.count(run.duplicates)} duplicate answers"


def _disconnects(run: Run) -> str | None:
    if not run.disconnects:
        return None
    return f"the server ended {units.count(run.disconnects)} of {units.count(run.clients)} connections"


def _unanswered(run: Run) -> str | None:
    if not run.unanswered:
        return None
    return (
        f"{units.count(run.unanswered)} of {units.count(run.sent)} requests had no answer at the end; "
        "they count in the latency with their age"
    )


def _loop_lag(run: Run) -> str | None:
    if run.server is None or run.server.loop_lag_p99 <= LOOP_LAG:
        return None
    return (
        f"the server's event loop was late by {units.duration(run.server.loop_lag_p99)} at p99: something "
        "blocks it, or its CPU is used up"
    )


def _cpu(run: Run) -> str | None:
    if run.server is None or run.server.cpu <= CPU:
        return None
    return (
        f"the server used {run.server.cpu:.2f} cores: Python runs one thread at a time, so the pool is not "
        "the limit any more"
    )


_DOUBTS: Final[tuple[Callable[[Run], str | None], ...]] = (
    *(_generator, _clients_queue, _lost, _duplicates, _disconnects, _unanswered, _cpu, _loop_lag),
    _few_requests,
)
