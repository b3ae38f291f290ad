"""Where a client connects to, and how one connection is made and closed."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import attrs
import trio

from trio_stomp.client.connection import Connection
from trio_stomp.client.feed import Feed
from trio_stomp.config import ClientConfig, WebSocketConfig
from trio_stomp.errors import ConnectionLost
from trio_stomp.groups import bare_errors
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import Frame, Limits
from trio_stomp.stomp.protocol import HeartBeat
from trio_stomp.transport.http import SUBPROTOCOLS
from trio_stomp.transport.websocket import connect_websocket

Dial = Callable[[], Awaitable[trio.abc.Stream]]
"""Opens a stream to the server, within ``connect_timeout``; OSError or ConnectionLost when it cannot."""


@attrs.frozen(kw_only=True)
class Endpoint:
    """All that is said when connecting.

    Attributes:
        dial: opens the stream.
        authority: for the Host header.
        resource: path and query.
        host: the virtual host, for CONNECT.
        headers: for CONNECT.
        http_headers: for the handshake.
    """

    dial: Dial
    authority: str
    resource: str
    host: str
    login: str | None = None
    passcode: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    http_headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)


@contextlib.asynccontextmanager
async def open_connection(
    endpoint: Endpoint,
    config: ClientConfig,
    *,
    feeds: Mapping[str, Feed],
    notice: Callable[[Frame], None] | None = None,
) -> AsyncIterator[Connection]:
    """Connect, for as long as the context lasts; entered after CONNECTED, within ``connect_timeout``.

    Args:
        feeds: where the MESSAGEs of each subscription go.
        notice: what is done with those of the server's own queue.

    Raises:
        OSError, HandshakeRefused, ServerError, ConnectionLost: as `open_client`.
    """
    limits = Limits(header_line=config.header_line, headers=config.headers, body=config.body)
    protocol = ClientProtocol(
        limits=limits, heart_beat=HeartBeat(config.heart_beat_send, config.heart_beat_receive)
    )
    websocket = WebSocketConfig(message=config.body + config.header_line, close_timeout=config.close_timeout)
    deadline = trio.current_time() + config.connect_timeout
    with bare_errors():
        stream = await endpoint.dial()
        async with (
            connect_websocket(
                stream,
                host=endpoint.authority,
                resource=endpoint.resource,
                subprotocols=SUBPROTOCOLS,
                headers=[*(endpoint.http_headers or {}).items()],
                timeout=_left(deadline),
                write_timeout=config.write_timeout,
                config=websocket,
                metrics=Metrics(),
            ) as transport,
            trio.open_nursery() as nursery,
        ):
            connection = Connection(transport, protocol, config, feeds, notice)
            nursery.start_soon(connection.run)
            try:
                with trio.move_on_at(deadline) as waiting:
                    await connection.connect(
                        protocol.connect(
                            host=endpoint.host,
                            login=endpoint.login,
                            passcode=endpoint.passcode,
                            headers=endpoint.headers,
                        )
                    )
                if waiting.cancelled_caught:
                    raise ConnectionLost(f"no CONNECTED within {config.connect_timeout:g} seconds")
                yield connection
            finally:
                await connection.aclose()
                nursery.cancel_scope.cancel()


def dial_url(url: str, ssl_context: ssl.SSLContext | None, timeout: float) -> Dial:
    """How to open a TCP stream to a ``ws://`` URL, with TLS to a ``wss://`` one, in so many seconds.

    Raises:
        ValueError: the URL is not one of a WebSocket.
    """
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in ("ws", "wss") or not host:
        raise ValueError(f"{url!r} is not a WebSocket URL, expected ws://HOST:PORT/PATH")
    is_tls = parts.scheme == "wss"
    port = parts.port or (443 if is_tls else 80)
    context = ssl_context or (ssl.create_default_context() if is_tls else None)

    async def dial() -> trio.abc.Stream:
        deadline = trio.current_time() + timeout
        with trio.move_on_at(deadline) as opening:
            stream = await trio.open_tcp_stream(host, port)
        if opening.cancelled_caught:
            raise ConnectionLost(f"{host}:{port} did not answer within {timeout:g} seconds")
        if not is_tls:
            return stream
        assert context is not None
        return await _start_tls(stream, host, context, _left(deadline))

    return dial


def _left(deadline: float) -> float:
    """Seconds until then, rounded: they are told in error messages."""
    return max(0.001, round(deadline - trio.current_time(), 3))


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
