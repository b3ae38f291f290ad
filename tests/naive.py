"""The STOMP server that trio-websocket's README leads to: `serve_websocket` and a handler.

Its STOMP is sound (it is ours); naive is that it trusts the library with the network. The cases
in `hardening` must fail against it: each of them is known to bite.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import trio
import trio.testing
import trio_websocket
from hardening import BODY_BYTES, MESSAGE_BYTES, Seen, Subject

from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.frames import Frame, Limits, encode
from trio_stomp.stomp.protocol import ServerProtocol


class NaiveServer:
    """Echoes what a session sends to a destination to that session's subscriptions."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.seen: list[Seen] = []

    async def handle(self, request: trio_websocket.WebSocketRequest) -> None:
        """Serve one connection."""
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        self.seen.append(Seen(headers, str(request.remote)))
        websocket = await request.accept(subprotocol="v12.stomp")
        limits = Limits(body=BODY_BYTES)
        protocol = ServerProtocol(limits_before=limits, limits=limits)
        try:
            await self._serve(websocket, protocol)
            await websocket.aclose(1000)
        except RemoteProtocolError as error:
            await websocket.send_message(protocol.error(str(error)).decode())
            await websocket.aclose(error.close_code)
        except trio_websocket.ConnectionClosed:
            pass

    async def _serve(self, websocket: trio_websocket.WebSocketConnection, protocol: ServerProtocol) -> None:
        while not protocol.is_closed:
            while (frame := protocol.next_frame()) is not None:
                if frame.command == "CONNECT":
                    await websocket.send_message(protocol.accept(session="naive").decode())
                    continue
                if frame.command == "SEND":
                    await self._deliver(websocket, protocol, frame)
                if "receipt" in frame.headers:
                    await websocket.send_message(protocol.receipt(frame.headers["receipt"]).decode())
            if not protocol.is_closed:
                message = await websocket.get_message()
                protocol.receive_data(message.encode() if isinstance(message, str) else message)

    async def _deliver(
        self, websocket: trio_websocket.WebSocketConnection, protocol: ServerProtocol, frame: Frame
    ) -> None:
        destination = frame.headers["destination"]
        match destination:
            case "/app/hold":
                await self.gate.wait()
            case "/app/crash":
                raise RuntimeError("a handler's bug")
        for key, wanted in protocol.subscriptions.items():
            if wanted == destination:
                headers = {"destination": destination, "message-id": "1", "subscription": key}
                message = encode(Frame("MESSAGE", headers, frame.body), protocol.version)
                await websocket.send_message(message.decode())


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Listens for connections over memory streams."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    async def connect(self, wrap: Callable[[trio.abc.Stream], trio.abc.Stream] | None) -> trio.abc.Stream:
        """A client's end; ``wrap`` is applied to the server's."""
        ours, theirs = trio.testing.memory_stream_pair()
        await self._send.send(theirs if wrap is None else wrap(theirs))
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()


@contextlib.asynccontextmanager
async def open_naive(*, is_fast: bool = True) -> AsyncIterator[Subject]:
    """The naive server over memory streams: what `serve_websocket` runs, less the socket.

    It has no fast path, so ``is_fast`` changes nothing.
    """
    naive, listener = NaiveServer(), MemoryListener()
    server = trio_websocket.WebSocketServer(
        naive.handle,
        [listener],  # type: ignore[list-item]  # annotated too narrowly upstream
        max_message_size=MESSAGE_BYTES,
    )
    async with trio.open_nursery() as nursery:
        subject = Subject(listener.connect, seen=naive.seen, gate=naive.gate)
        await nursery.start(subject.watch, server.run)
        yield subject
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_naive_on_a_socket(*, is_fast: bool = True) -> AsyncIterator[Subject]:
    """The naive server on a real socket, by `serve_websocket`."""
    naive = NaiveServer()
    run = partial(
        trio_websocket.serve_websocket,
        naive.handle,
        "127.0.0.1",
        0,
        None,
        max_message_size=MESSAGE_BYTES,
    )
    async with trio.open_nursery() as nursery:
        ports: list[int] = []

        async def connect(wrap: object) -> trio.abc.Stream:
            assert wrap is None, "a socket is not wrapped"
            return await trio.open_tcp_stream("127.0.0.1", ports[0])

        subject = Subject(connect, seen=naive.seen, gate=naive.gate, cushion=0.005)
        server = await nursery.start(subject.watch, run)
        ports.append(server.port)
        yield subject
        nursery.cancel_scope.cancel()
