"""A server made of bytes: what a client's test needs in order to be rude to it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator

import trio
from trio.testing import memory_stream_pair
from wire import CLOSE, TEXT, client_frame

from trio_stomp import Client, ClientConfig
from trio_stomp.client.client import open_client_over
from trio_stomp.transport.cutter import unmask

CONNECTED = b"CONNECTED\nversion:1.2\n\n\0"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def server_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One frame as a server sends it."""
    return client_frame(payload, opcode, masked=False)


def server_close(code: int = 1000) -> bytes:
    """A server's Close frame."""
    return server_frame(code.to_bytes(2, "big"), CLOSE)


class Rude:
    """The server's end of a connection.

    Args:
        head: sent instead of the 101, if given.
        then: what follows CONNECTED in the same write.
        at_disconnect: what answers DISCONNECT; by default its RECEIPT.
        at_close: what answers the client's Close.
    """

    def __init__(
        self,
        *,
        head: bytes | None = None,
        then: bytes = b"",
        at_disconnect: bytes | None = None,
        at_close: bytes = server_close(),
    ) -> None:
        self.heard: list[tuple[int, bytes]] = []
        """Opcode and payload of what the client sent."""
        self._head = head
        self._then = then
        self._at_disconnect = at_disconnect
        self._at_close = at_close
        self._buffer = bytearray()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until the client hangs up."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            await stream.send_all(self._head or self._accept(await self._until(stream, b"\r\n\r\n")))
            while True:
                opcode, payload = await self._frame(stream)
                self.heard.append((opcode, payload))
                if opcode == CLOSE:
                    await stream.send_all(self._at_close)
                elif payload.startswith(b"CONNECT\n"):
                    await stream.send_all(server_frame(CONNECTED) + self._then)
                elif payload.startswith(b"DISCONNECT\n"):
                    receipt = payload.partition(b"receipt:")[2].partition(b"\n")[0]
                    answer = server_frame(b"RECEIPT\nreceipt-id:" + receipt + b"\n\n\0")
                    await stream.send_all(answer if self._at_disconnect is None else self._at_disconnect)

    def _accept(self, head: bytes) -> bytes:
        key = head.lower().index(b"sec-websocket-key:") + 18
        value = head[key:].partition(b"\r\n")[0].strip()
        accepted = base64.b64encode(hashlib.sha1(value + _GUID).digest())
        lines = b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"
        return b"\r\n".join((*lines, b"Sec-WebSocket-Accept: " + accepted, b"", b""))

    async def _frame(self, stream: trio.abc.Stream) -> tuple[int, bytes]:
        first, second = await self._exactly(stream, 2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self._exactly(stream, 2), "big")
        key = await self._exactly(stream, 4)
        return first & 0x0F, unmask(await self._exactly(stream, size), key)

    async def _until(self, stream: trio.abc.Stream, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more(stream)
        return self._take(self._buffer.index(mark) + len(mark))

    async def _exactly(self, stream: trio.abc.Stream, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more(stream)
        return self._take(size)

    async def _more(self, stream: trio.abc.Stream) -> None:
        data = await stream.receive_some(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


@contextlib.asynccontextmanager
async def client_of(rude: Rude, **changes: float) -> AsyncIterator[Client]:
    """A client of it, without heart-beats."""
    config = ClientConfig(heart_beat_send=0, heart_beat_receive=0, **changes)  # type: ignore[arg-type]
    ours, theirs = memory_stream_pair()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rude.serve, theirs)
            async with open_client_over(
                ours, authority="h", resource="/ws", host="h", config=config
            ) as client:
                yield client
            nursery.cancel_scope.cancel()
    except ExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None  # this nursery is the test's affair
