"""A WebSocket peer made of bytes: what a test needs in order to be rude on the wire."""

from __future__ import annotations

import base64
import itertools
import os
import struct
from collections.abc import Iterable

import attrs
import trio

KEY = b"\x5a\xc3\x17\x9e"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def client_frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    final: bool = True,
    masked: bool = True,
    rsv: int = 0,
    key: bytes = KEY,
) -> bytes:
    """One frame as a client sends it, or as no client should."""
    first = (0x80 if final else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    return head + key + bytes(byte ^ mask for byte, mask in zip(payload, itertools.cycle(key)))


def close_frame(code: int = 1000, reason: bytes = b"") -> bytes:
    """A masked Close frame."""
    return client_frame(struct.pack("!H", code) + reason, CLOSE)


def handshake(path: str = "/ws", *, protocols: str = "v12.stomp", extra: Iterable[str] = ()) -> bytes:
    """A correct upgrade request."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: testserver",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *([f"Sec-WebSocket-Protocol: {protocols}"] if protocols else []),
        *extra,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


@attrs.frozen
class Seen:
    """One frame that the server sent."""

    opcode: int
    payload: bytes
    final: bool = True

    @property
    def close_code(self) -> int:
        """The code of a Close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


class Wire:
    """The peer's end of a connection, after or before its handshake."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def shake_hands(
        self, *, then: bytes = b"", protocols: str = "v12.stomp", path: str = "/ws"
    ) -> bytes:
        """Upgrade, with ``then`` in the same write; the answer's head."""
        await self.stream.send_all(handshake(path, protocols=protocols) + then)
        head = await self.read_until(b"\r\n\r\n")
        assert b" 101 " in head, head
        return head

    async def send(self, *frames: bytes) -> None:
        """All of them in one write."""
        await self.stream.send_all(b"".join(frames))

    async def read_until(self, mark: bytes) -> bytes:
        """Bytes up to and including a mark."""
        while mark not in self._buffer:
            await self._more()
        end = self._buffer.index(mark) + len(mark)
        return self._take(end)

    async def read_some(self) -> bytes:
        """What has come, at least a byte; EOFError when the server has hung up."""
        if not self._buffer:
            await self._more()
        return self._take(len(self._buffer))

    async def read_to_end(self) -> bytes:
        """Everything until the server hangs up."""
        try:
            while True:
                await self._more()
        except EOFError:
            return self._take(len(self._buffer))

    async def frame(self) -> Seen:
        """The next frame; EOFError when the server has hung up."""
        first, second = await self._exactly(2)
        assert second < 0x80, "a server's frames are not masked"
        size = second
        if size == 126:
            size = int.from_bytes(await self._exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._exactly(8), "big")
        return Seen(first & 0x0F, await self._exactly(size), bool(first & 0x80))

    async def frames_to_end(self) -> list[Seen]:
        """All frames until the server hangs up."""
        found = []
        try:
            while True:
                found.append(await self.frame())
        except EOFError:
            return found

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise EOFError(bytes(self._buffer))
        self._buffer += data

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data
