"""Echo endpoints that WebSocket conformance is measured on: our transport, and trio-websocket's own server.

Each gives a message back as it came, TEXT as TEXT and BINARY as BINARY. As a program,
`python tests/autobahn_echo.py`, all of them listen until standard input ends, one line of
JSON says where: `{"name": port, …}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import trio
import trio.testing
import trio_websocket
from naive import MemoryListener

from trio_stomp import WebSocketConfig
from trio_stomp.errors import RemoteProtocolError
from trio_stomp.metrics import Metrics
from trio_stomp.transport.http import (
    HttpError,
    RequestHead,
    check_upgrade,
    choose_subprotocol,
    read_head,
    upgrade_response,
)
from trio_stomp.transport.stream import RECEIVE_BYTES, WireStream
from trio_stomp.transport.websocket import accept_websocket, frame_head

MESSAGE_BYTES: Final = 16 << 20
"""The longest message that section 9 sends, in one frame."""
FRAGMENTS: Final = (1 << 16) + 1
"""The most fragments that section 9 sends one message in: 4 MiB by 64 bytes, and an empty one."""


class OpcodeStream(WireStream):
    """Notes the opcode of each data message read, for `WebSocketTransport.receive` does not tell it.

    Attributes:
        opcodes: of the messages begun and not yet echoed, in order.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream, write_timeout=10, metrics=Metrics())
        self.opcodes: deque[int] = deque()
        self._header = b""
        self._left = 0
        self._is_looking = False

    async def receive_some(self, max_bytes: int | None = RECEIVE_BYTES) -> bytes:
        data = await super().receive_some(max_bytes)
        if self._is_looking:
            self.look(data)
        return data

    def look(self, data: bytes) -> None:
        """Follow the frames in ``data``, which comes after the handshake, as all that is read from now on."""
        self._is_looking = True
        at, end = 0, len(data)
        while at < end:
            if self._left:
                skipped = min(self._left, end - at)
                self._left -= skipped
                at += skipped
                continue
            wanted = _header_length(self._header)
            piece = data[at : at + wanted - len(self._header)]
            self._header += piece
            at += len(piece)
            if len(self._header) == _header_length(self._header):
                first, length = self._header[0] & 0x0F, self._header[1] & 0x7F
                if length > 125:
                    length = int.from_bytes(self._header[2 : 4 if length == 126 else 10], "big")
                if first in (1, 2):
                    self.opcodes.append(first)
                self._left, self._header = length, b""


def _header_length(start: bytes) -> int:
    """Of a masked frame (RFC 6455, section 5.2), as far as its first bytes tell."""
    if len(start) < 2:
        return 2
    return 6 + {126: 2, 127: 8}.get(start[1] & 0x7F, 0)


async def echo_ours(stream: trio.abc.Stream, *, is_fast: bool) -> None:
    """Serve one connection through our front door's parts and our transport."""
    config = WebSocketConfig(fast_path=is_fast, message=MESSAGE_BYTES, fragments=FRAGMENTS, close_timeout=1)
    wire = OpcodeStream(stream)
    try:
        head = await _read_upgrade(wire)
        if head is None:
            return
        wire.look(head.rest)
        async with trio.open_nursery() as nursery:
            transport = await accept_websocket(
                nursery,
                wire=wire,
                answer=upgrade_response(head, choose_subprotocol(head)),
                rest=head.rest,
                config=config,
            )
            code, reason = 1000, ""
            try:
                while messages := await transport.receive():
                    opcodes = (wire.opcodes.popleft() for _ in messages)
                    answers = (
                        frame_head(len(message), is_text=opcode == 1) + message
                        for message, opcode in zip(messages, opcodes, strict=True)
                    )
                    await transport.send(b"".join(answers))
            except RemoteProtocolError as error:
                code, reason = error.close_code, str(error)
            await transport.aclose(code, reason)
            nursery.cancel_scope.cancel()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client hung up
    finally:
        with trio.CancelScope(shield=True):
            await wire.abort()


async def _read_upgrade(wire: WireStream) -> RequestHead | None:
    """A checked upgrade; None: there was none, and it was answered."""
    try:
        head = await read_head(wire)
        if head is not None:
            check_upgrade(head)
    except HttpError as error:
        await wire.send_all(error.response())
        return None
    return head


async def echo_library(request: trio_websocket.WebSocketRequest) -> None:
    """Serve one connection as trio-websocket's documentation shows it."""
    websocket = await request.accept()
    with contextlib.suppress(trio_websocket.ConnectionClosed):
        while True:
            await websocket.send_message(await websocket.get_message())


async def _serve_ours(
    *,
    is_fast: bool,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        if ssl_context is not None:
            stream = trio.SSLStream(stream, ssl_context, server_side=True)
        await echo_ours(stream, is_fast=is_fast)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(serve, listeners)


async def _serve_library(*, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    async with trio.open_nursery() as nursery:
        run = partial(
            trio_websocket.serve_websocket,
            echo_library,
            "127.0.0.1",
            0,
            None,
            max_message_size=MESSAGE_BYTES,
        )
        server = await nursery.start(run)
        task_status.started(server.port)


SERVERS: Final[Mapping[str, Callable[..., Awaitable[object]]]] = MappingProxyType(
    {
        "trio-stomp, fast path": partial(_serve_ours, is_fast=True),
        "trio-stomp, library only": partial(_serve_ours, is_fast=False),
        "trio-websocket": _serve_library,
    }
)


@contextlib.asynccontextmanager
async def open_ours(*, is_fast: bool) -> AsyncIterator[trio.abc.Stream]:
    """A connection to our transport over memory streams."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(echo_ours, theirs, is_fast=is_fast))
        yield ours
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_ours_on_a_socket(
    *, is_fast: bool, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[trio.abc.Stream]:
    """A connection to our transport over the loopback, before TLS's handshake."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(_serve_ours, is_fast=is_fast, ssl_context=ssl_context))
        yield await trio.open_tcp_stream("127.0.0.1", port)
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_library() -> AsyncIterator[trio.abc.Stream]:
    """A connection to trio-websocket's own server over memory streams: `serve_websocket`, less the socket."""
    listener = MemoryListener()
    server = trio_websocket.WebSocketServer(
        echo_library,
        [listener],  # type: ignore[list-item]  # annotated too narrowly upstream
        max_message_size=MESSAGE_BYTES,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield await listener.connect(None)
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_servers() -> AsyncIterator[Mapping[str, int]]:
    """All of them on free ports of the loopback, by name."""
    async with trio.open_nursery() as nursery:
        yield {name: await nursery.start(serve) for name, serve in SERVERS.items()}
        nursery.cancel_scope.cancel()


async def _main() -> None:
    async with open_servers() as ports:
        print(json.dumps(dict(ports)), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    logging.basicConfig()
    trio.run(_main)
