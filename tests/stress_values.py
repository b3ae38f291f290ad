"""Runs and reports made by hand, for the tests of what is read out of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import attrs

from trio_stomp.stress.advice import breaking_point, recommend, warnings
from trio_stomp.stress.criteria import parse_criteria
from trio_stomp.stress.results import GeneratorUse, Latency, Moment, Report, Run, ServerUse, Split

NOTHING = Latency(count=0, mean=0.0, p50=0.0, p90=0.0, p99=0.0, p999=0.0, max=0.0)


def a_latency(p50: float = 0.02, *, count: int = 20_000, spread: float = 1.0) -> Latency:
    """The percentiles of requests whose median is ``p50``."""
    return Latency(
        count=count,
        mean=p50 * (1 + 0.08 * spread),
        p50=p50,
        p90=p50 * (1 + 0.3 * spread),
        p99=p50 * (1 + 0.9 * spread),
        p999=p50 * (1 + 1.6 * spread),
        max=p50 * (1 + 2.4 * spread),
    )


def a_split(call: float | None = 0.02, *, rest: float = 0.001, pool: float | None = 0.0) -> Split:
    return Split(late=0.0001, session=0.0003, pool=pool, call=call, rest=rest)


def a_server(**changes: Any) -> ServerUse:
    server = ServerUse(
        cpu=0.2, cpu_per_message=0.0002, rss=80 * 1024**2, loop_lag_mean=0.0004, loop_lag_p99=0.002
    )
    return attrs.evolve(server, **changes)


def a_run(
    threads: int | None = None, *, rate: float = 1000.0, achieved: float | None = None, **changes: Any
) -> Run:
    """A run without trouble: it has carried its rate unless ``achieved`` says otherwise."""
    sent = int(rate * 20)
    answered = sent if achieved is None else min(sent, int(achieved * 20))
    run = Run(
        label="run" if threads is None else f"payments={threads}",
        pool=None if threads is None else "payments",
        threads=threads,
        rate=rate,
        duration=20.0,
        clients=200,
        sent=sent,
        answered=answered,
        achieved=rate if achieved is None else achieved,
        rejected=0,
        errors=0,
        lost=0,
        unanswered=sent - answered,
        duplicates=0,
        disconnects=0,
        corrected=a_latency(),
        raw=a_latency(0.019),
        split=a_split(),
        server=a_server(),
        generator=GeneratorUse(cpu=0.3, late_p99=0.001, is_bottleneck=False),
        timeline=(),
    )
    return attrs.evolve(run, **changes)


def a_report(runs: Sequence[Run], *, kind: str = "sweep", goal: str | None = None, **changes: Any) -> Report:
    """A report of these runs, with the advice that they give."""
    target = parse_criteria(goal) if goal else ()
    report = Report(
        version="0.1.0",
        started="2026-11-23T09:30:00+00:00",
        command="trio-stomp stress shop.app:app --destination /app/pay --rate 2080 --sweep payments=2,4,8",
        machine="Linux 6.12, x86_64, 8 CPUs, CPython 3.12.4",
        target="shop.app:app",
        destination="/app/pay",
        reply="/user/queue/receipts",
        kind=kind,
        goal=goal,
        runs=tuple(runs),
        recommendation=recommend(runs, target) if kind == "sweep" else None,
        breaking_point=breaking_point(runs, target) if kind == "ramp" else None,
        warnings=warnings(runs),
    )
    return attrs.evolve(report, **changes)


class Service:
    """A service of ``knee`` slots, as a formula: what a pool of n threads achieves against it."""

    def __init__(
        self, knee: int, *, call: float = 0.02, decline: float = 0.05, noise: float = 0.03, seed: int = 0
    ) -> None:
        self.knee, self.call, self.decline, self.noise = knee, call, decline, noise
        self._random = random.Random(seed)

    @property
    def capacity(self) -> float:
        return self.knee / self.call

    def achieved(self, threads: int, rate: float) -> float:
        beyond = max(threads - self.knee, 0) / self.knee
        limit = min(threads / self.call, self.capacity * max(1 - self.decline * beyond, 0.1))
        return min(rate, limit) * self._random.uniform(1 - self.noise, 1 + self.noise)

    def run(self, threads: int, rate: float) -> Run:
        """A run with all that belongs to it: queues, times, a timeline."""
        achieved = self.achieved(threads, rate)
        call = self.call * max(1.0, min(threads, rate * self.call) / self.knee)
        is_over = achieved < 0.97 * rate
        seconds = 20.0
        shortfall = max(rate - achieved, 0.0) / rate
        moments = []
        for second in range(int(seconds)):
            wait = shortfall * (second + 1) if is_over else 0.0
            p50 = call + wait + self._random.uniform(0.0005, 0.0015)
            moments.append(
                Moment(
                    at=float(second),
                    seconds=1.0,
                    sent=int(rate),
                    answered=int(achieved * self._random.uniform(0.98, 1.02)),
                    p50=p50,
                    p99=p50 * self._random.uniform(1.3, 1.6),
                )
            )
        pool = shortfall * seconds / 2 * 0.4 if is_over else 0.0006
        session = shortfall * seconds / 2 * 0.6 if is_over else 0.0002
        split = Split(late=0.00005, session=session, pool=pool, call=call, rest=0.0011)
        mean = split.late + split.session + pool + call + split.rest
        latency = Latency(
            count=int(rate * seconds),
            mean=mean,
            p50=mean * 0.97,
            p90=mean * (1.9 if is_over else 1.15),
            p99=mean * (2.05 if is_over else 1.45),
            p999=mean * (2.1 if is_over else 1.9),
            max=mean * (2.15 if is_over else 2.6),
        )
        sent = int(rate * seconds)
        answered = min(sent, int(achieved * seconds)) if is_over else sent
        rejected = (sent - answered) // 2
        return a_run(
            threads,
            rate=rate,
            achieved=achieved,
            answered=answered,
            rejected=rejected,
            unanswered=sent - answered - rejected,
            corrected=latency,
            raw=attrs.evolve(latency, mean=mean - split.late),
            split=split,
            server=a_server(cpu=achieved * 0.00021, rss=int((70 + threads * 0.4) * 1024**2)),
            timeline=tuple(moments),
            failures=(("overloaded: the pool payments has no room", rejected),) if rejected else (),
        )
