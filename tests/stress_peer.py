"""Servers for the load generator: one of ours over memory streams, and one that a test speaks for."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing
from wire import CLOSE, Wire

from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version, encode
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.load import open_load
from trio_stomp.stress.plan import Plan
from trio_stomp.stress.results import Run
from trio_stomp.stress.scrape import Sample
from trio_stomp.stress.summary import make_run
from trio_stomp.testing import TestServer
from trio_stomp.transport.websocket import frame_head

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of the handshake's answer (RFC 6455, section 1.3)."""


def endpoint_of(connect: Callable[[], trio.abc.Stream]) -> Endpoint:
    """An endpoint whose connections come from there."""

    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return connect()

    return Endpoint(dial=dial, host="h", authority="h", resource="/ws")


def endpoint_at(server: TestServer) -> Endpoint:
    """The endpoint of a server without sockets."""
    return endpoint_of(server.connect)


def a_plan(**changes: Any) -> Plan:
    """Ten requests a second for a second, on one connection."""
    whole = {
        "target": "shop:app",
        "destination": "/app/pay",
        "body": b'{"n": 1}',
        "content_type": "application/json",
        "reply": "/user/queue/receipts",
        "clients": 1,
        "rate": 10,
        "duration": 1,
        "warm_up": 0,
    }
    return Plan(**(whole | changes))


async def no_numbers() -> Sample | None:
    """A server without /metrics."""
    await trio.lowlevel.checkpoint()
    return None


async def run_load(plan: Plan, endpoint: Endpoint) -> Run:
    """One run, without the server's numbers."""
    async with open_load(plan, endpoint) as load:
        return make_run(await load.run(plan.rate, read_server=no_numbers), label="run")


class ScriptedPeer:
    """The server's end of one connection, frame by frame.

    Attributes:
        head: the upgrade's headers, with lower-case names.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.head: dict[str, str] = {}
        self._wire = Wire(stream)
        self._decoder = FrameDecoder(Limits(), Version.V1_2)

    async def read_head(self) -> None:
        """Take the upgrade's head."""
        lines = (await self._wire.read_until(b"\r\n\r\n")).decode().split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines if line)
        self.head = {name.lower(): value for name, _, value in pairs}

    async def shake_hands(self) -> None:
        """Accept the upgrade."""
        await self.read_head()
        key = self.head["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
        await self.stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v12.stomp\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    async def welcome(self, *, receipts: bool = True) -> list[Frame]:
        """Accept the upgrade, CONNECT and both SUBSCRIBEs; the three frames."""
        await self.shake_hands()
        return await self.introduce(receipts=receipts)

    async def introduce(self, *, receipts: bool = True) -> list[Frame]:
        """Accept CONNECT and both SUBSCRIBEs."""
        frames = [await self.frame()]
        await self.say("CONNECTED", version="1.2")
        for _ in range(2):
            frames.append(await self.frame())
            if receipts:
                await self.say("RECEIPT", receipt_id=frames[-1].headers["receipt"])
        return frames

    async def frame(self) -> Frame:
        """The client's next frame; EOFError at its DISCONNECT, Close or end."""
        while (found := self._decoder.next_frame()) is None:
            opcode, payload = await self._read()
            if opcode == CLOSE:
                raise EOFError
            self._decoder.receive_data(payload)
        if found.command == "DISCONNECT":
            raise EOFError
        return found

    async def answer_all(self) -> None:
        """Answer every SEND, until the client leaves."""
        while True:
            await self.answer(await self.frame())

    async def say(self, command: str, body: bytes = b"", **headers: str) -> None:
        """One frame; ``_`` in a header's name stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        payload = encode(Frame(command, named, body), Version.V1_2)
        await self.stream.send_all(frame_head(len(payload), True) + payload)

    async def reply(self) -> None:
        """A MESSAGE on the reply's subscription."""
        await self.say(
            "MESSAGE", b"{}", subscription="reply", destination="/user/queue/receipts", message_id="1"
        )

    async def answer(self, send: Frame) -> None:
        """What a handler of ours makes of a SEND."""
        await self.reply()
        await self.say("RECEIPT", receipt_id=send.headers["receipt"])

    async def fail(self, send: Frame, code: str) -> None:
        """What an exception in a handler of ours makes of it."""
        body = f'{{"code": "{code}", "message": "m"}}'.encode()
        headers = {"subscription": "errors", "destination": "/user/queue/errors", "message_id": "1"}
        await self.say("MESSAGE", body, **headers, receipt_id=send.headers["receipt"])

    async def close(self, code: int, reason: bytes = b"") -> None:
        """A Close frame, and the end."""
        await self.stream.send_all(bytes((0x88, 2 + len(reason))) + code.to_bytes(2, "big") + reason)
        await self.stream.aclose()

    async def _read(self) -> tuple[int, bytes]:
        first, second = await self._wire._exactly(2)
        size = second & 0x7F
        assert second & 0x80, "a client's frames are masked"
        if size > 125:
            size = int.from_bytes(await self._wire._exactly(2 if size == 126 else 8), "big")
        key = await self._wire._exactly(4)
        data = await self._wire._exactly(size)
        return first & 0x0F, bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


Script = Callable[[ScriptedPeer], Awaitable[None]]


def scripted(nursery: trio.Nursery, *scripts: Script) -> Endpoint:
    """An endpoint whose connections are spoken for by these, in turn; the last one for all that follow."""
    left = list(scripts)

    def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        script = left.pop(0) if len(left) > 1 else left[0]

        async def play() -> None:
            # A client that has what it wants leaves.
            with contextlib.suppress(EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
                await script(ScriptedPeer(theirs))

        nursery.start_soon(play)
        return ours

    return endpoint_of(connect)
