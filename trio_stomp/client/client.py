"""`open_client`: connect, subscribe, send, receive, close.

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
from trio_stomp.config import ClientConfig, WebSocketConfig
from trio_stomp.errors import ConnectionLost, TrioStompError
from trio_stomp.messages.conversion import Converter
from trio_stomp.messages.message import Message
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import Frame, Limits, Version
from trio_stomp.stomp.protocol import HeartBeat
from trio_stomp.transport.http import SUBPROTOCOLS
from trio_stomp.transport.websocket import connect_websocket


class Subscription:
    """One subscription's messages, as an async iterator.

    Iterating gives a `Message`, or the payload itself when the subscription has a type. It ends
    when the subscription's context is left, and raises what ended the connection.
    """

    def __init__(self, connection: Connection, frames: trio.MemoryReceiveChannel[Frame], read: Any) -> None:
        self._connection = connection
        self._frames = frames
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
        try:
            frame = await self._frames.receive()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None
        except trio.EndOfChannel:
            if self._connection.failure is None:
                raise StopAsyncIteration from None
            await self._connection.refuse()
        if self._read is not None:
            return self._read(frame.body, frame.headers.get("content-type"))
        return Message(frame.headers.get("destination", ""), frame.headers, frame.body)

    async def receive(self) -> Any:
        """As ``anext``: the next message, waiting for it."""
        return await self.__anext__()


class Client:
    """A connected STOMP client; made by `open_client`."""

    def __init__(self, connection: Connection, converter: Converter) -> None:
        self._connection = connection
        self._converter = converter
        self._ids = itertools.count(1)

    @property
    def version(self) -> Version:
        """The STOMP version agreed on."""
        return self._connection.protocol.version

    @property
    def session(self) -> str | None:
        """The server's name for this session, if it gave one."""
        connected = self._connection.connected
        return None if connected is None else connected.headers.get("session")

    @property
    def user_name(self) -> str | None:
        """The name under which the server knows us, if it said so."""
        connected = self._connection.connected
        return None if connected is None else connected.headers.get("user-name")

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
        else when the frame is on its way.

        Raises:
            ReceiptTimeout: no RECEIPT came within ``receipt_timeout`` seconds (10 by default).
            ServerError: the server refused with ERROR.
            ConnectionLost: the connection has ended.

        Cancelling is safe: the frame is sent whole or not at all.
        """
        body, content_type = self._converter.encode(payload)
        all_headers = {"content-type": content_type} if body else {}
        all_headers |= headers or {}
        connection = self._connection
        await connection.check()  # before the state machine, which knows that it has ended but not why
        if not receipt:
            await connection.put(connection.protocol.send(destination, body, all_headers))
            return
        with connection.expect_receipt() as wanted:
            all_headers["receipt"] = wanted
            await connection.put(connection.protocol.send(destination, body, all_headers))
            await connection.wait_receipt(wanted)

    @contextlib.asynccontextmanager
    async def subscribe(
        self, destination: str, payload_type: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Subscription]:
        """Subscribe for as long as the context lasts.

        It is entered after the server's RECEIPT: what is sent to the destination from then on
        arrives. With ``payload_type`` iterating gives payloads of that type instead of messages.

        Raises:
            ReceiptTimeout, ServerError, ConnectionLost: as `send`.
        """
        connection = self._connection
        await connection.check()
        key = f"s{next(self._ids)}"
        read = None if payload_type is None else self._converter.reader(payload_type)
        frames = connection.open_sink(key)
        try:
            with connection.expect_receipt() as receipt:
                asked = {**(headers or {}), "receipt": receipt}
                frame = connection.protocol.subscribe(key, destination, headers=asked)
                try:
                    await connection.put(frame)
                except BaseException:  # it was not sent, so there is nothing to unsubscribe
                    connection.protocol.subscriptions.pop(key, None)
                    raise
                await connection.wait_receipt(receipt)
            yield Subscription(connection, frames, read)
        finally:
            connection.close_sink(key)
            frames.close()
            with trio.CancelScope(shield=True), contextlib.suppress(TrioStompError):  # it has ended
                if connection.failure is None and key in connection.protocol.subscriptions:
                    await connection.put(connection.protocol.unsubscribe(key))


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
) -> AsyncIterator[Client]:
    """Connect to a STOMP server over WebSocket, for as long as the context lasts.

    ``url`` is ``ws://`` or ``wss://``; ``host`` the virtual host (by default the URL's);
    ``headers`` go into CONNECT, ``http_headers`` into the handshake. Leaving sends DISCONNECT,
    waits for its RECEIPT and closes.

    Raises:
        ValueError: the URL is not one of a WebSocket.
        OSError: nobody listens there.
        HandshakeRefused: the server answered with another HTTP status than 101.
        ServerError: it refused CONNECT.
        ConnectionLost: it hung up, did not answer within ``connect_timeout`` seconds (10), or its
            certificate is not trusted.
    """
    config = config or ClientConfig()
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} is not a WebSocket URL, expected ws://HOST:PORT/PATH")
    is_tls = parts.scheme == "wss"
    port = parts.port or (443 if is_tls else 80)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    context = (ssl_context or ssl.create_default_context()) if is_tls else None
    stream = await _connect(parts.hostname, port, config.connect_timeout)
    if context is not None:
        stream = await _start_tls(stream, parts.hostname, context, config.connect_timeout)
    async with open_client_over(
        stream,
        authority=parts.netloc.rpartition("@")[2],
        resource=resource,
        login=login,
        passcode=passcode,
        host=host or parts.hostname,
        headers=headers,
        http_headers=http_headers,
        config=config,
        converter=converter,
    ) as client:
        yield client


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
    """As `open_client`, over a stream that is connected already.

    ``authority`` is for the Host header, ``resource`` path and query of the endpoint.
    """
    limits = Limits(header_line=config.header_line, headers=config.headers, body=config.body)
    protocol = ClientProtocol(
        limits=limits, heart_beat=HeartBeat(config.heart_beat_send, config.heart_beat_receive)
    )
    websocket = WebSocketConfig(message=config.body + config.header_line, close_timeout=config.close_timeout)
    with _bare_errors():
        async with (
            connect_websocket(
                stream,
                host=authority,
                resource=resource,
                subprotocols=SUBPROTOCOLS,
                headers=[*(http_headers or {}).items()],
                timeout=config.connect_timeout,
                write_timeout=config.write_timeout,
                config=websocket,
                metrics=Metrics(),
            ) as transport,
            trio.open_nursery() as nursery,
        ):
            connection = Connection(transport, protocol, config)
            nursery.start_soon(connection.run)
            try:
                with trio.move_on_after(config.connect_timeout) as waiting:
                    await connection.connect(
                        protocol.connect(host=host, login=login, passcode=passcode, headers=headers)
                    )
                if waiting.cancelled_caught:
                    raise ConnectionLost(f"no CONNECTED within {config.connect_timeout:g} seconds")
                yield Client(connection, converter or Converter())
            finally:
                await connection.aclose()
                nursery.cancel_scope.cancel()


async def _connect(host: str, port: int, timeout: float) -> trio.abc.Stream:
    with trio.move_on_after(timeout):
        return await trio.open_tcp_stream(host, port)
    raise ConnectionLost(f"{host}:{port} did not answer within {timeout:g} seconds")


async def _start_tls(
    stream: trio.abc.Stream, host: str, context: ssl.SSLContext, timeout: float
) -> trio.SSLStream[trio.abc.Stream]:
    """Shake hands over TLS here and now, so that what fails is told as such.

    Left to the first read or write, a certificate that is not trusted would look like a server that does
    not answer.
    """
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        with trio.move_on_after(timeout):
            await secured.do_handshake()
            return secured
        problem: BaseException | str = f"no answer within {timeout:g} seconds"
    except trio.BrokenResourceError as error:
        problem = error.__cause__ or error
    except BaseException:
        await _abort(secured)
        raise
    await _abort(secured)
    cause = problem if isinstance(problem, BaseException) else None
    raise ConnectionLost(f"TLS handshake with {host}: {problem}") from cause


async def _abort(stream: trio.abc.AsyncResource) -> None:
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)


@contextlib.contextmanager
def _bare_errors() -> Any:
    """Let a lone exception out of its exception groups: the nurseries here are our affair.

    The group's cause is kept by the exception's own traceback.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__
