"""The one task that connects a client, and connects it again.

Rule 1: who sends waits in one line, in order of arrival, and what has been written is never written again.
Rule 2: subscriptions go out before what waits.  Rule 3: whatever happens is decided here, once, and told:
to who waits, to who iterates, as an event and as a log line.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable

import trio

from trio_stomp.client.connection import NOTICES, Connection
from trio_stomp.client.endpoint import Endpoint, open_connection
from trio_stomp.client.events import (
    ClientEvent,
    ClientEvents,
    Connected,
    Disconnected,
    Draining,
    GaveUp,
    Retrying,
    level_of,
)
from trio_stomp.client.feed import Feed
from trio_stomp.client.reconnect import Backoff, Reconnect, is_final
from trio_stomp.client.waiting import WaitingRoom
from trio_stomp.config import ClientConfig
from trio_stomp.errors import (
    ConnectionLost,
    HandshakeRefused,
    LocalProtocolError,
    RemoteProtocolError,
    ServerError,
    TrioStompError,
)
from trio_stomp.stomp.frames import Frame

logger = logging.getLogger("trio_stomp.client")

_SERVER_QUEUE = "/user/queue/server"
_SERVER_NAME = "trio-stomp"
"""Whose server queue is subscribed to, by CONNECTED's ``server``: RabbitMQ would answer ERROR and close."""
_WORDS = 200
"""Characters of somebody else's text in an event or log line."""

Write = Callable[[Connection], Awaitable[None]]
WriteAsking = Callable[[Connection, str], Awaitable[None]]


class Supervisor:
    """A client's connection, and the next one.

    Args:
        reconnect: None: the first connection is the last.

    Attributes:
        connection: the one that lives or lived last; None before the first.
        failure: why there will be no further one; None while there may be.
        feeds: the subscriptions, by id.
        events: what has happened.
    """

    def __init__(self, endpoint: Endpoint, config: ClientConfig, reconnect: Reconnect | None) -> None:
        self.connection: Connection | None = None
        self.failure: Exception | None = None
        self.feeds: dict[str, Feed] = {}
        self.events = ClientEvents(config.events)
        self._endpoint = endpoint
        self._config = config
        self._reconnect = reconnect
        self._backoff = Backoff(reconnect or Reconnect())
        self._scope = trio.CancelScope()
        self._living: trio.CancelScope | None = None
        self._changed = trio.Event()
        self._opened = trio.Event()
        self._closed = trio.Event()
        self._is_ready = False
        self._is_closing = False
        self._has_notices = reconnect is not None
        self._attempt = 1
        self._next_at = self._since = trio.current_time()
        self._not_before: float | None = None
        self._room = WaitingRoom(config)

    @property
    def comes_back(self) -> bool:
        """Whether a lost connection is followed by another."""
        return self._reconnect is not None

    @property
    def is_connected(self) -> bool:
        """Whether what is sent now goes out now."""
        return self._is_ready and self.connection is not None and self.connection.failure is None

    async def run(self) -> None:
        """Connect and come back until that is over or `close` is called; `failure` says why it ended."""
        try:
            with self._scope:
                while self.failure is None:
                    await trio.sleep_until(self._next_at)
                    try:
                        await self._live()
                    except (OSError, TrioStompError) as error:
                        self._failed(error)
        finally:
            self._finish(ConnectionLost("the client is closed", code=1000))
            self._closed.set()

    def close(self) -> None:
        """Make `run` end: DISCONNECT if there is a connection, else at once."""
        self._is_closing = True
        if self._living is not None:
            self._living.cancel()
        else:
            self._scope.cancel()

    async def wait_opened(self) -> None:
        """Return once there was a connection.

        Raises:
            Exception: what ended the attempts instead.
        """
        await self._opened.wait()
        if self.connection is None:
            assert self.failure is not None
            await trio.lowlevel.checkpoint_if_cancelled()
            raise self.failure

    async def wait_closed(self) -> None:
        """Return once `run` has ended."""
        await self._closed.wait()

    async def put(self, write: Write, size: int) -> Connection:
        """Have one frame written on this connection, or on the next one; return which it was.

        Cancelling is safe: it is written whole or not at all.

        Args:
            write: hands the frame to the connection given, as `Connection.put`.
            size: in bytes, about.

        Raises:
            TrioStompError: the frame is not legal, there is no connection and sends don't wait, too many
                wait already, or there will be no further one.
        """
        connection = self.connection
        if connection is not None and self.is_connected and not self._room:
            try:
                await write(connection)
                return connection
            except TrioStompError:
                if connection.failure is None or self._reconnect is None:
                    raise
        if self._reconnect is None or self._reconnect.sends == "fail":
            await trio.lowlevel.checkpoint()
            raise self._absent()
        if self.failure is not None:
            await trio.lowlevel.checkpoint()
            raise self.failure
        async with self._room.turn(size, is_bounded=not self.is_connected):
            while True:
                connection = await self._next_connection()
                try:
                    await write(connection)
                    return connection
                except TrioStompError:
                    if connection.failure is None:
                        raise

    async def ask(self, write: WriteAsking, size: int) -> TrioStompError | None:
        """As `put`, and wait for the RECEIPT.

        Returns what ended the connection in between, when it is not known whether the frame was acted upon.

        Args:
            write: is given the receipt's id as well.

        Raises:
            ServerError: it was refused (or something was, and the server does not say what).
            ReceiptTimeout: no RECEIPT came in time.
            TrioStompError: as `put`; without `Reconnect`, what ended the connection.
        """
        receipt = ""
        with contextlib.ExitStack() as expecting:

            async def write_asking(connection: Connection) -> None:
                nonlocal receipt
                expecting.close()  # what a connection that was lost would have answered
                receipt = expecting.enter_context(connection.expect_receipt())
                await write(connection, receipt)

            connection = await self.put(write_asking, size)
            return await self._wait_receipt(connection, receipt)

    async def confirm(self, connection: Connection, receipt: str) -> None:
        """Wait for the RECEIPT that answers ``receipt``, one that this connection expects.

        Raises:
            ConnectionLost: the connection ended before: it is not known whether the frame was acted upon.
            TrioStompError: as `ask`.
        """
        try:
            lost = await self._wait_receipt(connection, receipt)
        except ConnectionLost as error:
            lost = error
        if lost is not None:
            raise not_known(lost) from lost

    async def _wait_receipt(self, connection: Connection, receipt: str) -> TrioStompError | None:
        try:
            await connection.wait_receipt(receipt)
        except TrioStompError as error:
            if self._reconnect is None or connection.failure is None:
                raise
            if isinstance(error, ServerError) and _is_about(error, receipt):
                raise
            return error
        return None

    async def subscribe(self, feed: Feed) -> None:
        """Ask for a subscription, as often as the connection is lost before its RECEIPT.

        Raises:
            TrioStompError: as `ask`.
        """
        self.feeds[feed.key] = feed

        async def write(connection: Connection, receipt: str) -> None:
            await connection.subscribe(feed.key, feed.destination, feed.headers, receipt)

        while await self.ask(write, feed.size) is not None:
            if self._reconnect is not None and self._reconnect.sends == "fail":
                raise self._absent()

    async def unsubscribe(self, feed: Feed) -> None:
        """Forget a subscription, and say so if there is a connection; never fails. Not to be cancelled."""
        self.feeds.pop(feed.key, None)
        feed.close()
        assert self.connection is not None  # who subscribes has a client, which has, or had, a connection
        with contextlib.suppress(TrioStompError):  # it has ended
            await self.connection.unsubscribe(feed.key)

    # The connection's life.

    async def _live(self) -> None:
        connecting = open_connection(
            self._endpoint, self._config, feeds=self.feeds, notice=self._hear if self._reconnect else None
        )
        async with connecting as connection:
            started = trio.current_time()
            with trio.CancelScope() as self._living:
                self.connection = connection
                await self._take_over(connection)
                await connection.wait_ended()
            self._living = None
            self._is_ready = False
            # `close` may come when the connection has just ended, and its cancelling is not noticed any more.
            if connection.failure is None or self._is_closing:
                self._finish(ConnectionLost("the client is closed", code=1000))
            else:
                self._lost(connection, connection.failure, trio.current_time() - started)

    async def _take_over(self, connection: Connection) -> None:
        """Ask for the subscriptions, then let go what waits."""
        self._not_before = None
        with contextlib.suppress(TrioStompError):  # it has ended already, which `_live` sees
            if self._has_notices and (connection.protocol.server or "").startswith(_SERVER_NAME):
                await connection.subscribe(NOTICES, _SERVER_QUEUE, {})
            for feed in list(self.feeds.values()):
                if feed.is_confirmed and feed.key in self.feeds:  # else who asks for it does so
                    await self._subscribe_again(connection, feed)
        self._is_ready = True
        self._tell(Connected(self._attempt, trio.current_time() - self._since))
        self._opened.set()
        self._notify()

    async def _subscribe_again(self, connection: Connection, feed: Feed) -> None:
        try:
            await connection.subscribe(feed.key, feed.destination, feed.headers)
        except LocalProtocolError as error:
            if connection.failure is not None:
                raise
            self.feeds.pop(feed.key).end(
                error
            )  # another version is spoken now, and does not have its ack mode

    def _hear(self, frame: Frame) -> None:
        """Act on what a server says of itself."""
        assert self._reconnect is not None
        try:
            notice = json.loads(frame.body)
            after = float(notice["reconnect_after"]) if notice["event"] == "draining" else None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            after = None
        if after is None or not after >= 0:
            logger.info("%s: a notice that is not understood, of %d bytes", self._name, len(frame.body))
            return
        after = min(after, self._reconnect.longest_wish)
        self._not_before = trio.current_time() + after
        self._tell(Draining(after))

    def _lost(self, connection: Connection, error: TrioStompError, lived: float) -> None:
        now = trio.current_time()
        self._since, self._attempt = now, 1
        self._tell(Disconnected(code_of(error), _words(error)))
        for feed in self.feeds.values():
            feed.lost()
        if self._reconnect is None:
            self._finish(error)
            return
        for key in connection.confirmed & self.feeds.keys():
            self.feeds[key].is_confirmed = True
        if connection.refused is not None:
            self._refused(connection.refused, error)
        told = None if self._not_before is None else max(0.0, self._not_before - now)
        self._retry(self._backoff.after_loss(error, lived=lived, told=told), error)

    def _refused(self, key: str, error: TrioStompError) -> None:
        """Don't ask again for a subscription that the server has answered with ERROR."""
        if key == NOTICES:
            self._has_notices = False
        elif key in self.feeds and self.feeds[key].is_confirmed:  # else `ask` raises it
            self.feeds.pop(key).end(error)

    def _failed(self, error: Exception) -> None:
        if self._reconnect is None:
            self._finish(error)
        elif is_final(error):
            self._tell(GaveUp(_words(error)))
            self._finish(error)
        elif self._attempt == self._reconnect.attempts:
            text = f"{self._attempt} attempts have failed, the last one: {_words(error)}"
            self._tell(GaveUp(text))
            failure = ConnectionLost(text)
            failure.__cause__ = error
            self._finish(failure)
        else:
            self._attempt += 1
            self._retry(self._backoff.after_failure(error), error)

    def _retry(self, delay: float, error: Exception) -> None:
        self._next_at = trio.current_time() + delay
        self._tell(Retrying(self._attempt, delay, _words(error)))

    def _finish(self, failure: Exception) -> None:
        """There will be no further connection; the first reason stays."""
        if self.failure is not None:
            return
        self.failure = failure
        for feed in self.feeds.values():
            feed.end(failure)
        self.feeds.clear()
        self.events.close()
        self._opened.set()
        self._notify()

    def _tell(self, event: ClientEvent) -> None:
        self.events.put(event)
        if self._reconnect is not None:
            logger.log(level_of(event), "%s: %s", self._name, event)

    # Who waits.

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _next_connection(self) -> Connection:
        while not self.is_connected:
            if self.failure is not None:
                await trio.lowlevel.checkpoint_if_cancelled()  # who is cancelled is told of nothing else
                raise self.failure
            await self._changed.wait()
        assert self.connection is not None
        return self.connection

    def _absent(self) -> Exception:
        """What a send raises that does not wait."""
        if self.failure is not None:
            return self.failure
        last = None if self.connection is None else self.connection.failure
        if self._reconnect is None and last is not None:
            return last
        error = ConnectionLost(f"not connected, nothing was sent: {_words(last)}", code=code_of(last))
        error.__cause__ = last
        return error

    @property
    def _name(self) -> str:
        return self._endpoint.authority


def _is_about(error: ServerError, receipt: str) -> bool:
    """Whether a frame with this receipt was refused, or may have been: RabbitMQ does not say which."""
    return error.frame.headers.get("receipt-id", receipt) == receipt


def not_known(lost: TrioStompError) -> ConnectionLost:
    """What is raised when a connection that was lost owes a RECEIPT."""
    text = f"the connection was lost before the RECEIPT, whether it was done is not known: {lost}"
    return ConnectionLost(text, code=code_of(lost))


def code_of(error: Exception | None) -> int:
    """The WebSocket close code of what ended a connection; 1006 when there was none."""
    if isinstance(error, RemoteProtocolError):
        return error.close_code
    return int(error.code) if isinstance(error, ConnectionLost) else 1006


def _words(error: Exception | None) -> str:
    """What an error says, on one line, without what may be somebody's secret: no body of an answer."""
    text = f"HTTP status {error.status}" if isinstance(error, HandshakeRefused) else str(error)
    line = " ".join(text.split())[:_WORDS]
    return "".join(character if character.isprintable() else "?" for character in line)
