"""Runs, sweeps and ramps, driven over memory streams on a clock that jumps."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest
import trio
from stress_peer import a_plan, endpoint_at
from stress_values import a_run
from trio.testing import MockClock

from trio_stomp import StompApp
from trio_stomp.errors import OverloadedError
from trio_stomp.stress.criteria import parse_criteria
from trio_stomp.stress.drive import (
    MOST_SIZES,
    OpenServer,
    Progress,
    is_broken,
    measure,
    ramp,
    run_once,
    sweep,
)
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.plan import Plan, Ramp, StressError, Sweep
from trio_stomp.stress.results import Run
from trio_stomp.testing import open_test_server


class Servers:
    """Servers whose handlers take 50 ms of as many threads as they were given.

    Attributes:
        opened: the sizes.
        running: how many run now.
    """

    def __init__(self, seconds: float = 0.05, *, refuses: bool = False) -> None:
        self.opened: list[int | None] = []
        self.running = 0
        self._seconds = seconds
        self._refuses = refuses

    @contextlib.asynccontextmanager
    async def open(self, plan: Plan, threads: int | None) -> AsyncIterator[Endpoint]:
        self.opened.append(threads)
        limiter = trio.CapacityLimiter(threads or 1)
        app = StompApp()

        @app.on_message("/app/pay", send_to_user="/queue/receipts", concurrency=1000)
        async def pay(n: dict[str, int]) -> dict[str, int]:
            if self._refuses:
                raise OverloadedError("no room")
            async with limiter:
                await trio.sleep(self._seconds)
            return n

        async with open_test_server(app) as server:
            self.running += 1
            yield endpoint_at(server)
            self.running -= 1


def no_more(runs: Sequence[Run]) -> None:
    return None


async def test_a_run_is_of_the_target_and_its_rate(autojump_clock: MockClock) -> None:
    servers = Servers()
    run = await run_once(a_plan(), open_server=servers.open)
    assert (run.label, run.pool, run.threads, run.rate) == ("shop:app", None, None, 10)
    assert (run.answered, run.achieved) == (10, 10.0)
    assert run.server is not None
    assert (servers.opened, servers.running) == ([None], 0)


async def test_each_size_has_a_server_of_its_own(autojump_clock: MockClock) -> None:
    servers = Servers()
    told: list[tuple[str, int]] = []
    runs = await sweep(
        a_plan(sweep=Sweep("payments", (2, 1, 4)), rate=60),
        no_more,
        lambda run: told.append((run.label, servers.running)),
        open_server=servers.open,
    )
    assert servers.opened == [2, 1, 4]
    assert told == [("payments=2", 0), ("payments=1", 0), ("payments=4", 0)]
    assert [(run.pool, run.threads) for run in runs] == [("payments", 2), ("payments", 1), ("payments", 4)]
    # 20 a second for each thread, and the first of them at 0.05.
    assert [round(run.achieved) for run in runs] == pytest.approx([40, 20, 60], abs=4)


async def test_after_the_listed_sizes_come_those_that_are_worth_it(autojump_clock: MockClock) -> None:
    servers = Servers()
    asked: list[list[int | None]] = []

    def next_size(runs: Sequence[Run]) -> int | None:
        asked.append([run.threads for run in runs])
        return {2: 3, 3: 8}.get(len(runs))

    runs = await sweep(a_plan(sweep=Sweep("a", (1, 2))), next_size, open_server=servers.open)
    assert servers.opened == [1, 2, 3, 8]
    assert asked == [[1, 2], [1, 2, 3], [1, 2, 3, 8]]
    assert len(runs) == 4


async def test_sizes_come_to_an_end_whoever_asks_for_more(autojump_clock: MockClock) -> None:
    plan = a_plan(sweep=Sweep("a", (1,)), duration=0.1)
    runs = await sweep(plan, lambda runs: 1, open_server=Servers(0.0).open)
    assert len(runs) == 1 + MOST_SIZES


async def test_measuring_a_sweep_bisects_to_the_knee(autojump_clock: MockClock) -> None:
    servers = Servers()
    plan = a_plan(sweep=Sweep("a", (1, 8)), rate=60, clients=4, duration=4)
    runs = await measure(plan, parse_criteria("p99<10s"), open_server=servers.open)
    assert servers.opened[:3] == [1, 8, 3]
    assert {run.threads for run in runs} >= {1, 2, 3, 8}


async def test_a_ramp_goes_up_on_one_server_until_it_breaks_twice(autojump_clock: MockClock) -> None:
    servers = Servers()  # one thread: 20 a second
    told: list[str] = []
    plan = a_plan(ramp=Ramp(5, 50), duration=4, clients=2)
    runs = await ramp(plan, lambda run: told.append(run.label), open_server=servers.open)
    assert servers.opened == [None]
    assert told == ["5/s", "10/s", "15/s", "20/s", "25/s", "30/s"]
    assert [is_broken(run) for run in runs] == [False, False, False, False, True, True]
    assert [run.rate for run in runs] == [5, 10, 15, 20, 25, 30]
    assert runs[0].corrected.p50 == pytest.approx(0.05)


async def test_a_ramp_that_never_breaks_goes_to_its_end(autojump_clock: MockClock) -> None:
    plan = a_plan(ramp=Ramp(5, 15, steps=3))
    runs = await measure(plan, open_server=Servers(0.001).open)
    assert [run.label for run in runs] == ["5/s", "10/s", "15/s"]


async def test_a_ramp_stops_when_all_is_refused(autojump_clock: MockClock) -> None:
    runs = await ramp(a_plan(ramp=Ramp(5, 50)), open_server=Servers(refuses=True).open)
    assert [(run.rejected, run.answered) for run in runs] == [(5, 0), (10, 0)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rate": 100, "achieved": 95.0, "answered": 10}, False),
        ({"rate": 100, "achieved": 94.0, "answered": 10}, True),
        ({"rate": 100, "achieved": 100.0, "answered": 10, "errors": 5, "rejected": 5}, True),
        ({"rate": 100, "achieved": 100.0, "answered": 10, "errors": 5, "rejected": 4}, False),
        ({"rate": 100, "achieved": 100.0, "answered": 0}, False),
    ],
)
def test_a_step_is_broken_by_too_few_answers_or_too_many_errors(
    changes: dict[str, Any], expected: bool
) -> None:
    assert is_broken(attrs.evolve(a_run(), **changes)) is expected


# Progress


async def progress_of(plan: Plan, open_server: OpenServer) -> list[Progress]:
    told: list[Progress] = []
    await measure(plan, on_progress=told.append, open_server=open_server)
    return told


async def test_progress_is_told_five_times_a_second_with_its_phases(autojump_clock: MockClock) -> None:
    told = await progress_of(a_plan(warm_up=1, duration=2), Servers(0.01).open)
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == ["starting", "connecting", "warm-up", "measuring", "finishing"]
    going = [progress for progress in told if progress.phase in ("warm-up", "measuring")]
    assert 14 <= len(going) <= 17  # three seconds of it
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert (told[-1].sent, told[-1].answered, told[-1].errors) == (20, 20, 0)
    assert {(progress.run, progress.runs, progress.label) for progress in told} == {(1, 1, "shop:app")}


async def test_progress_knows_of_more_runs_as_they_come(autojump_clock: MockClock) -> None:
    told: list[Progress] = []

    def next_size(runs: Sequence[Run]) -> int | None:
        return 3 if len(runs) == 2 else None

    plan = a_plan(sweep=Sweep("a", (1, 2)))
    await sweep(plan, next_size, on_progress=told.append, open_server=Servers().open)
    seen = list(dict.fromkeys((progress.run, progress.runs, progress.label) for progress in told))
    assert seen == [(1, 2, "a=1"), (2, 2, "a=2"), (3, 3, "a=3")]
    assert told[-1].fraction == 1.0


async def test_the_steps_of_a_ramp_start_from_nothing(autojump_clock: MockClock) -> None:
    told = await progress_of(a_plan(ramp=Ramp(5, 10, steps=2)), Servers(0.001).open)
    first = next(progress for progress in told if progress.run == 2)
    assert (first.phase, first.fraction, first.sent) == ("warm-up", 0.0, 0)


async def test_refused_requests_are_errors_in_the_progress(autojump_clock: MockClock) -> None:
    told = await progress_of(a_plan(), Servers(refuses=True).open)
    assert (told[-1].sent, told[-1].answered, told[-1].errors) == (10, 0, 10)


# What ends a test early


async def test_what_goes_wrong_is_one_error(autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def nobody_there(plan: Plan, threads: int | None) -> AsyncIterator[Endpoint]:
        async def dial() -> trio.abc.Stream:
            raise ConnectionRefusedError("refused")

        yield Endpoint(dial=dial, host="h", authority="h", resource="/ws")

    with pytest.raises(StressError, match="cannot connect: refused"):
        await measure(a_plan(clients=3), open_server=nobody_there)


async def test_the_runs_before_are_told_before_the_end(autojump_clock: MockClock) -> None:
    servers = Servers()
    runs: list[Run] = []

    @contextlib.asynccontextmanager
    async def open_server(plan: Plan, threads: int | None) -> AsyncIterator[Endpoint]:
        if threads == 2:
            raise StressError("the server did not start")
        async with servers.open(plan, threads) as endpoint:
            yield endpoint

    with pytest.raises(StressError, match="did not start"):
        await measure(a_plan(sweep=Sweep("a", (1, 2))), (), runs.append, open_server=open_server)
    assert [run.label for run in runs] == ["a=1"]


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.5, 2.5])
async def test_it_can_be_cancelled_at_any_time(seconds: float, autojump_clock: MockClock) -> None:
    servers = Servers(100)
    with trio.move_on_after(seconds) as scope:
        await measure(a_plan(warm_up=1, clients=3), open_server=servers.open)
    assert scope.cancelled_caught
