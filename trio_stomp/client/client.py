"""`open_client`: connect, subscribe, send, receive, come back, close.

Rule 1: what is opened is a context manager, what arrives is an async iterator.
Rule 2: leaving a context is clean: UNSUBSCRIBE, or DISCONNECT with its RECEIPT, then close 1000.
"""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import trio

from trio_stomp.client.connection import Connection
from trio_stomp.client.endpoint import Dial, Endpoint, dial_url
from trio_stomp.client.events import ClientEvents
from trio_stomp.client.feed import Feed
from trio_stomp.client.received import ReceivedMessage
from trio_stomp.client.reconnect import Reconnect
from trio_stomp.client.supervisor import Supervisor, not_known
from trio_stomp.client.transaction import Transaction, acknowledge, open_transaction, outgoing
from trio_stomp.config import ClientConfig
from trio_stomp.groups import bare_errors
from trio_stomp.messages.conversion import Converter, Reader
from trio_stomp.stomp.frames import Version


class Subscription:
    """One subscription's messages, as an async iterator.

    Iterating gives a `ReceivedMessage`; when the subscription has a type and acknowledges by itself, the
    payload alone. It ends when the subscription's context is left, and raises what ended the connection.
    With `Reconnect` it goes on after a loss, with what had arrived before and then what arrives on the
    next connection (what was sent in between is missed), and raises when the client gives up. What is
    to be acknowledged and was not read before a loss is dropped: the server gives it out again.
    """

    def __init__(self, feed: Feed, read: Reader | None) -> None:
        self._feed = feed
        self._read = read

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:
        """The next message.

        Raises:
            ServerError: the server sent ERROR.
            ConnectionLost: the connection has ended.
            ConversionError: the payload does not fit the subscription's type.
        """
        arrival = await self._feed.get()
        headers, body = arrival.frame.headers, arrival.frame.body
        if self._read is not None and self._feed.ack == "auto":
            return self._read(body, headers.get("content-type"))
        destination = headers.get("destination", "")
        return ReceivedMessage(destination, headers, body, arrival=arrival, read=self._read)

    async def receive(self) -> Any:
        """As ``anext``: the next message, waiting for it."""
        return await self.__anext__()


class Client:
    """A connected STOMP client; made by `open_client`."""

    def __init__(self, supervisor: Supervisor, config: ClientConfig, converter: Converter) -> None:
        self._supervisor = supervisor
        self._config = config
        self._converter = converter
        self._ids = itertools.count(1)
        self._transactions = itertools.count(1)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection at this moment, as far as is known."""
        return self._supervisor.is_connected

    @property
    def events(self) -> ClientEvents:
        """What becomes of the connection, as an async iterator of values; there is one for all who ask."""
        return self._supervisor.events

    @property
    def version(self) -> Version:
        """The STOMP version agreed on; after a loss the last one, until there is another."""
        return self._connection.protocol.version

    @property
    def session(self) -> str | None:
        """The server's name for this session, if it gave one; each connection has its own."""
        connected = self._connection.connected
        return None if connected is None else connected.headers.get("session")

    @property
    def user_name(self) -> str | None:
        """The name under which the server knows us, if it said so."""
        connected = self._connection.connected
        return None if connected is None else connected.headers.get("user-name")

    @property
    def _connection(self) -> Connection:
        connection = self._supervisor.connection
        assert connection is not None  # a Client is made when there is one
        return connection

    async def send(
        self,
        destination: str,
        payload: object = b"",
        *,
        headers: Mapping[str, str] | None = None,
        receipt: bool = False,
    ) -> None:
        """Send one message.

        ``str`` goes as text, ``bytes`` as they are, anything else as JSON; a ``content-type`` in
        ``headers`` wins. With ``receipt`` it returns when the server has vouched for the effect,
        else when the frame is on its way. While a client with `Reconnect` has no connection it waits
        for the next one, in line, unless ``sends`` is "fail". What has been written is never written again.

        Raises:
            ReceiptTimeout: no RECEIPT came within ``receipt_timeout`` seconds (10 by default).
            ServerError: the server refused with ERROR.
            ConnectionLost: the connection has ended: before the RECEIPT, so that it is not known
                whether the message had its effect; or there is none, and this send does not wait.

        Cancelling is safe: the frame is sent whole or not at all.
        """
        body, all_headers = outgoing(self._converter, payload, headers)
        size = len(destination) + len(body) + sum(map(len, all_headers)) + sum(map(len, all_headers.values()))

        async def write(connection: Connection) -> None:
            await connection.put(connection.protocol.send(destination, body, all_headers))

        async def write_asking(connection: Connection, wanted: str) -> None:
            all_headers["receipt"] = wanted
            await write(connection)

        if not receipt:
            await self._supervisor.put(write, size)
            return
        lost = await self._supervisor.ask(write_asking, size)
        if lost is not None:
            raise not_known(lost) from lost

    @contextlib.asynccontextmanager
    async def subscribe(
        self,
        destination: str,
        payload_type: Any = None,
        *,
        ack: str = "auto",
        prefetch: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Subscription]:
        """Subscribe for as long as the context lasts.

        It is entered after the server's RECEIPT: what is sent to the destination from then on
        arrives. With ``payload_type`` iterating gives payloads of that type instead of messages.
        With `Reconnect` every next connection is subscribed with the same id and headers; a server that
        then refuses it ends this subscription, and no other.

        With ``ack`` "client-individual" or "client" each message is to be acknowledged with `ack`, and the
        server gives out again what is not when the subscription or the connection ends. Iterating then gives
        messages whatever the type: it is that of their ``payload``.

        Args:
            ack: "auto" (the default): the server takes for acknowledged what it has sent.
            prefetch: how many messages may be unacknowledged (the ``prefetch-count`` header); by default as
                many as the server thinks right, 100 with one of ours.

        Raises:
            ValueError: ``prefetch`` is below 1, or there is nothing to acknowledge.
            LocalProtocolError: the STOMP version has no such ack mode.
            ReceiptTimeout, ServerError, ConnectionLost: as `send`; but a subscription whose RECEIPT a
                lost connection owes is asked for again.
        """
        said = {"ack": ack, **(headers or {})}
        if prefetch is not None:
            if prefetch < 1:
                raise ValueError(f"prefetch {prefetch!r}, expected 1 or more messages")
            if said["ack"] == "auto":
                raise ValueError(
                    f"prefetch {prefetch!r} with ack 'auto', which leaves nothing unacknowledged"
                )
            said["prefetch-count"] = str(prefetch)
        read = None if payload_type is None else self._converter.reader(payload_type)
        # Room for all that may be unacknowledged: else a RECEIPT could be stuck behind what nobody reads yet.
        limit = max(self._config.messages, prefetch or 0)
        feed = Feed(f"s{next(self._ids)}", destination, said, limit)
        try:
            await self._supervisor.subscribe(feed)
            yield Subscription(feed, read)
        finally:
            with trio.CancelScope(shield=True):
                await self._supervisor.unsubscribe(feed)

    async def ack(
        self, message: ReceivedMessage, *, transaction: Transaction | None = None, receipt: bool = False
    ) -> None:
        """Acknowledge a message, and in mode "client" all of its subscription that came before it.

        Returns when the frame is on its way, or with ``receipt`` when the server has vouched for it.
        With ``transaction`` it takes effect when that is committed.

        Raises:
            LocalProtocolError: nothing was sent: the subscription acknowledges by itself or has ended, the
                message is acknowledged already, or came on another connection: after a loss its id means
                nothing any more, and the server gives the message out again.
            ReceiptTimeout, ServerError, ConnectionLost: as `send`. It never waits for the next connection.

        Cancelling is safe: the frame is sent whole or not at all.
        """
        await self._acknowledge(message, True, transaction, receipt)

    async def nack(
        self, message: ReceivedMessage, *, transaction: Transaction | None = None, receipt: bool = False
    ) -> None:
        """Give a message back, for the server to give it out again; else as `ack`.

        Raises:
            LocalProtocolError: there is no NACK in STOMP 1.0; and as `ack`.
        """
        await self._acknowledge(message, False, transaction, receipt)

    async def _acknowledge(
        self, message: ReceivedMessage, is_taken: bool, transaction: Transaction | None, receipt: bool
    ) -> None:
        if transaction is not None:
            await (transaction.ack if is_taken else transaction.nack)(message, receipt=receipt)
        else:
            await acknowledge(
                self._supervisor, self._connection, message.arrival, is_taken=is_taken, receipt=receipt
            )

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Transaction]:
        """Have what is sent and acknowledged with the transaction take effect as a whole, or not at all.

        Entering sends BEGIN, waiting for a connection as `send` does. Leaving sends COMMIT, and returns when
        the server's RECEIPT vouches for it; an exception or cancelling sends ABORT instead. What was cut by
        the end of its connection is not done, and is not repeated on the next one.

        Raises:
            ConnectionLost: the connection has ended: before COMMIT, so that nothing was done; or before its
                RECEIPT, so that it is not known.
            LocalProtocolError: a subscription whose messages it acknowledges has ended; nothing was done.
            ReceiptTimeout, ServerError: as `send`.
        """
        name = f"t{next(self._transactions)}"
        return open_transaction(name, self._supervisor, self._converter, self._config)


@contextlib.asynccontextmanager
async def open_client(
    url: str,
    *,
    login: str | None = None,
    passcode: str | None = None,
    host: str | None = None,
    headers: Mapping[str, str] | None = None,
    http_headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    config: ClientConfig | None = None,
    converter: Converter | None = None,
    reconnect: Reconnect | None = None,
) -> AsyncIterator[Client]:
    """Connect to a STOMP server over WebSocket, for as long as the context lasts.

    ``url`` is ``ws://`` or ``wss://``; ``host`` the virtual host (by default the URL's);
    ``headers`` go into CONNECT, ``http_headers`` into the handshake. Leaving sends DISCONNECT,
    waits for its RECEIPT and closes; without a connection it ends at once. A program that Ctrl-C ends does so
    reliably by ``trio.run(…, restrict_keyboard_interrupt_to_checkpoints=True)``, or by a signal receiver: by
    default Trio raises KeyboardInterrupt anywhere, and in the middle of starting a task that leaves a nursery
    which nothing ends.

    With ``reconnect`` the first connection, too, is tried until there is one, and a lost one is followed
    by another: see `Reconnect`, and `Client.events` for what happens. It gives up, and then raises from
    here or from whatever waits, when that makes no sense: a status below 500 at the handshake, ERROR at
    CONNECT, a certificate that is not trusted, or as many failures as ``Reconnect.attempts`` allows.

    Raises:
        ValueError: the URL is not one of a WebSocket.
        OSError: nobody listens there.
        HandshakeRefused: the server answered with another HTTP status than 101.
        ServerError: it refused CONNECT.
        ConnectionLost: it hung up, did not answer within ``connect_timeout`` seconds (10), or its
            certificate is not trusted.
    """
    config = config or ClientConfig()
    dial = dial_url(url, ssl_context, config.connect_timeout)
    parts = urlsplit(url)
    async with open_client_by(
        dial,
        authority=parts.netloc.rpartition("@")[2],
        resource=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        login=login,
        passcode=passcode,
        host=host or parts.hostname or "",
        headers=headers,
        http_headers=http_headers,
        config=config,
        converter=converter,
        reconnect=reconnect,
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def open_client_by(
    dial: Dial,
    *,
    authority: str,
    resource: str,
    login: str | None = None,
    passcode: str | None = None,
    host: str,
    headers: Mapping[str, str] | None = None,
    http_headers: Mapping[str, str] | None = None,
    config: ClientConfig,
    converter: Converter | None = None,
    reconnect: Reconnect | None = None,
) -> AsyncIterator[Client]:
    """As `open_client`, over streams that ``dial`` opens, one for each connection.

    ``authority`` is for the Host header, ``resource`` path and query of the endpoint.
    """
    endpoint = Endpoint(
        dial=dial,
        authority=authority,
        resource=resource,
        host=host,
        login=login,
        passcode=passcode,
        headers=headers,
        http_headers=http_headers,
    )
    supervisor = Supervisor(endpoint, config, reconnect)
    with bare_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            try:
                await supervisor.wait_opened()
                yield Client(supervisor, config, converter or Converter())
            finally:
                supervisor.close()
                with trio.CancelScope(shield=True):  # it takes ``close_timeout`` seconds twice at most
                    await supervisor.wait_closed()


@contextlib.asynccontextmanager
async def open_client_over(
    stream: trio.abc.Stream,
    *,
    authority: str,
    resource: str,
    login: str | None = None,
    passcode: str | None = None,
    host: str,
    headers: Mapping[str, str] | None = None,
    http_headers: Mapping[str, str] | None = None,
    config: ClientConfig,
    converter: Converter | None = None,
) -> AsyncIterator[Client]:
    """As `open_client`, over one stream that is connected already."""

    async def dial() -> trio.abc.Stream:
        return stream

    async with open_client_by(
        dial,
        authority=authority,
        resource=resource,
        login=login,
        passcode=passcode,
        host=host,
        headers=headers,
        http_headers=http_headers,
        config=config,
        converter=converter,
    ) as client:
        yield client
