"""The hot paths, each so many times in one process: what bench/guard.py counts the instructions of.

python bench/guard_work.py NAME COUNT
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from echo_app import app

from trio_stomp import open_server
from trio_stomp.config import ServerConfig
from trio_stomp.server.serve import Server
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Limits
from trio_stomp.transport.cutter import FrameCutter

BATCH = 50
"""Messages that are outstanding at once, as from 50 clients."""
SUBSCRIBERS = 20
MASK = b"\x5a\xc3\x17\x9e"
BODY = b'{"ts":"-000000000000000000","pad":"' + b"x" * 64 + b'"}'


def send(destination: str) -> bytes:
    """A SEND frame of 100 bytes of JSON."""
    head = f"SEND\ndestination:{destination}\ncontent-type:application/json\ncontent-length:{len(BODY)}\n\n"
    return head.encode() + BODY + b"\0"


def masked(payload: bytes) -> bytes:
    """A client's WebSocket frame."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + MASK + bytes(map(int.__xor__, payload, itertools.cycle(MASK)))


def decode(count: int) -> None:
    """Frames out of bytes."""
    decoder, frame = FrameDecoder(Limits()), send("/app/echo")
    for _ in range(count):
        decoder.receive_data(frame)
        assert decoder.next_frame() is not None


def cut(count: int) -> None:
    """Messages out of WebSocket frames."""
    cutter = FrameCutter(is_cutting=True, message_bytes=1 << 16, fragments=100, control_frames=100)
    frame = masked(send("/app/echo"))
    for _ in range(count):
        cutter.feed(frame)


class Client:
    """One end of a connection over loopback, as little as can be: what it costs counts too."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.write = stream.send_all

    async def until(self, end: bytes, times: int = 1) -> None:
        """Read until so many of these have come."""
        got = b""
        while times > 0:
            more = await self._stream.receive_some(1 << 16)
            assert more
            got += more
            times -= got.count(end)
            got = got[-len(end) + 1 :] if len(end) > 1 else b""


@asynccontextmanager
async def clients(server: Server, count: int) -> AsyncIterator[list[Client]]:
    """So many, connected and subscribed."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await stack.enter_async_context(listener)
        port = listener.socket.getsockname()[1]
        made = []
        for _ in range(count):
            there = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
            nursery.start_soon(server.serve_stream, await listener.accept(), "guard")
            client = Client(there)
            await client.write(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Protocol: v12.stomp\r\n\r\n"
            )
            await client.until(b"\r\n\r\n")
            await client.write(masked(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0"))
            await client.until(b"\0")
            for number, destination in enumerate(("/user/queue/echo", "/topic/all")):
                await client.write(
                    masked(f"SUBSCRIBE\nid:{number}\ndestination:{destination}\nreceipt:r\n\n\0".encode())
                )
                await client.until(b"\0")
            made.append(client)
        gc.collect()
        gc.disable()  # its passes come at other moments each time
        stack.callback(gc.enable)
        yield made
        nursery.cancel_scope.cancel()


def echo(count: int) -> None:
    """Answers of a JSON handler to one client that has several requests under way."""

    async def run() -> None:
        async with open_server(app) as server, clients(server, 1) as (client,):
            requests = masked(send("/app/echo")) * BATCH
            for _ in range(count // BATCH):
                await client.write(requests)
                await client.until(b'"}\0', BATCH)

    trio.run(run)


def answer(count: int) -> None:
    """Answers of a JSON handler, one request at a time from each of several clients."""

    async def run() -> None:
        async with open_server(app) as server, clients(server, BATCH) as connected:
            request = masked(send("/app/echo"))
            for _ in range(count // BATCH):
                for client in connected:
                    await client.write(request)
                for client in connected:
                    await client.until(b'"}\0')

    trio.run(run)


def fanout(count: int) -> None:
    """Messages to a topic of 20 subscribers."""

    async def run() -> None:
        async with open_server(None, ServerConfig()) as server, clients(server, SUBSCRIBERS) as connected:
            messages = masked(send("/topic/all")) * BATCH
            for _ in range(count // BATCH):
                await connected[0].write(messages)
                for client in connected:
                    await client.until(b'"}\0', BATCH)

    trio.run(run)


WORK: Mapping[str, Callable[[int], None]] = {
    each.__name__: each for each in (decode, cut, echo, answer, fanout)
}

if __name__ == "__main__":
    WORK[sys.argv[1]](int(sys.argv[2]))
