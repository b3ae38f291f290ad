"""Listening sockets: opened, inherited or shared with another process; given up without losing anybody."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

import trio
import trio.lowlevel

from trio_stomp.config import ServerConfig
from trio_stomp.errors import ConfigError
from trio_stomp.metrics import Metrics

logger = logging.getLogger("trio_stomp.server")

Listener = trio.SocketListener | trio.SSLListener[trio.SocketStream]

_PATIENCE = 1.0
"""Seconds for accepting what waits in a socket that is given up: a full backlog takes a tenth of that."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What accept(2) says when the process, or the system, has no room for one more."""
_PAUSE = 0.1
"""Seconds until the next try then: what is lacking comes back when a connection ends."""
_SILENCE = 60.0
"""Seconds after telling of it in which it is not told again."""


class PatientListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener that waits while the system has no room for one more connection, and counts how often.

    Those who connect meanwhile wait in the socket's backlog.

    Args:
        accepted: called for each connection, before anybody else has a turn.
    """

    def __init__(self, listener: Listener, metrics: Metrics, accepted: Callable[[], None]) -> None:
        self._listener = listener
        self._metrics = metrics
        self._accepted = accepted
        self._tell_at = 0.0

    async def accept(self) -> trio.abc.Stream:
        """The next connection.

        Raises:
            OSError: the socket cannot be accepted from, for another reason than a lack of room.
        """
        while True:
            try:
                stream = await self._listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._note(error)
                await trio.sleep(_PAUSE)
            else:
                self._accepted()
                return stream

    def _note(self, error: OSError) -> None:
        self._metrics.accepts_failed += 1
        now = trio.current_time()
        if now >= self._tell_at:
            self._tell_at = now + _SILENCE
            reason = os.strerror(error.errno or 0)
            logger.error("no connection can be accepted: %s; trying again every %g seconds", reason, _PAUSE)

    async def aclose(self) -> None:
        """As trio's."""
        await self._listener.aclose()


async def open_listeners(config: ServerConfig, ssl_context: ssl.SSLContext | None) -> Sequence[Listener]:
    """Listen on the configured address, or on the socket that was inherited.

    Raises:
        ConfigError: the certificate or the inherited descriptor cannot be used.
        OSError: the address cannot be listened on.
    """
    context = ssl_context or _context(config)
    return _with_tls(await _open(config, "fd", config.port), context)


async def open_tcp_listeners(config: ServerConfig, ssl_context: ssl.SSLContext | None) -> Sequence[Listener]:
    """As `open_listeners`, for STOMP over TCP; none without ``tcp_port`` and ``tcp_fd``."""
    if config.tcp_port is None and config.tcp_fd is None:
        return ()
    context = ssl_context or _context(config)
    return _with_tls(await _open(config, "tcp_fd", config.tcp_port or 0), context)


def _context(config: ServerConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use tls_cert {config.tls_cert!r} and tls_key: {error}") from error
    return context


def _with_tls(listeners: Sequence[trio.SocketListener], context: ssl.SSLContext | None) -> Sequence[Listener]:
    if context is None:
        return listeners
    # https_compatible: peers that hang up without TLS's own farewell are no news.
    return [trio.SSLListener(listener, context, https_compatible=True) for listener in listeners]


async def _open(config: ServerConfig, name: str, port: int) -> Sequence[trio.SocketListener]:
    """Take the socket of the setting ``name``, or open one; no TLS yet."""
    fd: int | None = getattr(config, name)
    if fd is not None:
        return [_inherited(fd, name)]
    if config.reuse_port:
        return await _open_shared(config.host, port)
    return await trio.open_tcp_listeners(port, host=config.host)


def _inherited(fd: int, name: str) -> trio.SocketListener:
    try:
        plain = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"{name} is {fd}, expected a listening socket: {error.strerror}") from error
    try:
        return trio.SocketListener(trio.socket.from_stdlib_socket(plain))
    except (OSError, ValueError) as error:
        plain.detach()  # not ours to close
        raise ConfigError(f"{name} is {fd}, expected a listening socket: {error}") from error


async def _open_shared(host: str, port: int) -> list[trio.SocketListener]:
    """As `trio.open_tcp_listeners`, with SO_REUSEPORT, which trio has no option for."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("reuse_port is set, but this system has no SO_REUSEPORT")
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[trio.SocketListener] = []
    try:
        for family, kind, protocol, _, address in found:
            plain = trio.socket.socket(family, kind, protocol)
            try:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                await plain.bind(address)
                plain.listen(65535)  # as trio: the system takes what it can
                opened.append(trio.SocketListener(plain))
            except BaseException:
                plain.close()
                raise
    except BaseException:
        close_at_once(opened)
        raise
    return opened


def _socket_of(listener: Listener) -> trio.socket.SocketType:
    plain = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
    assert isinstance(plain, trio.SocketListener)
    return plain.socket


def url_of(listener: Listener, path: str) -> str:
    """Return its WebSocket endpoint, as ``ws://127.0.0.1:8080/ws``; ``ws+unix:`` and a Unix socket's file."""
    return _url(listener, "wss" if isinstance(listener, trio.SSLListener) else "ws", path)


def tcp_url_of(listener: Listener) -> str:
    """Return where it speaks STOMP, as ``stomp://127.0.0.1:61613``, or ``stomp+ssl://`` with TLS."""
    return _url(listener, "stomp+ssl" if isinstance(listener, trio.SSLListener) else "stomp", "")


def _url(listener: Listener, scheme: str, path: str) -> str:
    address = _socket_of(listener).getsockname()
    if not isinstance(address, tuple):
        return f"{scheme}+unix:{address}{path and ':'}{path}"
    host, port = address[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def host_of(listener: Listener) -> tuple[str, bool]:
    """Return the address it listens on, and whether only this machine reaches it."""
    address = _socket_of(listener).getsockname()
    if not isinstance(address, tuple):
        return str(address), True
    return address[0], ip_address(address[0]).is_loopback


async def accepted_all(listeners: Sequence[Listener]) -> None:
    """Return when nobody waits in the sockets' backlogs, which another task empties."""
    sockets = [_socket_of(listener) for listener in listeners]
    with trio.move_on_after(_PATIENCE):
        while select.select(sockets, (), (), 0)[0]:
            await trio.lowlevel.checkpoint()


def close_at_once(listeners: Sequence[Listener]) -> None:
    """Close the sockets, without a checkpoint."""
    for listener in listeners:
        _socket_of(listener).close()
