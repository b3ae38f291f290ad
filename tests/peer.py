"""A STOMP client made of bytes, and streams that stall: what a test needs to look at single frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
import trio.testing
from wire import CLOSE, Wire, client_frame, close_frame

from trio_stomp import DrainConfig, ServerConfig, StompConfig
from trio_stomp.channels.pools import Pool, PoolDeclaration
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version, encode
from trio_stomp.testing import TestServer

_LONG = 3600
"""Seconds, of a clock that jumps, after which a test that waits for a frame has failed."""


def bare(command: str, body: bytes = b"", version: Version = Version.V1_2, **headers: str) -> bytes:
    """One STOMP frame; ``_`` in a header's name stands for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return encode(Frame(command, named, body), version)


def stomp(command: str, body: bytes = b"", version: Version = Version.V1_2, **headers: str) -> bytes:
    """The same in one WebSocket frame."""
    return client_frame(bare(command, body, version, **headers))


class Peer:
    """A client's end, frame by frame."""

    def __init__(self, stream: trio.abc.Stream, version: Version = Version.V1_2) -> None:
        self.wire = Wire(stream)
        self.version = version
        self.close_code: int | None = None
        self.raw: list[bytes] = []
        self._decoder = FrameDecoder(Limits(), version)

    async def connect(self, *, then: bytes = b"", **headers: str) -> Frame:
        """Shake hands, CONNECT; what the server answers, normally CONNECTED."""
        await self.wire.shake_hands()
        await self.wire.send(stomp("CONNECT", accept_version=self.version.value, host="h", **headers), then)
        return await self.frame()

    async def send(self, *frames: bytes) -> None:
        """All of them in one write."""
        await self.wire.send(*frames)

    async def tell(self, *frames: bytes) -> None:
        """STOMP's own bytes, as the transport carries them, in one write."""
        await self.send(*(client_frame(frame) for frame in frames))

    async def say(self, command: str, body: bytes = b"", **headers: str) -> None:
        """One frame."""
        await self.send(stomp(command, body, self.version, **headers))

    async def subscribe(self, destination: str, id: str = "1") -> None:
        """Subscribe, and wait for the RECEIPT."""
        await self.say("SUBSCRIBE", destination=destination, id=id, receipt=f"sub-{id}")
        receipt = await self.frame()
        assert receipt.command == "RECEIPT", receipt

    async def frame(self) -> Frame:
        """The next STOMP frame; EOFError after a Close or a lost connection."""
        while (found := self._decoder.next_frame()) is None:
            with trio.fail_after(_LONG):
                seen = await self.wire.frame()
            if seen.opcode == CLOSE:
                self.close_code = seen.close_code
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.wire.send(close_frame(self.close_code))
                raise EOFError
            self.raw.append(seen.payload)
            self._decoder.receive_data(seen.payload)
        return found

    async def to_end(self) -> list[Frame]:
        """All frames until the server closes; `close_code` is set then."""
        found = []
        try:
            while True:
                found.append(await self.frame())
        except EOFError:
            return found


class TcpPeer(Peer):
    """The same without a WebSocket: `send` takes STOMP's own bytes, and there is no close code."""

    async def connect(self, *, then: bytes = b"", **headers: str) -> Frame:
        await self.wire.send(bare("CONNECT", accept_version=self.version.value, host="h", **headers), then)
        return await self.frame()

    async def tell(self, *frames: bytes) -> None:
        await self.send(*frames)

    async def say(self, command: str, body: bytes = b"", **headers: str) -> None:
        await self.send(bare(command, body, self.version, **headers))

    async def frame(self) -> Frame:
        """The next STOMP frame; EOFError when the server has hung up."""
        while (found := self._decoder.next_frame()) is None:
            with trio.fail_after(_LONG):
                data = await self.wire.read_some()
            self.raw.append(data)
            self._decoder.receive_data(data)
        return found


async def open_peer(
    server: TestServer, version: Version = Version.V1_2, *, then: bytes = b"", **headers: str
) -> Peer:
    """A connected peer."""
    peer = Peer(server.connect(), version)
    connected = await peer.connect(then=then, **headers)
    assert connected.command == "CONNECTED", connected
    return peer


class Gate(trio.abc.Stream):
    """A stream whose writes wait while it is shut: a peer that does not read."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._open = trio.Event()
        self._open.set()
        self._is_closed = False

    def shut(self) -> None:
        """Writes wait from now on."""
        self._open = trio.Event()

    def open(self) -> None:
        """Writes pass again, those that wait as well."""
        self._open.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._open.wait()
        if self._is_closed:
            raise trio.ClosedResourceError
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self._open.wait()

    async def aclose(self) -> None:
        self._is_closed = True
        self._open.set()
        await self._stream.aclose()


@contextlib.asynccontextmanager
async def gated_peer(server: TestServer, **headers: str) -> AsyncIterator[tuple[Peer, Gate]]:
    """A connected peer, and the gate before what the server writes to it."""
    ours, theirs = trio.testing.memory_stream_pair()
    gate = Gate(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.server.serve_stream, gate, "gated")
        peer = Peer(ours)
        await peer.connect(**headers)
        yield peer, gate
        gate.open()
        nursery.cancel_scope.cancel()


def run_pool_in(
    server: TestServer,
    run_sync: Callable[..., Awaitable[Any]],
    name: str = "client_inbound",
    threads: int = 1,
) -> None:
    """Have a pool's calls run by the test: a clock that jumps does not notice a running thread."""
    pools: Any = server.server.pools
    pools[name] = Pool(PoolDeclaration(name, threads=threads), run_sync=run_sync)


async def in_loop(fn: Callable[..., Any], *args: object, limiter: Any, abandon_on_cancel: bool) -> Any:
    """A pool's runner that calls at once, in the event loop."""
    turn = object()
    await limiter.acquire_on_behalf_of(turn)
    try:
        await trio.lowlevel.checkpoint()
        return fn(*args)
    finally:
        limiter.release_on_behalf_of(turn)


class HeldRunner:
    """A pool's runner whose calls hang, as a thread in a blocking call, until the test releases them."""

    def __init__(self) -> None:
        self._released = trio.Event()
        self.started = 0

    def release(self) -> None:
        """Let the calls end, those to come as well."""
        self._released.set()

    async def __call__(
        self, fn: Callable[..., Any], *args: object, limiter: Any, abandon_on_cancel: bool
    ) -> Any:
        turn = object()
        await limiter.acquire_on_behalf_of(turn)
        self.started += 1
        try:
            await self._released.wait()
            return fn(*args)
        finally:
            limiter.release_on_behalf_of(turn)


def without_heart_beats(**sections: Any) -> ServerConfig:
    """A configuration whose sessions are silent when nothing is sent, and all drained at once."""
    sections.setdefault("drain", DrainConfig(delay=0, window=0))
    stomp_section = sections.pop("stomp", {})
    return ServerConfig(
        stomp=StompConfig(heart_beat_send=0, heart_beat_receive=0, **stomp_section), **sections
    )


async def ended(server: TestServer, sessions: int = 0) -> None:
    """Wait until there are no more sessions than that, by the clock's jumps."""
    with trio.fail_after(1000):
        while server.statistics().sessions > sessions:  # noqa: ASYNC110  # nothing tells of it, nor has to
            await trio.sleep(0.5)
