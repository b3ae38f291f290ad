"""Every exception that trio-stomp raises on purpose.

Errors are Local (you did something that is not allowed) or Remote (the peer did).
"""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_stomp.stomp.frames import Frame


class TrioStompError(Exception):
    """The base of all of them::

    TrioStompError
    ├── ProtocolError
    │   ├── LocalProtocolError      this side broke the rules of STOMP
    │   └── RemoteProtocolError     the peer did
    ├── DestinationError            a destination or pattern is malformed or out of place
    ├── ConversionError             a payload does not fit its type
    ├── AccessDenied                a rule forbids it
    ├── ConnectRefused              raise it in on_connect
    ├── OverloadedError             a pool has no room for another call, a queue for a message
    ├── HandlerTimeout              a handler took longer than its route allows
    ├── HandlerSignatureError       a handler's parameters cannot be filled
    ├── ConfigError                 a setting is unknown or out of range
    ├── ConnectionLost              client: the connection has ended
    │   └── HandshakeRefused        client: the server did not accept the WebSocket
    ├── ServerError                 client: the server sent ERROR
    └── ReceiptTimeout              client: no RECEIPT came in time
    """


class ProtocolError(TrioStompError):
    """A rule of STOMP was broken."""


class LocalProtocolError(ProtocolError):
    """This side tried something that STOMP does not allow here; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule of STOMP or of this server.

    Attributes:
        message: what was wrong, fit for the peer.
        frame: the frame in question, if there is one.
        close_code: 1002 protocol, 1007 text that is not UTF-8, 1008 policy, 1009 too big, 1011 our fault.
        headers: headers that belong into the ERROR frame, such as ``version``.
        limit: the setting whose limit was reached, as ``stomp.body``; None when it was none.
    """

    def __init__(
        self,
        message: str,
        *,
        frame: Frame | None = None,
        close_code: int = 1002,
        headers: Mapping[str, str] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.limit = limit
        self.frame = frame
        self.close_code = close_code
        self.headers: Mapping[str, str] = headers or {}


class DestinationError(TrioStompError, ValueError):
    """A destination or pattern is malformed, or not where it was used.

    Attributes:
        destination: the one in question.
    """

    def __init__(self, message: str, destination: str = "") -> None:
        super().__init__(message)
        self.destination = destination


class ConversionError(TrioStompError):
    """A payload or header does not fit the type that a handler asks for.

    Attributes:
        problems: each with its path, as ``required field missing @ $.text``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class AccessDenied(TrioStompError):
    """A rule forbids it."""


class ConnectRefused(TrioStompError):
    """Raise it in ``on_connect``: the client gets ERROR with this text, then close 1008."""

    def __init__(self, message: str = "access refused") -> None:
        super().__init__(message)


class OverloadedError(TrioStompError):
    """A pool has no room for another call, or none came free in time; or a queue none for a message."""


class HandlerTimeout(TrioStompError):
    """A handler took longer than its route's ``timeout``."""


class HandlerSignatureError(TrioStompError, TypeError):
    """A handler's parameters cannot be filled, or its routes do not hold together."""


class ConfigError(TrioStompError, ValueError):
    """A setting is unknown, of the wrong kind, or out of its range."""


class ConnectionLost(TrioStompError):
    """The connection has ended.

    Attributes:
        code: the WebSocket close code; 1006 when there was none.
        reason: the peer's reason, often empty.
    """

    def __init__(self, message: str, *, code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class HandshakeRefused(ConnectionLost):
    """The server answered the WebSocket handshake with another status than 101.

    Attributes:
        status: the HTTP status.
        body: the answer's text.
        headers: its headers, lower-case names.
        retry_after: seconds after which it wants us again (``Retry-After``); None when it does not say.
    """

    def __init__(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"the server refused the WebSocket with HTTP status {status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers
        self.retry_after = _retry_after(headers)


class ServerError(TrioStompError):
    """The server sent an ERROR frame.

    Attributes:
        message: its ``message`` header.
        frame: the whole frame.
    """

    def __init__(self, message: str, frame: Frame) -> None:
        super().__init__(message)
        self.message = message
        self.frame = frame


class ReceiptTimeout(TrioStompError):
    """No RECEIPT came in time; whether the frame took effect is not known."""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header of either form (RFC 9110, section 10.2.3), if it has one of them.

    A date is taken by the server's own clock, if it tells its time.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    wanted = _http_date(text)
    if wanted is None:
        return None
    now = _http_date(headers.get("date", "")) or datetime.datetime.now(datetime.UTC)
    return max(0.0, (wanted - now).total_seconds())


def _http_date(text: str) -> datetime.datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
