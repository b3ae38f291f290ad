"""Clients that live through a deployment, and what they saw of it.

Rule 1: a request is numbered, and sent anew with the same number until its receipt has come.
Rule 2: every attempt to connect is counted, with its time; one that does not come to CONNECTED has failed.
"""

from __future__ import annotations

import collections
import itertools
import json
import random

import attrs
import trio

from trio_stomp import (
    ClientConfig,
    Connected,
    ConnectionLost,
    Disconnected,
    HandshakeRefused,
    Reconnect,
    Retrying,
    TrioStompError,
    open_client,
)
from trio_stomp.client.client import Client, Subscription


@attrs.frozen(kw_only=True)
class Manner:
    """How clients come back.

    Attributes:
        wait: seconds from the end of a connection to the next attempt.
        is_told: whether they heed `reconnect_after` and `Retry-After`.
        is_own: whether it is left to `open_client(…, reconnect=Reconnect())`; then the two above say nothing.
        every: seconds between two requests of a client.
    """

    wait: float = 0.0
    is_told: bool = True
    is_own: bool = False
    every: float = 2.0


STOMPJS_WAIT = 5.0
"""Seconds: reconnectDelay's default in @stomp/stompjs, the same each time and for every client."""

_AGAIN = 0.5
"""Seconds to wait after a failure that names no time: up to that much, by chance, times the failures."""


_APART = 0.005
"""Seconds from one client's first attempt to the next one's."""


class Fleet:
    """All clients, and what happened to them.

    Attributes:
        connected: how many have a session now.
        collecting: how many servers are connected to `collect`.
        sessions: how many sessions each client has had.
        attempts: when a connection was tried, in seconds of trio's clock, but for the first of each client.
        failures: what became of attempts that failed, by reason.
        endings: sessions that ended, by close code.
        receipts: requests of each client whose receipt has come.
        recorded: how often each request, by client and number, was recorded.
        resent: requests that were sent again because their receipt had not come.
    """

    def __init__(self, port: int, clients: int, manner: Manner) -> None:
        self._url = f"ws://127.0.0.1:{port}/ws"
        self._manner = manner
        self._config = ClientConfig(heart_beat_send=0, heart_beat_receive=0, close_timeout=0.5)
        self.connected = 0
        self.collecting = 0
        self.sessions = [0] * clients
        self.attempts: list[float] = []
        self.failures: collections.Counter[str] = collections.Counter()
        self.endings: collections.Counter[int] = collections.Counter()
        self.receipts: list[set[int]] = [set() for _ in range(clients)]
        self.recorded: collections.Counter[tuple[int, int]] = collections.Counter()
        self.resent = 0

    @property
    def lost(self) -> int:
        """Requests whose receipt came, and that were not recorded."""
        return sum(
            (client, number) not in self.recorded
            for client, numbers in enumerate(self.receipts)
            for number in numbers
        )

    @property
    def twice(self) -> int:
        """Requests that were recorded more than once: their receipt did not come though they were done."""
        return sum(count > 1 for count in self.recorded.values())

    async def collect(self, stream: trio.SocketStream) -> None:
        """Take in what a server records, until it hangs up."""
        rest = b""
        self.collecting += 1
        try:
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    client, number = line.split()
                    self.recorded[int(client), int(number)] += 1
        finally:
            self.collecting -= 1

    async def run(self) -> None:
        """Connect all clients, and keep them connected; never returns unless cancelled."""
        live = self._live_by_itself if self._manner.is_own else self._live
        async with trio.open_nursery() as nursery:
            for client in range(len(self.sessions)):
                nursery.start_soon(live, client)
                await trio.sleep(_APART)

    async def _live(self, client: int) -> None:
        numbers = _Numbers()
        failed = 0
        while True:
            if self.sessions[client]:
                self.attempts.append(trio.current_time())
            before = self.sessions[client]
            until = 0.0
            try:
                until = await self._session(client, numbers)
            except (OSError, TrioStompError) as error:
                if self.sessions[client] == before:
                    self.failures[_reason(error)] += 1
                    until = self._told_by(error)
            failed = failed + 1 if self.sessions[client] == before else 0
            wait = self._manner.wait or random.random() * _AGAIN * failed
            await trio.sleep_until(max(until, trio.current_time() + wait))

    async def _live_by_itself(self, client: int) -> None:
        numbers, never = _Numbers(), trio.Event()
        reconnecting = open_client(self._url, config=self._config, reconnect=Reconnect())
        async with reconnecting as stomp, trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, stomp, client)
            while True:
                await self._send(stomp, client, numbers, never, nursery.cancel_scope)

    async def _follow(self, stomp: Client, client: int) -> None:
        """Count what a client that comes back by itself says of it."""
        is_connected = False
        try:
            async for event in stomp.events:
                match event:
                    case Connected():
                        self.sessions[client] += 1
                        self.connected += 1
                        is_connected = True
                    case Disconnected(code=code):
                        self.endings[code] += 1
                        self.connected -= 1
                        is_connected = False
                    case Retrying(attempt=attempt, delay=delay, why=why):
                        self.attempts.append(trio.current_time() + delay)
                        if attempt > 1:
                            self.failures[why] += 1
        finally:
            self.connected -= is_connected

    async def _session(self, client: int, numbers: _Numbers) -> float:
        """One connection, to its end; when the next may be tried at the earliest."""
        until = 0.0
        async with open_client(self._url, config=self._config) as stomp:
            self.sessions[client] += 1
            self.connected += 1
            try:
                async with stomp.subscribe("/user/queue/server") as events, trio.open_nursery() as nursery:
                    over = trio.Event()
                    nursery.start_soon(self._send, stomp, client, numbers, over, nursery.cancel_scope)
                    until = await self._listen(events)
                    over.set()
            except ConnectionLost as error:
                self.endings[error.code or 0] += 1
            finally:
                self.connected -= 1
        return until if self._manner.is_told else 0.0

    async def _listen(self, events: Subscription) -> float:
        until = 0.0
        try:
            async for event in events:
                until = trio.current_time() + json.loads(event.body)["reconnect_after"]
        except ConnectionLost as error:
            self.endings[error.code or 0] += 1
            if error.code == 1012:  # it was our turn
                until = 0.0
        return until

    async def _send(
        self, stomp: Client, client: int, numbers: _Numbers, over: trio.Event, scope: trio.CancelScope
    ) -> None:
        try:
            while True:
                with trio.move_on_after(self._manner.every * random.uniform(0.5, 1.5)):
                    await over.wait()
                    return
                number, is_again = numbers.next()
                self.resent += is_again
                body = {"client": client, "number": number}
                await stomp.send("/app/record", body, receipt=True)
                self.receipts[client].add(number)
                numbers.done()
        except ConnectionLost:
            pass  # the listener says so
        except TrioStompError as error:
            self.failures[f"request: {_reason(error)}"] += 1
            scope.cancel()

    def _told_by(self, error: Exception) -> float:
        if isinstance(error, HandshakeRefused) and self._manner.is_told:
            return trio.current_time() + float(error.headers.get("retry-after", 0))
        return 0.0


class _Numbers:
    """A client's requests: the one under way stays until it is done."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._number: int | None = None

    def next(self) -> tuple[int, bool]:
        """The number to send, and whether it has been sent before."""
        if self._number is not None:
            return self._number, True
        self._number = next(self._count)
        return self._number, False

    def done(self) -> None:
        self._number = None


def _reason(error: Exception) -> str:
    if isinstance(error, HandshakeRefused):
        return f"HTTP {error.status}"
    if isinstance(error, ConnectionLost):
        return f"closed {error.code or ''}".strip()
    if isinstance(error, OSError):
        return "refused"
    return type(error).__name__
