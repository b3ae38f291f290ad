"""One client connection: a reader, a writer and a heart-beat task over one transport.

Rule 1: only the writer sends; who wants something sent hands it over, so cancelling a caller
never breaks the stream.  Rule 2: when the connection ends, everybody who waits is told why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import trio

from trio_stomp.config import ClientConfig
from trio_stomp.errors import ConnectionLost, ReceiptTimeout, RemoteProtocolError, ServerError, TrioStompError
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import HEART_BEAT, Frame
from trio_stomp.transport.websocket import ClientTransport

_EARLY = 0.9  # a heart-beat goes out after this share of what was promised


class Connection:
    """Frames in, frames out, receipts, and the end.

    Attributes:
        protocol: the STOMP state machine.
        failure: why the connection ended; None while it lives.
    """

    def __init__(self, transport: ClientTransport, protocol: ClientProtocol, config: ClientConfig) -> None:
        self.protocol = protocol
        self.failure: TrioStompError | None = None
        self.connected: Frame | None = None
        self._transport = transport
        self._config = config
        self._queue, self._queued = trio.open_memory_channel[bytes](0)
        self._receipts: dict[str, trio.Event] = {}
        self._receipt_count = 0
        self._sinks: dict[str, trio.MemorySendChannel[Frame]] = {}
        self._welcome = trio.Event()
        self._is_closing = False

    async def run(self) -> None:
        """Read, write and beat until the connection ends; `failure` says why, nothing is raised."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._beat)
            try:
                await self._read()
            except TrioStompError as error:
                self._end(error)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._end(ConnectionLost("connection lost"))
            finally:
                self._end(ConnectionLost("the client is closed", code=1000))
                nursery.cancel_scope.cancel()

    async def connect(self, frame: bytes) -> Frame:
        """Send CONNECT and give the CONNECTED frame.

        Raises:
            ServerError: the server refused with ERROR.
            ConnectionLost: it hung up.
        """
        await self.put(frame)
        await self._welcome.wait()
        if self.connected is None:
            await self.refuse()
        return self.connected

    async def put(self, frame: bytes) -> None:
        """Hand one frame to the writer; cancelling is safe: it is sent whole or not at all.

        Raises:
            TrioStompError: the connection has ended; which subclass says why.
        """
        await self.check()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._queue.send(frame)
            return
        await self.refuse()

    async def check(self) -> None:
        """Return while the connection lives, without yielding.

        Raises:
            TrioStompError: it has ended; which subclass says why.
        """
        if self.failure is not None:
            await self.refuse()

    async def refuse(self) -> NoReturn:
        """Raise why the connection has ended; who is cancelled with it is told of nothing else."""
        await trio.lowlevel.checkpoint_if_cancelled()
        raise ConnectionLost("connection lost") if self.failure is None else self.failure

    @contextmanager
    def expect_receipt(self) -> Iterator[str]:
        """A receipt id that was not used on this connection, to be awaited while the context lasts."""
        self._receipt_count += 1
        receipt = f"r{self._receipt_count}"
        self._receipts[receipt] = trio.Event()
        try:
            yield receipt
        finally:
            self._receipts.pop(receipt, None)

    async def wait_receipt(self, receipt: str) -> None:
        """Wait for the RECEIPT that answers ``receipt``, an expected one.

        Raises:
            ReceiptTimeout: none came within ``receipt_timeout`` seconds.
            TrioStompError: the connection ended before.
        """
        event = self._receipts.get(receipt)
        if event is None:  # it has come already
            return
        with trio.move_on_after(self._config.receipt_timeout):
            await event.wait()
            if receipt in self._receipts:  # the end of the connection has set it
                await self.refuse()
            return
        raise ReceiptTimeout(f"no RECEIPT within {self._config.receipt_timeout:g} seconds")

    def open_sink(self, key: str) -> trio.MemoryReceiveChannel[Frame]:
        """Where a subscription's MESSAGEs arrive; bounded, and a full one stops the reading."""
        send, receive = trio.open_memory_channel[Frame](self._config.messages)
        self._sinks[key] = send
        return receive

    def close_sink(self, key: str) -> None:
        """MESSAGEs of this subscription are dropped from now on."""
        sink = self._sinks.pop(key, None)
        if sink is not None:
            sink.close()

    async def aclose(self) -> None:
        """DISCONNECT, wait for its RECEIPT, close. Takes ``close_timeout`` seconds twice at most."""
        self._is_closing = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.close_timeout):
            try:
                if self.failure is None and self.connected is not None:
                    with self.expect_receipt() as receipt:
                        await self.put(self.protocol.disconnect(receipt))
                        await self.wait_receipt(receipt)
            except TrioStompError:
                pass  # it ended first: closed is closed
        await self._transport.aclose()

    async def _read(self) -> None:
        protocol = self.protocol
        while True:
            protocol.receive_data(await self._transport.receive())
            while (frame := protocol.next_frame()) is not None:
                await self._act(frame)

    async def _act(self, frame: Frame) -> None:
        match frame.command:
            case "MESSAGE":
                sink = self._sinks.get(frame.headers.get("subscription", ""))
                if sink is not None:
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # unsubscribed
                        await sink.send(frame)
            case "RECEIPT":
                event = self._receipts.pop(frame.headers["receipt-id"], None)
                if event is not None:
                    event.set()
            case "CONNECTED":
                self.connected = frame
                self._welcome.set()
            case "ERROR":
                raise ServerError(frame.headers.get("message", "ERROR without a message"), frame)

    async def _write(self) -> None:
        try:
            async for frame in self._queued:
                await self._transport.send(frame)
        except ConnectionLost as error:
            self._end(error)
        except trio.ClosedResourceError:
            pass  # the connection has ended meanwhile

    async def _beat(self) -> None:
        await self._welcome.wait()
        if self.connected is None:
            return
        beat, wire = self.protocol.heart_beat, self._transport.wire
        every = beat.send * _EARLY or math.inf
        allowed = beat.receive * self._config.heart_beat_tolerance or math.inf
        while True:
            now = trio.current_time()
            if now >= wire.last_written + every:
                try:
                    await self.put(HEART_BEAT)
                except TrioStompError:
                    return
                now = trio.current_time()
            if (silence := wire.silence(now)) >= allowed:
                self._end(ConnectionLost(f"no heart-beat for {silence:.1f} seconds"))
                await self._transport.aclose(1002, "no heart-beat")
                return
            due = min(max(wire.last_written + every, now + every / 10), now + allowed - silence)
            await trio.sleep_until(due)

    def _end(self, error: TrioStompError) -> None:
        if self.failure is not None:
            return
        if isinstance(error, RemoteProtocolError):
            self.protocol.close()
        self.failure = error
        self._welcome.set()
        for event in self._receipts.values():
            event.set()
        self._queued.close()
        for key in list(self._sinks):
            self.close_sink(key)
