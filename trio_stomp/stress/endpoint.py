"""Where the server is, and how to get a connection to it."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio

from trio_stomp.errors import ConnectionLost

TIMEOUT: Final = 10.0
"""Seconds for a connection, TLS included."""


@attrs.frozen(kw_only=True)
class Endpoint:
    """A server's WebSocket.

    Attributes:
        dial: gives a new connection; raises OSError or ConnectionLost.
        host: for CONNECT's ``host`` header.
        authority: for the Host header.
        resource: path and query.
    """

    dial: Callable[[], Awaitable[trio.abc.Stream]]
    host: str
    authority: str
    resource: str


def endpoint_at(url: str, *, is_ours: bool = False) -> Endpoint:
    """Return the endpoint at a ``ws://`` or ``wss://`` URL.

    With ``is_ours`` any certificate will do: we have started that server ourselves, on a loopback address for
    which its certificate is not made.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    context: ssl.SSLContext | None = None
    if parts.scheme == "wss":
        context = ssl.create_default_context()
        if is_ours:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    return Endpoint(
        dial=partial(_dial, parts.hostname, parts.port or (80 if context is None else 443), context),
        host=parts.hostname,
        authority=parts.netloc.rpartition("@")[2],
        resource=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


async def _dial(host: str, port: int, context: ssl.SSLContext | None) -> trio.abc.Stream:
    with trio.move_on_after(TIMEOUT):
        stream = await trio.open_tcp_stream(host, port)
        if context is None:
            return stream
        secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError):
                raise ConnectionLost(f"TLS handshake with {host}: {error.__cause__ or error}") from error
            raise
        return secured
    raise ConnectionLost(f"no connection to {host} port {port} within {TIMEOUT:g} seconds")
