"""A stress test from start to end: one run, a size after the other, or a rate after the other.

Rule 1: each size has a server of its own: none inherits the threads, caches and backlog of the one before.
Rule 2: who asked is told of every run as soon as it is there; whatever ends the test, those stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Literal

import attrs
import trio

from trio_stomp.groups import bare_errors
from trio_stomp.stress import advice
from trio_stomp.stress.criteria import Criterion
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.load import Load, open_load
from trio_stomp.stress.plan import Plan, label_of_rate, label_of_size
from trio_stomp.stress.results import Run
from trio_stomp.stress.schedule import Schedule
from trio_stomp.stress.scrape import scrape
from trio_stomp.stress.summary import make_run
from trio_stomp.stress.target import open_target

INTERVAL: Final = 0.2
"""Seconds between two tellings of the progress; a bar that moves five times a second looks alive."""
MOST_SIZES: Final = 24
"""Sizes that are measured besides the listed ones, whoever asks for more."""
CARRIED: Final = 0.95
"""Of the offered rate, below which a step of a ramp is broken."""
_BROKEN_IN_A_ROW: Final = 2
"""Steps after which a ramp stops: one may be bad luck."""

Phase = Literal["starting", "connecting", "warm-up", "measuring", "finishing"]

NextSize = Callable[[Sequence[Run]], int | None]
OnRun = Callable[[Run], object]
OpenServer = Callable[[Plan, int | None], AbstractAsyncContextManager[Endpoint]]
"""Gives a server for as long as its context lasts, with this size of the pool that is swept."""


@attrs.frozen(kw_only=True)
class Progress:
    """How far a stress test is.

    Attributes:
        run: which run this is, from 1.
        runs: how many there will be, as far as is known by now.
        label: of the run.
        fraction: of this run's warm-up and measured time, 0 to 1.
        sent, answered, errors: of this run so far; rejected requests are among the errors.
    """

    run: int
    runs: int
    label: str
    phase: Phase
    fraction: float
    sent: int
    answered: int
    errors: int


OnProgress = Callable[[Progress], object]


def ignore(_: object) -> None:
    """Take what is told, and do nothing."""


async def measure(
    plan: Plan,
    target: Sequence[Criterion] = (),
    on_run: OnRun = ignore,
    on_progress: OnProgress = ignore,
    *,
    open_server: OpenServer = open_target,
) -> tuple[Run, ...]:
    """Carry the plan out: a sweep, a ramp or one run, as it says; the runs in the order of measuring.

    ``target`` is what a size has to meet, for the sizes that a sweep measures besides the listed ones.
    ``on_run`` is called with each run, ``on_progress`` about five times a second.

    Raises:
        StressError: the server does not start, ended meanwhile, or takes no connection.
    """
    if plan.sweep is not None:
        next_size = partial(advice.next_size, target=target, listed=plan.sweep.sizes)
        return await sweep(plan, next_size, on_run, on_progress, open_server=open_server)
    if plan.ramp is not None:
        return await ramp(plan, on_run, on_progress, open_server=open_server)
    run = await run_once(plan, on_progress, open_server=open_server)
    on_run(run)
    return (run,)


async def run_once(
    plan: Plan, on_progress: OnProgress = ignore, *, open_server: OpenServer = open_target
) -> Run:
    """Measure the plan's rate. Raises as `measure`."""
    telling = _Telling(on_progress, runs=1)
    telling.begin(plan.target)
    async with telling.open(), _open_connected(plan, None, telling, open_server) as (endpoint, load):
        run = await _measured(plan, endpoint, load, plan.rate, telling, label=plan.target)
    return run


async def sweep(
    plan: Plan,
    next_size: NextSize,
    on_run: OnRun = ignore,
    on_progress: OnProgress = ignore,
    *,
    open_server: OpenServer = open_target,
) -> tuple[Run, ...]:
    """Measure the listed sizes, then those that ``next_size`` asks for. Raises as `measure`."""
    assert plan.sweep is not None
    pool, sizes = plan.sweep.pool, list(plan.sweep.sizes)
    most = len(sizes) + MOST_SIZES
    runs: list[Run] = []
    telling = _Telling(on_progress, runs=len(sizes))
    async with telling.open():
        while sizes:
            size = sizes.pop(0)
            telling.begin(label_of_size(pool, size))
            async with _open_connected(plan, size, telling, open_server) as (endpoint, load):
                run = await _measured(
                    plan, endpoint, load, plan.rate, telling,
                    label=label_of_size(pool, size), pool=pool, threads=size,
                )  # fmt: skip
            runs.append(run)
            on_run(run)
            if not sizes and len(runs) < most and (more := next_size(runs)) is not None:
                sizes.append(more)
    return tuple(runs)


async def ramp(
    plan: Plan,
    on_run: OnRun = ignore,
    on_progress: OnProgress = ignore,
    *,
    open_server: OpenServer = open_target,
) -> tuple[Run, ...]:
    """Measure rate after rate on the same server and connections, until it breaks. Raises as `measure`."""
    assert plan.ramp is not None
    rates = plan.ramp.rates
    runs: list[Run] = []
    broken = 0
    telling = _Telling(on_progress, runs=len(rates))
    telling.begin(label_of_rate(rates[0]))
    async with telling.open(), _open_connected(plan, None, telling, open_server) as (endpoint, load):
        for rate in rates:
            if runs:
                telling.begin_step(label_of_rate(rate), load)
            run = await _measured(plan, endpoint, load, rate, telling, label=label_of_rate(rate))
            runs.append(run)
            on_run(run)
            broken = broken + 1 if is_broken(run) else 0
            if broken == _BROKEN_IN_A_ROW:
                break
    return tuple(runs)


def is_broken(run: Run) -> bool:
    """Return whether a step of a ramp was too much: too little was answered, or half of it refused."""
    refused = run.rejected + run.errors
    return run.achieved < CARRIED * run.rate or (refused > 0 and refused >= run.answered)


@contextlib.asynccontextmanager
async def _open_connected(
    plan: Plan, threads: int | None, telling: _Telling, open_server: OpenServer
) -> AsyncIterator[tuple[Endpoint, Load]]:
    async with open_server(plan, threads) as endpoint:
        telling.connecting()
        async with open_load(plan, endpoint) as load:
            telling.connected(load)
            yield endpoint, load


async def _measured(
    plan: Plan,
    endpoint: Endpoint,
    load: Load,
    rate: float,
    telling: _Telling,
    *,
    label: str,
    pool: str | None = None,
    threads: int | None = None,
) -> Run:
    measured = await load.run(rate, read_server=partial(scrape, endpoint))
    telling.tell()
    return make_run(measured, label=label, pool=pool, threads=threads)


class _Telling:
    """Makes `Progress` of what goes on."""

    def __init__(self, on_progress: OnProgress, runs: int) -> None:
        self._on_progress = on_progress
        self._runs = runs
        self._run = 0
        self._label = ""
        self._phase: Phase = "starting"
        self._load: Load | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Tell at intervals, for as long as the context lasts."""
        with bare_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_on)
                yield
                nursery.cancel_scope.cancel()

    def begin(self, label: str) -> None:
        """The next run begins, with its server."""
        self._next(label, "starting", None)

    def begin_step(self, label: str, load: Load) -> None:
        """The next run begins, on the connections that are there."""
        load.tally = None
        self._next(label, "warm-up", load)

    def _next(self, label: str, phase: Phase, load: Load | None) -> None:
        self._run += 1
        self._runs = max(self._runs, self._run)
        self._label, self._phase, self._load = label, phase, load
        self.tell()

    def connecting(self) -> None:
        """The server is there."""
        self._phase = "connecting"
        self.tell()

    def connected(self, load: Load) -> None:
        """The connections are there; how far their run is can be seen from now on."""
        self._load = load

    def tell(self) -> None:
        """Tell how far it is."""
        tally = None if self._load is None else self._load.tally
        if tally is None:
            fraction, sent, answered, errors = 0.0, 0, 0, 0
        else:
            schedule, now = tally.schedule, trio.current_time()
            started = schedule.begin - schedule.warm_up
            fraction = min(max((now - started) / (schedule.end - started), 0.0), 1.0)
            self._phase = _phase_at(now, schedule)
            sent, answered = tally.count_sent, tally.count_answered
            errors = tally.count_errors + tally.count_rejected
        self._on_progress(
            Progress(
                run=self._run,
                runs=self._runs,
                label=self._label,
                phase=self._phase,
                fraction=fraction,
                sent=sent,
                answered=answered,
                errors=errors,
            )
        )

    async def _tell_on(self) -> None:
        while True:
            await trio.sleep(INTERVAL)
            self.tell()


def _phase_at(now: float, schedule: Schedule) -> Phase:
    if now < schedule.begin:
        return "warm-up"
    return "measuring" if now < schedule.end else "finishing"
