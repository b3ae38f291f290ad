"""From what was measured to a `Run`: latencies, where the time went, what was used, who was too slow."""

from __future__ import annotations

from typing import Final

from trio_stomp.stress.load import Measured
from trio_stomp.stress.results import GeneratorUse, Latency, Run, ServerUse, Split
from trio_stomp.stress.scrape import grown, quantile
from trio_stomp.stress.tally import summarize

LATE: Final = 0.005
"""Seconds by which sends may be late: five times what the timers of the event loop are exact to (1 ms)."""
LATE_SHARE: Final = 0.1
"""Of the median latency: lateness below that does not change what the numbers say."""
CPU: Final = 0.85
"""Cores; above this a process with one lock has no time to spare."""

_WAIT: Final = "trio_stomp_pool_wait_seconds_sum"
_SERVICE: Final = "trio_stomp_pool_service_seconds_sum"
_LAG: Final = "trio_stomp_loop_lag_seconds"
_CPU: Final = "process_cpu_seconds_total"
_RSS: Final = "process_resident_memory_bytes"


def make_run(measured: Measured, *, label: str, pool: str | None = None, threads: int | None = None) -> Run:
    """Return what the run comes to."""
    tally, schedule = measured.tally, measured.tally.schedule
    corrected, raw = summarize(tally.corrected()), summarize(tally.raw())
    return Run(
        label=label,
        pool=pool,
        threads=threads,
        rate=schedule.rate,
        duration=schedule.duration,
        clients=schedule.clients,
        sent=tally.count_sent,
        answered=tally.count_answered,
        achieved=tally.arrived / schedule.duration,
        rejected=tally.count_rejected,
        errors=tally.count_errors,
        lost=tally.count_lost,
        unanswered=tally.count_open,
        duplicates=tally.duplicates,
        disconnects=tally.disconnects,
        corrected=corrected,
        raw=raw,
        split=_split(measured, raw),
        server=_server_use(measured),
        generator=_generator_use(measured, corrected),
        timeline=tally.timeline(),
        failures=tally.failures,
    )


def _split(measured: Measured, raw: Latency) -> Split | None:
    """Return where the answered requests' time went.

    Pool and call are means over the requests served between the two readings of the server's numbers, the
    others over the answered requests of the run, so that their sum may exceed the mean latency. Then
    ``rest`` is 0 and the excess is taken from ``session``, which counts the way back of the answer
    before, next from ``pool``, last from ``call``: so the parts add up to the mean.
    """
    tally = measured.tally
    answered = tally.count_answered
    if not answered:
        return None
    late = tally.late_of_answered() / answered
    session = tally.session_wait / answered
    pool, call = _per_answer(measured, _WAIT), _per_answer(measured, _SERVICE)
    if pool is None or call is None:
        pool = call = None
    rest = raw.mean - session - (pool or 0.0) - (call or 0.0)
    if rest < 0:
        session, rest = _less(session, rest)
    if rest < 0 and pool is not None:
        pool, rest = _less(pool, rest)
    if rest < 0 and call is not None:
        call, rest = _less(call, rest)
    return Split(late=late, session=session, pool=pool, call=call, rest=max(rest, 0.0))


def _less(part: float, excess: float) -> tuple[float, float]:
    """Take a negative excess from a part; the part, and what is still too much."""
    return max(part + excess, 0.0), min(part + excess, 0.0)


def _per_answer(measured: Measured, name: str) -> float | None:
    """Return how much a sum has grown for each request that was served meanwhile, in vain or not."""
    first, last = measured.first, measured.last
    if first is None or last is None:
        return None
    total = grown(name, first.sample, last.sample)
    served = last.served - first.served
    return None if total is None or not served else total / served


def _server_use(measured: Measured) -> ServerUse | None:
    """Return what the server used; None when a number is missing."""
    first, last = measured.first, measured.last
    if first is None or last is None or last.at <= first.at:
        return None
    cpu = grown(_CPU, first.sample, last.sample)
    rss = last.sample.totals.get(_RSS)
    lag_sum = grown(f"{_LAG}_sum", first.sample, last.sample)
    lag_count = grown(f"{_LAG}_count", first.sample, last.sample)
    lag_p99 = quantile(_LAG, 0.99, first.sample, last.sample)
    if cpu is None or rss is None or lag_sum is None or not lag_count or lag_p99 is None:
        return None
    answers = last.answers - first.answers
    return ServerUse(
        cpu=cpu / (last.at - first.at),
        cpu_per_message=cpu / answers if answers else 0.0,
        rss=int(rss),
        loop_lag_mean=lag_sum / lag_count,
        loop_lag_p99=lag_p99,
    )


def _generator_use(measured: Measured, corrected: Latency) -> GeneratorUse:
    """Return whether we were too slow ourselves.

    We were when sends went out late enough to show in the result, and it was our doing: either this process
    had no CPU to spare, or its event loop was late (others took the machine's CPUs). Sends that are late
    because a connection took no more bytes are the server's affair.
    """
    late_p99 = summarize(measured.tally.late()).p99
    is_late = late_p99 > max(LATE, LATE_SHARE * corrected.p50)
    return GeneratorUse(
        cpu=measured.cpu,
        late_p99=late_p99,
        is_bottleneck=is_late and (measured.cpu >= CPU or measured.lag_p99 > LATE),
    )
