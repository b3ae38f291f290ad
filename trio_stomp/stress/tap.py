"""The client's end of a WebSocket, cheap enough for a load generator: frames are cut and made here.

trio-websocket shakes hands, answers pings and closes; plain data frames don't pass through it. One request
takes two frames in and one out, and through the library that is 0.2 ms of CPU instead of 0.07.

Rule 1: every frame boundary is followed from the handshake's answer on; a data frame that is whole and not
masked is given out at once, everything else goes to the library.
Rule 2: with the first frame that is unusual (a piece of a message, a reserved bit, one that is too long) the
cutting ends for good, and the library gives out the messages: so none overtakes another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from trio_stomp.transport.stream import RECEIVE_BYTES, WireStream

_HEAD_END: Final = b"\r\n\r\n"
_TEXT, _BINARY = 0x81, 0x82
_CONTROL: Final = (0x88, 0x89, 0x8A)
_SHORT, _TWO_BYTES = 125, 126
_LONGEST: Final = 1 << 24
"""Bytes of a frame that is still kept together here; more than any client of ours takes."""


class TappedStream(trio.abc.Stream):
    """What the library takes for its connection.

    Args:
        wire: the connection.
        on_message: called with each message that was cut out; must not raise.
    """

    def __init__(self, wire: WireStream, on_message: Callable[[bytes], None]) -> None:
        self._wire = wire
        self._on_message = on_message
        self._head: bytearray | None = bytearray()
        self._rest = b""
        self._is_cutting = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The library's share of what came; ``b""`` at the end."""
        while True:
            data = await self._wire.receive_some(RECEIVE_BYTES)
            if not data or not self._is_cutting:
                return data
            if passed := self._seen(data):
                return passed

    def _seen(self, data: bytes) -> bytes:
        """Give out what is cut; return what passes."""
        if self._head is None:
            return self._cut(self._rest + data if self._rest else data)
        self._head += data
        stop = self._head.find(_HEAD_END)
        if stop < 0:
            return data
        if not self._head.startswith(b"HTTP/1.1 101"):
            self._is_cutting = False  # a refusal, with its body
            return data
        after = len(self._head) - stop - len(_HEAD_END)
        self._head = None
        own, rest = (data[:-after], data[-after:]) if after else (data, b"")
        return own + self._cut(rest)

    def _cut(self, data: bytes) -> bytes:
        passed = b""
        at, end = 0, len(data)
        while end - at >= 2:
            first, size, start = data[at], data[at + 1], at + 2
            if size > _SHORT and size <= _TWO_BYTES + 1:
                start += 2 if size == _TWO_BYTES else 8
                if start > end:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
            if size > _LONGEST or data[at + 1] > _TWO_BYTES + 1 or first not in (_TEXT, _BINARY, *_CONTROL):
                self._is_cutting = False
                self._rest = b""
                return passed + data[at:]
            stop = start + size
            if stop > end:
                break
            if first in _CONTROL:
                passed += data[at:stop]
            else:
                self._on_message(data[start:stop])
            at = stop
        self._rest = data[at:]
        return passed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """The library's writes: the handshake, pongs, Close frames."""
        await self._wire.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As trio's."""
        await self._wire.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As trio's."""
        await self._wire.aclose()


def masked_frame(payload: bytes, *, is_text: bool) -> bytes:
    """Return one final data frame as a client sends it (RFC 6455, sections 5.2 and 5.3).

    The key comes from `random`, not from a secret source: masking keeps a page from choosing the bytes that a
    proxy sees, and here page and proxy are one's own.
    """
    size = len(payload)
    first = b"\x81" if is_text else b"\x82"
    if size <= _SHORT:
        head = first + (0x80 | size).to_bytes(1, "big")
    elif size < 1 << 16:
        head = first + b"\xfe" + size.to_bytes(2, "big")
    else:
        head = first + b"\xff" + size.to_bytes(8, "big")
    key = random.getrandbits(32).to_bytes(4, "big")
    # As one long number: some 100 times as fast as byte by byte.
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return head + key + (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
