"""What becomes of a client's connection, told as values.

Rule: who does not listen costs nothing and stops nobody: the oldest events are dropped.
"""

from __future__ import annotations

import collections
import logging

import attrs
import trio

GOING_AWAY = 1012
"""Close code with which a server ends its sessions in turn: "Service Restart" in IANA's registry."""


@attrs.frozen
class Connected:
    """The connection is there, its subscriptions are asked for again.

    Attributes:
        attempt: how many attempts it took; 1: the first one.
        seconds: how long there was none.
    """

    attempt: int
    seconds: float

    def __str__(self) -> str:
        return f"connected at attempt {self.attempt}, after {self.seconds:.1f} seconds without"


@attrs.frozen
class Disconnected:
    """The connection has ended by itself.

    Attributes:
        code: the WebSocket close code; 1006 when there was none.
        reason: what the server said, or what was wrong.
    """

    code: int
    reason: str

    def __str__(self) -> str:
        return f"disconnected ({self.code}): {self.reason}"


@attrs.frozen
class Retrying:
    """It will be tried again.

    Attributes:
        attempt: the number of the attempt to come, 1 for the first after a loss.
        delay: seconds until then.
        why: what ended the last connection or attempt.
    """

    attempt: int
    delay: float
    why: str

    def __str__(self) -> str:
        return f"attempt {self.attempt} in {self.delay:.1f} seconds: {self.why}"


@attrs.frozen
class Draining:
    """The server has said that it is going away; it closes the connection at about that time.

    Attributes:
        reconnect_after: seconds, from now, before which it does not want us back.
    """

    reconnect_after: float

    def __str__(self) -> str:
        return f"the server is draining, reconnect after {self.reconnect_after:.1f} seconds"


@attrs.frozen
class GaveUp:
    """There will be no further connection; the last event.

    Attributes:
        why: what was final.
    """

    why: str

    def __str__(self) -> str:
        return f"gave up: {self.why}"


ClientEvent = Connected | Disconnected | Retrying | Draining | GaveUp


def level_of(event: ClientEvent) -> int:
    """How loud its log line is: what a server's deployment brings about is no warning."""
    match event:
        case GaveUp():
            return logging.ERROR
        case Disconnected(code=code) if code != GOING_AWAY:
            return logging.WARNING
        case Retrying(attempt=attempt) if attempt > 1:  # one has failed
            return logging.WARNING
    return logging.INFO


class ClientEvents:
    """A client's events as an async iterator, from the first connection on.

    At most ``limit`` are kept unread. It ends when the client is left, and after `GaveUp`.

    Attributes:
        dropped: how many were dropped unread.
    """

    def __init__(self, limit: int) -> None:
        self._kept: collections.deque[ClientEvent] = collections.deque(maxlen=limit)
        self._news = trio.Event()
        self._is_over = False
        self.dropped = 0

    def put(self, event: ClientEvent) -> None:
        """Tell it, in place of the oldest one if need be."""
        self.dropped += len(self._kept) == self._kept.maxlen
        self._kept.append(event)
        self._wake()

    def close(self) -> None:
        """There will be no more."""
        self._is_over = True
        self._wake()

    def __aiter__(self) -> ClientEvents:
        return self

    async def __anext__(self) -> ClientEvent:
        """The next event; cancelling is safe."""
        await trio.lowlevel.checkpoint()
        while not self._kept:
            if self._is_over:
                raise StopAsyncIteration
            await self._news.wait()
        return self._kept.popleft()

    async def receive(self) -> ClientEvent:
        """As ``anext``: the next event, waiting for it."""
        return await self.__anext__()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()
