"""One client connection: a reader, a writer and a heart-beat task over one transport.

Rule 1: only the writer sends; who wants something sent hands it over, so cancelling a caller
never breaks the stream.  Rule 2: when the connection ends, everybody who waits is told why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NoReturn

import trio

from trio_stomp.client.feed import Feed
from trio_stomp.config import ClientConfig
from trio_stomp.errors import ConnectionLost, ReceiptTimeout, RemoteProtocolError, ServerError, TrioStompError
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import HEART_BEAT, Frame
from trio_stomp.transport.websocket import ClientTransport

_EARLY = 0.9  # a heart-beat goes out after this share of what was promised

NOTICES = "server"
"""Id of the subscription to the server's own events; those of users begin with "s" and a digit."""


class Connection:
    """Frames in, frames out, receipts, and the end.

    Args:
        feeds: where the MESSAGEs of each subscription go; a full one stops the reading.
        notice: what is done with those of `NOTICES`.

    Attributes:
        protocol: the STOMP state machine.
        failure: why the connection ended; None while it lives.
        connected: the CONNECTED frame.
        confirmed: ids of the subscriptions whose RECEIPT has come.
        refused: id of the one that the server's ERROR was about, if it was about one and said so.
    """

    def __init__(
        self,
        transport: ClientTransport,
        protocol: ClientProtocol,
        config: ClientConfig,
        feeds: Mapping[str, Feed],
        notice: Callable[[Frame], None] | None = None,
    ) -> None:
        self.protocol = protocol
        self.failure: TrioStompError | None = None
        self.connected: Frame | None = None
        self.confirmed: set[str] = set()
        self.refused: str | None = None
        self._feeds = feeds
        self._notice = notice
        self._asked: dict[str, str] = {}  # receipt → id, of subscriptions that the server has not answered
        self._transport = transport
        self._config = config
        self._queue, self._queued = trio.open_memory_channel[bytes](0)
        self._receipts: dict[str, trio.Event] = {}
        self._receipt_count = 0
        self._pause: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._welcome = trio.Event()

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

    async def wait_ended(self) -> None:
        """Return once the connection has ended; `failure` says why."""
        await self._ended.wait()

    def next_receipt(self) -> str:
        """A receipt id that was not used on this connection."""
        self._receipt_count += 1
        return f"r{self._receipt_count}"

    @contextmanager
    def expect_receipt(self) -> Iterator[str]:
        """A receipt id that was not used on this connection, to be awaited while the context lasts."""
        receipt = self.next_receipt()
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

    async def subscribe(
        self, key: str, destination: str, headers: Mapping[str, str], receipt: str | None = None
    ) -> None:
        """Hand SUBSCRIBE to the writer, as `put`; its RECEIPT puts ``key`` into `confirmed`.

        Args:
            receipt: an id that the caller waits for; by default one that nobody does.
        """
        receipt = receipt or self.next_receipt()
        frame = self.protocol.subscribe(key, destination, headers={**headers, "receipt": receipt})
        self._asked[receipt] = key
        try:
            await self.put(frame)
        except BaseException:  # it was not sent, so there is nothing to unsubscribe
            self._forget(key)
            self.protocol.subscriptions.pop(key, None)
            raise

    async def unsubscribe(self, key: str) -> None:
        """Hand UNSUBSCRIBE to the writer, as `put`, if there is something to unsubscribe."""
        if self.failure is None and key in self.protocol.subscriptions:
            self._forget(key)
            await self.put(self.protocol.unsubscribe(key))

    async def begin(self, transaction: str) -> None:
        """Hand BEGIN to the writer, as `put`."""
        frame = self.protocol.begin(transaction)
        try:
            await self.put(frame)
        except BaseException:  # it was not sent
            self.protocol.transactions.discard(transaction)
            raise

    async def commit(self, transaction: str, receipt: str) -> None:
        """Hand COMMIT to the writer, as `put`; what fails leaves the transaction open."""
        frame = self.protocol.commit(transaction, headers={"receipt": receipt})
        try:
            await self.put(frame)
        except BaseException:
            self.protocol.transactions.add(transaction)
            raise

    async def abort(self, transaction: str) -> None:
        """Hand ABORT to the writer, as `put`."""
        await self.put(self.protocol.abort(transaction))

    async def aclose(self) -> None:
        """DISCONNECT, wait for its RECEIPT, close. Takes ``close_timeout`` seconds twice at most.

        One that has not come as far as CONNECTED, nor to an ERROR, is aborted: nothing depends on it.
        """
        if self.connected is None and (self.failure is None or isinstance(self.failure, ConnectionLost)):
            with trio.CancelScope(shield=True):
                await self._transport.wire.abort()
            return
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
            while self.failure is None and (frame := protocol.next_frame()) is not None:
                await self._act(frame)
            await self.check()

    async def _act(self, frame: Frame) -> None:
        match frame.command:
            case "MESSAGE":
                await self._deliver(frame, frame.headers.get("subscription", ""))
            case "RECEIPT":
                key = self._asked.pop(frame.headers["receipt-id"], None)
                if key is not None:
                    self.confirmed.add(key)
                event = self._receipts.pop(frame.headers["receipt-id"], None)
                if event is not None:
                    event.set()
            case "CONNECTED":
                self.connected = frame
                self._welcome.set()
            case "ERROR":
                self.refused = self._asked.get(frame.headers.get("receipt-id", ""))
                raise ServerError(frame.headers.get("message", "ERROR without a message"), frame)

    async def _deliver(self, frame: Frame, key: str) -> None:
        if key == NOTICES and self._notice is not None:
            self._notice(frame)
        elif (feed := self._feeds.get(key)) is not None:  # else it was unsubscribed meanwhile
            feed.put(frame, self)
            if feed.is_full:
                with trio.CancelScope() as self._pause:  # until there is room or the connection has ended
                    await feed.room()

    def _forget(self, key: str) -> None:
        self._asked = {receipt: asked for receipt, asked in self._asked.items() if asked != key}

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
                await self._transport.abandon(1002, "no heart-beat")
                return
            due = min(max(wire.last_written + every, now + every / 10), now + allowed - silence)
            await trio.sleep_until(due)

    def _end(self, error: TrioStompError) -> None:
        if self.failure is not None:
            return
        if isinstance(error, RemoteProtocolError):
            self.protocol.close()
        self.failure = error
        self._ended.set()
        self._welcome.set()
        for event in self._receipts.values():
            event.set()
        self._queued.close()
        if self._pause is not None:
            self._pause.cancel()
