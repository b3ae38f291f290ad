"""One deployment for bench/deploy.py, from the first server to the last client."""

from __future__ import annotations

import argparse
import bisect
import contextlib
import functools
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio
from deploy_clients import Fleet
from deploy_kinds import KINDS, Result
from deploy_stage import EXAMPLES, HAProxy, ServerProcess, configured, free_port, run_haproxy

APP = "bench.deploy_app:app"
_SAMPLE = 0.2
"""Seconds between two looks at the connections of each server."""
_SETTLE = 0.5
"""Seconds before and after a deployment, in which nothing is to happen."""
_PATIENCE = 30.0
"""Seconds that clients may take to connect or to come back; stompjs's wait for 5."""


class Deployment:
    """One row: a stage, its clients, and what is looked at meanwhile."""

    def __init__(self, key: str, options: argparse.Namespace, folder: Path) -> None:
        self.kind = KINDS[key]
        self.key = key
        self.folder = folder
        self.options = options
        self.window: float = options.window if self.kind.is_paced else 0.0
        self.delay: float = options.delay if self.kind.has_delay else 0.0
        self.collector = folder / "collector.sock"
        settings = {"delay": self.delay, "window": self.window, "deadline": self.delay + self.window + 30}
        arguments = ["--log-level", "info"]
        for name, value in settings.items():
            arguments += ["--set", f"drain.{name}={value}"]
        self.environ = {"DEPLOY_COLLECTOR": str(self.collector)}

        def places(prefix: str) -> list[ServerProcess]:
            return [
                ServerProcess(f"{prefix}{number}", folder, arguments, self.environ)
                for number in range(1, options.servers + 1)
            ]

        self.old = places("s" if self.kind.is_rolling else "blue")
        self.new = [] if self.kind.is_rolling else places("green")
        self.events: list[tuple[float, str]] = []
        self.times: list[float] = []
        self.connections: dict[str, list[int]] = {place.name: [] for place in [*self.old, *self.new]}
        self.statuses: list[int] = []

    async def run(self) -> Result:
        """Set the stage, deploy, and tell."""
        async with trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
            for place in [*self.old, *self.new]:
                stack.push_async_callback(place.kill)
            port, haproxy = await self._proxy(stack)
            fleet = Fleet(port, self.options.clients, self.kind.manner)
            await _listen(nursery, self.collector, fleet)
            await _together([functools.partial(place.start, APP) for place in self.old])
            await haproxy.wait_up([place.name for place in self.old])
            alive = await nursery.start(_in_scope, fleet.run)
            await _until(lambda: fleet.connected == self.options.clients, "the clients are not connected")
            await trio.sleep(_SETTLE)
            started = trio.current_time()
            looking = await nursery.start(_in_scope, functools.partial(self._look, haproxy, started))
            if self.kind.is_rolling:
                await self._roll(haproxy, started)
            else:
                await self._switch(haproxy, started)
            await _until(lambda: fleet.connected == self.options.clients, "the clients did not come back")
            seconds = trio.current_time() - started
            await trio.sleep(_SETTLE)
            spread = [state[1] for name, state in (await haproxy.servers()).items() if self._is_last(name)]
            retries = await haproxy.retries()
            looking.cancel()
            alive.cancel()
            await _until(lambda: not fleet.connected, "the clients did not end")
            for place in self.new or self.old:
                await place.kill()
            await _until(lambda: not fleet.collecting, "what was recorded did not come to its end")
            nursery.cancel_scope.cancel()
        again = [sessions - 1 for sessions in fleet.sessions]
        return Result(
            kind=self.key,
            title=self.kind.title,
            servers=self.options.servers,
            clients=self.options.clients,
            window=self.window,
            delay=self.delay,
            seconds=round(seconds, 1),
            theory=self.kind.theory(self.options.servers),
            mean=sum(again) / len(again),
            most=max(again),
            fewest=min(again),
            failed=sum(fleet.failures.values()),
            failures=dict(fleet.failures),
            close_codes={str(code): count for code, count in fleet.endings.items()},
            requests=sum(map(len, fleet.receipts)),
            lost=fleet.lost,
            twice=fleet.twice,
            resent=fleet.resent,
            peak_rate=most_within(fleet.attempts, 1.0),
            spread=spread,
            stall=round(max(later - sooner for sooner, later in itertools.pairwise(self.times)), 2),
            retries=retries,
            exit_statuses=self.statuses,
            times=[round(time, 2) for time in self.times],
            connections=self.connections,
            events=[(round(time, 2), text) for time, text in self.events],
        )

    def _is_last(self, name: str) -> bool:
        return name in {place.name for place in self.new or self.old}

    async def _proxy(self, stack: contextlib.AsyncExitStack) -> tuple[int, HAProxy]:
        port = free_port()
        if self.kind.is_rolling:
            example = "haproxy-rolling.cfg"
            backends = {"servers": {place.name: place.port for place in self.old}}
        else:
            example = "haproxy-blue-green.cfg"
            backends = {
                "blue": {place.name: place.port for place in self.old},
                "green": {place.name: place.port for place in self.new},
            }
        text = configured(
            (EXAMPLES / example).read_text(),
            folder=self.folder,
            port=port,
            backends=backends,
            balance=self.kind.balance,
            inter=self.options.inter,
            without=self.kind.without,
        )
        return port, await stack.enter_async_context(run_haproxy(self.folder, text))

    async def _roll(self, haproxy: HAProxy, started: float) -> None:
        for place in self.old:
            self.events.append((trio.current_time() - started, f"{place.name} drains"))
            await self._drain(place)
            await place.start(APP)
            await haproxy.wait_up([place.name])
            self.events.append((trio.current_time() - started, f"{place.name} is new"))

    async def _switch(self, haproxy: HAProxy, started: float) -> None:
        await _together([functools.partial(place.start, APP) for place in self.new])
        await haproxy.wait_up([place.name for place in self.new])
        self.events.append((trio.current_time() - started, "green is up: switched"))
        await haproxy.switch("green")
        self.events.append((trio.current_time() - started, "blue drains"))

        await _together([functools.partial(self._drain, place) for place in self.old])
        self.events.append((trio.current_time() - started, "blue has ended"))

    async def _drain(self, place: ServerProcess) -> None:
        self.statuses.append(await place.drain())

    async def _look(self, haproxy: HAProxy, started: float) -> None:
        while True:
            found = await haproxy.servers()
            self.times.append(trio.current_time() - started)
            for name, counts in self.connections.items():
                counts.append(found[name][1])
            await trio.sleep(_SAMPLE)


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of these times that any span of so many seconds has."""
    times = sorted(times)
    return max(
        (bisect.bisect_left(times, time + seconds) - place for place, time in enumerate(times)), default=0
    )


async def _listen(nursery: trio.Nursery, path: Path, fleet: Fleet) -> None:
    """Take in what servers record."""
    socket = trio.socket.socket(trio.socket.AF_UNIX)
    await socket.bind(str(path))
    socket.listen()
    nursery.start_soon(trio.serve_listeners, fleet.collect, [trio.SocketListener(socket)])


async def _in_scope(
    run: Callable[[], Awaitable[None]], *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await run()


async def _together(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(call)


async def _until(claim: Callable[[], bool], what: str) -> None:
    """Return when ``claim()`` is true.

    Raises:
        TimeoutError: not in time: ``what`` says what is wrong.
    """
    with trio.move_on_after(_PATIENCE):
        while not claim():  # noqa: ASYNC110  # what is waited for is in many places
            await trio.sleep(0.02)
        return
    raise TimeoutError(f"{what} within {_PATIENCE:g} seconds")
