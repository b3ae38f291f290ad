"""What a handler sees of a client: the request that opened its session, and the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import trio

from trio_stomp.messages.message import User

_REASON_BYTES = 123
"""UTF-8 bytes in a close reason: a control frame holds 125, two are the code (RFC 6455, 5.5)."""

_RESERVED_CODES = frozenset({1004, 1005, 1006, 1015})
"""Close codes that stand for what was not sent, or for nothing (RFC 6455, 7.4.1)."""


def _hide(secret: str | None) -> str:
    return "None" if secret is None else "'***'"


def _hide_passcode(headers: Mapping[str, str]) -> str:
    return repr({name: "***" if name == "passcode" else value for name, value in headers.items()})


@attrs.frozen(kw_only=True)
class ConnectRequest:
    """A client's CONNECT, as `StompApp.on_connect` gets it; its repr shows no secret.

    Attributes:
        login, passcode, host: the CONNECT headers of that name, None when absent.
        headers: all headers of the CONNECT frame.
        http_headers: those of the WebSocket handshake, names in lower case; none over TCP.
        remote: the peer's address, as ``127.0.0.1:50123``; the address alone where a proxy tells no port.
        path: the URL's path, percent-decoded; "" over TCP.
        query: what follows its ``?``, as sent.
        subprotocol: the one that was chosen, as ``v12.stomp``; None when none was offered.
        session_id: the id that the session will have.
    """

    login: str | None = None
    passcode: str | None = attrs.field(default=None, repr=_hide)
    host: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=_hide_passcode)
    http_headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)  # cookies, authorization
    remote: str = ""
    path: str = "/"
    query: str = attrs.field(default="", repr=False)  # browsers can put a token nowhere else
    subprotocol: str | None = None
    session_id: str = ""


@attrs.define(eq=False, kw_only=True)
class Session:
    """One client's session, from CONNECTED until it is closed.

    Attributes:
        id: not guessable; what ``publish_to_user(…, session_id=…)`` takes.
        user: whom `StompApp.on_connect` returned.
        remote: the peer's address, as ``127.0.0.1:50123``.
        version: the STOMP version agreed on, as ``1.2``.
        headers: the headers of the WebSocket handshake, names in lower case.
        attributes: the app's own, for as long as the session lives.
    """

    id: str = attrs.field(on_setattr=attrs.setters.frozen)
    user: User | None = attrs.field(on_setattr=attrs.setters.frozen)
    remote: str = attrs.field(on_setattr=attrs.setters.frozen)
    version: str = attrs.field(on_setattr=attrs.setters.frozen)
    headers: Mapping[str, str] = attrs.field(repr=False, on_setattr=attrs.setters.frozen)
    _close: Callable[..., None] = attrs.field(repr=False)
    attributes: dict[str, object] = attrs.field(factory=dict, repr=False)

    def close(self, reason: str = "", code: int = 1008) -> None:
        """Ask the server to end the session once it has seen through what it has read.

        Returns at once; a handler in a worker thread may call it too. Closing twice is the same
        as closing once.

        Args:
            reason: what the client reads, at most 123 bytes of UTF-8.
            code: the WebSocket close code; 1008 is a policy's.

        Raises:
            ValueError: the reason is too long, or no endpoint may send the code.
        """
        size = len(reason.encode())
        if size > _REASON_BYTES:
            raise ValueError(f"a close reason has at most {_REASON_BYTES} bytes, this one has {size}")
        if code in _RESERVED_CODES or not (1000 <= code <= 1014 or 3000 <= code <= 4999):
            raise ValueError(f"{code} cannot be sent as a close code; use 1000 to 1014 or 3000 to 4999")
        if trio.lowlevel.in_trio_run():
            self._close(reason, code)
        else:
            trio.from_thread.run_sync(self._close, reason, code)
