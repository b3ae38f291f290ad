"""Streams that tests put under a connection: one with little room, and two that look on."""

from __future__ import annotations

import trio


class Narrow(trio.abc.Stream):
    """A stream that takes as many bytes as it has room for, and then waits: a peer that does not read."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = bytearray()
        self.is_closed = False
        self._more = trio.Event()

    def widen(self, room: int) -> None:
        """The peer reads some."""
        self.room += room
        self._more.set()
        self._more = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        data = bytes(data)
        while data:
            if self.is_closed:
                raise trio.ClosedResourceError
            part = data[: self.room]
            self.taken += part
            self.room -= len(part)
            data = data[len(part) :]
            if data:
                await self._more.wait()

    async def wait_send_all_might_not_block(self) -> None:
        if not self.room:
            await self._more.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        self.is_closed = True
        self._more.set()
        await trio.lowlevel.checkpoint()


class Recording(trio.abc.Stream):
    """Notes how much is asked for, and how much is read."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.asked: list[int | None] = []
        self.read: list[int] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.asked.append(max_bytes)
        data = await self._stream.receive_some(max_bytes)
        self.read.append(len(data))
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Tap(trio.abc.Stream):
    """Keeps what is read through it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.read = bytearray()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self.read += data
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def records(data: bytes) -> set[int]:
    """Types of the TLS records in ``data`` (RFC 8446, section 5.1); anything else gives a stray type."""
    found, at = set(), 0
    while at + 5 <= len(data):
        found.add(data[at])
        at += 5 + int.from_bytes(data[at + 3 : at + 5], "big")
    return found
