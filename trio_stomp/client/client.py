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
from trio_stomp.client.reconnect import Reconnect
from trio_stomp.client.supervisor import Supervisor
from trio_stomp.config import ClientConfig
from trio_stomp.errors import ConnectionLost
from trio_stomp.groups import bare_errors
from trio_stomp.messages.conversion import Converter
from trio_stomp.messages.message import Message
from trio_stomp.stomp.frames import Version


class Subscription:
    """One subscription's messages, as an async iterator.

    Iterating gives a `Message`, or the payload itself when the subscription has a type. It ends
    when the subscription's context is left, and raises what ended the connection. With
    `Reconnect` it goes on after a loss, with what had arrived before and then what arrives on the
    next connection (what was sent in between is missed), and raises when the client gives up.
    """

    def __init__(self, feed: Feed, read: Any) -> None:
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
        frame = await self._feed.get()
        if self._read is not None:
            return self._read(frame.body, frame.headers.get("content-type"))
        return Message(frame.headers.get("destination", ""), frame.headers, frame.body)

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
        body, content_type = self._converter.encode(payload)
        all_headers = {"content-type": content_type} if body else {}
        all_headers |= headers or {}
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
            code = lost.code if isinstance(lost, ConnectionLost) else 1006
            text = f"the connection was lost before the RECEIPT, whether it was done is not known: {lost}"
            raise ConnectionLost(text, code=code) from lost

    @contextlib.asynccontextmanager
    async def subscribe(
        self, destination: str, payload_type: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Subscription]:
        """Subscribe for as long as the context lasts.

        It is entered after the server's RECEIPT: what is sent to the destination from then on
        arrives. With ``payload_type`` iterating gives payloads of that type instead of messages.
        With `Reconnect` every next connection is subscribed with the same id and headers; a server that
        then refuses it ends this subscription, and no other.

        Raises:
            ReceiptTimeout, ServerError, ConnectionLost: as `send`; but a subscription whose RECEIPT a
                lost connection owes is asked for again.
        """
        read = None if payload_type is None else self._converter.reader(payload_type)
        feed = Feed(f"s{next(self._ids)}", destination, dict(headers or {}), self._config.messages)
        try:
            await self._supervisor.subscribe(feed)
            yield Subscription(feed, read)
        finally:
            with trio.CancelScope(shield=True):
                await self._supervisor.unsubscribe(feed)


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
    waits for its RECEIPT and closes; without a connection it ends at once.

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
