"""The load generator: connections made, a run on all of them, and what it took.

Rule: the garbage collector looks at everything once before a run and leaves alone what is there then
(`gc.freeze`): else a full collection over 10,000 connections stops the sending for 100 ms, now and then.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from trio_stomp.errors import ServerError
from trio_stomp.groups import bare_errors
from trio_stomp.metrics import Metrics
from trio_stomp.server.statistics import LoopLag
from trio_stomp.stress.client import Client
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.plan import Plan, StressError
from trio_stomp.stress.schedule import Schedule
from trio_stomp.stress.scrape import Sample
from trio_stomp.stress.tally import Tally

_AT_ONCE: Final = 64
"""Connections that are being made at a time: half of the smallest usual backlog of a listening socket."""
_LEAD: Final = 0.05
"""Seconds from the start of a run to its first request, for the tasks to be there."""
_LEAD_PER_CLIENT: Final = 50e-6
_LAG_INTERVAL: Final = 0.01


@attrs.frozen(kw_only=True)
class Reading:
    """The server's numbers, and how many answers had come by then (see `Tally`)."""

    at: float
    answers: int
    served: int
    sample: Sample


@attrs.frozen(kw_only=True)
class Measured:
    """One run as it was seen from here.

    Attributes:
        first, last: the server's numbers at both ends of the measured time; None when they could not be read.
        cpu: CPU seconds of this process per second of the measured time.
        lag_p99: seconds by which this event loop was late.
    """

    tally: Tally
    first: Reading | None
    last: Reading | None
    cpu: float
    lag_p99: float


class Load:
    """Connected clients; made by `open_load`.

    Attributes:
        tally: of the run that goes on, or of the last one; None before the first. May be set to None.
    """

    def __init__(self, plan: Plan) -> None:
        self.tally: Tally | None = None
        self._plan = plan
        self._clients: Sequence[Client] = ()

    async def run(self, rate: float, *, read_server: Callable[[], Awaitable[Sample | None]]) -> Measured:
        """Send at this rate for the plan's warm-up and duration, and wait for the answers.

        Returns once every request has ended, ``grace`` seconds after the measured time at the latest.
        """
        plan = self._plan
        gc.collect()
        gc.freeze()
        try:
            schedule = Schedule(
                begin=trio.current_time() + _LEAD + _LEAD_PER_CLIENT * plan.clients + plan.warm_up,
                rate=rate,
                duration=plan.duration,
                warm_up=plan.warm_up,
                clients=plan.clients,
            )
            return await self._run(schedule, read_server)
        finally:
            gc.unfreeze()

    async def _run(self, schedule: Schedule, read_server: Callable[[], Awaitable[Sample | None]]) -> Measured:
        complete = trio.Event()
        tally = self.tally = Tally(schedule, complete.set)
        readings: list[Reading | None] = [None, None]
        lag = LoopLag()

        async def read(index: int) -> None:
            sample = await read_server()
            if sample is not None:
                readings[index] = Reading(
                    at=trio.current_time(), answers=tally.answers, served=tally.served, sample=sample
                )

        async with trio.open_nursery() as reading, trio.open_nursery() as sending:
            for index, client in enumerate(self._clients):
                sending.start_soon(client.send, schedule, tally, index)
            await trio.sleep_until(schedule.begin)
            began = time.process_time()
            reading.start_soon(read, 0)
            sending.start_soon(lag.run, _LAG_INTERVAL)
            await trio.sleep_until(schedule.end)
            cpu = (time.process_time() - began) / schedule.duration
            lag_p99 = lag.histogram.statistics().quantile(0.99)
            reading.start_soon(read, 1)
            with trio.move_on_after(self._plan.grace):
                await complete.wait()
            for client in self._clients:
                client.settle(tally)
            tally.close(trio.current_time())
            sending.cancel_scope.cancel()
        return Measured(tally=tally, first=readings[0], last=readings[1], cpu=cpu, lag_p99=lag_p99)


@contextlib.asynccontextmanager
async def open_load(plan: Plan, endpoint: Endpoint) -> AsyncIterator[Load]:
    """Connect the plan's clients, some at a time, and give them; leaving closes them.

    Raises:
        StressError: one of them could not connect; which one, and why.
    """
    load = Load(plan)
    metrics = Metrics()  # nobody reads it: the stream below wants one to count in
    clients = [Client(plan, endpoint, metrics, lambda: load.tally) for _ in range(plan.clients)]
    turn = trio.CapacityLimiter(_AT_ONCE)
    with bare_errors():
        async with trio.open_nursery() as nursery:
            await _connect(clients, turn, nursery)
            load._clients = clients
            yield load
            for client in clients:
                client.leave()


async def _connect(clients: Sequence[Client], turn: trio.CapacityLimiter, nursery: trio.Nursery) -> None:
    """Start all; return when all can send."""
    changed = trio.Event()
    ready = 0

    def note() -> None:
        nonlocal ready
        ready += 1
        changed.set()

    for client in clients:
        nursery.start_soon(client.run, turn, note)
    while True:
        for number, client in enumerate(clients, 1):
            if client.failure is not None:
                raise StressError(
                    f"client {number} of {len(clients)} cannot connect: {_why(client.failure)}"
                ) from client.failure
        if ready == len(clients):
            return
        await changed.wait()
        changed = trio.Event()


def _why(error: Exception) -> str:
    if isinstance(error, ServerError):
        return f"the server answered with ERROR: {error}"
    return str(error) or type(error).__name__
