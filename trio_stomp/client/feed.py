"""One subscription's messages, between the connection that reads them and who iterates."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import trio

from trio_stomp.client.received import Arrival, Ledger
from trio_stomp.stomp.frames import Frame


class Feed:
    """What a subscription was asked for, and what has arrived; it may outlive connections.

    Args:
        key: the subscription's id, the same on every connection.
        limit: messages that wait; past it, who reads the connection waits in `room`.

    Attributes:
        is_confirmed: whether the server has given its RECEIPT for it, on whichever connection.
    """

    def __init__(self, key: str, destination: str, headers: Mapping[str, str], limit: int) -> None:
        self.key = key
        self.destination = destination
        self.headers = headers
        self.is_confirmed = False
        self._ledger = Ledger(is_cumulative=self.ack == "client")
        self._limit: float = limit
        self._count = 0
        self._failure: Exception | None = None
        # Without a bound, because what was read is kept even if the connection ends before there is room.
        self._send, self._receive = trio.open_memory_channel[Arrival](math.inf)
        self._room = trio.Event()

    @property
    def ack(self) -> str:
        """The ack mode that is asked for."""
        return self.headers.get("ack", "auto")

    @property
    def size(self) -> int:
        """About as many bytes as asking for it takes."""
        return len(self.destination) + sum(len(name) + len(value) for name, value in self.headers.items())

    @property
    def is_full(self) -> bool:
        """Whether no more should be read for now."""
        return self._count > self._limit

    def put(self, frame: Frame, origin: object) -> None:
        """A message has arrived, on the connection ``origin``."""
        self._send.send_nowait(self._ledger.enter(frame, origin))
        self._count += 1

    async def room(self) -> None:
        """Return when there is room, or nobody reads it any more."""
        while self.is_full:
            self._room = trio.Event()
            await self._room.wait()

    async def get(self) -> Arrival:
        """The next message.

        Raises:
            StopAsyncIteration: the subscription's context was left.
            Exception: what ended it, once all that had arrived is read.
        """
        try:
            arrival = await self._receive.receive()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None
        except trio.EndOfChannel:
            assert self._failure is not None
            await trio.lowlevel.checkpoint_if_cancelled()  # who is cancelled is told of nothing else
            raise self._failure from self._failure.__cause__
        self._count -= 1
        self._room.set()
        return arrival

    def lost(self) -> None:
        """The connection is lost: what nobody has read and acknowledged the server gives out again.

        Kept, it would be had twice, and could not be acknowledged the first time. With ack mode "auto" it is
        kept: the server has done with it.
        """
        if self.ack == "auto":
            return
        with contextlib.suppress(trio.WouldBlock):
            while True:
                self._receive.receive_nowait()
                self._count -= 1

    def end(self, failure: Exception) -> None:
        """Nothing more will arrive, and this is why; what has arrived can still be read."""
        self._failure = failure
        self._send.close()
        self._let_go()

    def close(self) -> None:
        """Nobody reads it any more."""
        self._receive.close()
        self._send.close()
        self._let_go()

    def _let_go(self) -> None:
        self._limit = math.inf
        self._room.set()
