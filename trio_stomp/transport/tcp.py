"""STOMP over a plain stream, TCP or TLS: its bytes are frames, and nothing else.

Rule 1: a task of its own reads, so that the loss of the peer is seen while a handler runs.
Rule 2: it reads ahead of the session by one list; TCP slows the client down after that.
Rule 3: after our last word the peer's bytes are read and dropped for a while: a socket closed
with unread bytes in it sends a reset, which destroys what was written last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import trio

from trio_stomp.channels.inbox import Inbox
from trio_stomp.config import WebSocketConfig
from trio_stomp.transport.flag import Flag
from trio_stomp.transport.stream import WireStream

_PIECE_BYTES = 48
"""What a piece costs besides its bytes: a client that sends byte by byte is not read ahead for long."""


def frame_head(length: int, is_text: bool) -> bytes:
    """Nothing stands before a frame."""
    return b""


class TcpTransport:
    """The server's end of one connection without a WebSocket; see `Transport`."""

    __slots__ = ("_close_timeout", "_ended", "_inbox", "_on_end", "_reading", "_wire")

    has_close_codes: ClassVar[bool] = False
    frame_head = staticmethod(frame_head)

    def __init__(self, wire: WireStream, config: WebSocketConfig) -> None:
        self._wire = wire
        self._close_timeout = config.close_timeout
        self._inbox: Inbox[bytes] = Inbox(config.receive_ahead)
        self._reading = trio.CancelScope()
        self._ended = Flag()
        self._on_end: Callable[[], None] | None = None

    @property
    def wire(self) -> WireStream:
        """The stream below: time of the last byte, torn or not."""
        return self._wire

    @property
    def begun(self) -> int:
        """There are no messages but the frames: 0."""
        return 0

    def at_end(self, call: Callable[[], None]) -> None:
        """Have ``call`` called once when nothing more comes in: the peer closed, or is lost."""
        self._on_end = call

    def limit_messages(self, message_bytes: int) -> None:
        """Of no effect: frames, which have limits of their own, are all there is."""

    async def receive(self) -> list[bytes]:
        """The pieces that have come, at least one; an empty list at the end."""
        return await self._inbox.take()

    def stop_receiving(self) -> None:
        """Let `receive` come to its end after what has been read so far."""
        self._inbox.close()

    @property
    def send_now(self) -> Callable[[bytes], int]:
        """Writes what goes without waiting (see `WireStream.send_now`)."""
        return self._wire.send_now

    async def send(self, data: bytes) -> None:
        """Write frames; for the one writer.

        Raises:
            trio.BrokenResourceError: the connection is lost (see `WireStream.send_all`).
        """
        await self._wire.send_rest(data)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close so that what was sent last arrives, in ``close_timeout`` seconds at the most. Never fails.

        There is nothing that could tell the peer the code. Cancelling closes at once.
        """
        self._inbox.close()
        self._reading.cancel()
        self._wire.leave_rest()
        try:
            await self._ended.wait()
            if not self._wire.is_torn:
                await self._wire.aclose_gently(self._close_timeout)
        finally:
            with trio.CancelScope(shield=True):
                await self._wire.abort()

    async def read(self) -> None:
        """Hand over what comes until the end: the peer's, or `aclose`. For a task of its own."""
        inbox, wire = self._inbox, self._wire
        try:
            with self._reading:
                while True:
                    await trio.lowlevel.checkpoint_if_cancelled()  # reads that go at once are none
                    await inbox.room()
                    if not await wire.pump(self._take):
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the end as well
        finally:
            inbox.close()
            self._ended.set()
            if self._on_end is not None:
                self._on_end()

    def _take(self, data: bytes) -> bool:
        """Hand over one read; whether there is room for more."""
        inbox = self._inbox
        if not inbox.is_closed:  # else nobody will look at it
            inbox.put(data, len(data) + _PIECE_BYTES)
        return not inbox.is_full


async def open_tcp(nursery: trio.Nursery, *, wire: WireStream, config: WebSocketConfig) -> TcpTransport:
    """Give the connection, whose bytes are read in a task of ``nursery`` until it is closed.

    Of ``config`` count ``receive_ahead`` and ``close_timeout``.
    """
    transport = TcpTransport(wire, config)
    nursery.start_soon(transport.read)
    return transport
