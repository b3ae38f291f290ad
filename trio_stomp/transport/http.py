"""The front door: reading one HTTP request's head, judging it, and answering it.

Rule 1: the WebSocket library sees no HTTP: one byte that it cannot decode would end a whole server (DESIGN
        section 6), and it would read every head a second time.
Rule 2: one request per connection; every answer but a 101 says ``Connection: close``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http
import mimetypes
import re
import types
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import h11
import trio

from trio_stomp.config import HttpConfig
from trio_stomp.errors import TrioStompError

SUBPROTOCOLS: Final = ("v12.stomp", "v11.stomp", "v10.stomp")
"""STOMP's names as WebSocket sub-protocols (IANA's registry), the best first."""

Headers = Sequence[tuple[str, str]]

_HEAD_END: Final = re.compile(rb"\n\r?\n")
_REQUEST_LINE: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/([0-9])\.[0-9]\r?")
_METHOD_START: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]")
_HOST: Final = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Shows that a server knows the protocol (RFC 6455, section 1.3)."""
_LABEL_LENGTH: Final = 63
"""Characters in one label of a host name (RFC 1035, section 2.3.4)."""
_PORTS: Final[Mapping[str, str]] = types.MappingProxyType({"http": "80", "https": "443"})
_ASCII_HEADERS: Final = frozenset({b"connection", b"upgrade", b"host", b"origin"})
"""With all of Sec-WebSocket-*: what their grammar has in ASCII."""
_USUAL: Final[Mapping[bytes, str]] = types.MappingProxyType(
    {
        text.encode("ascii"): text
        for text in (
            *("host", "connection", "Upgrade", "upgrade", "websocket", "origin", "user-agent", "cookie"),
            *("sec-websocket-key", "sec-websocket-version", "13", "sec-websocket-protocol"),
            *("sec-websocket-extensions", "permessage-deflate; client_max_window_bits", *SUBPROTOCOLS),
            *("accept", "*/*", "accept-language", "accept-encoding", "gzip, deflate, br", "authorization"),
            *("pragma", "cache-control", "no-cache", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"),
            *("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"),
        )
    }
)
"""Names and values that most handshakes have: each session keeps its headers, these once for all."""


class HttpError(TrioStompError):
    """A request that is refused.

    Attributes:
        status: the HTTP status.
        reason: what was wrong, fit for the peer.
        headers: headers that belong into the answer, as ``Allow``.
    """

    def __init__(self, status: int, reason: str, headers: Headers = ()) -> None:
        super().__init__(f"{status} {http.HTTPStatus(status).phrase}: {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers

    def response(self) -> bytes:
        """Return the whole answer."""
        return response(self.status, f"{self.reason}\n", headers=self.headers)


@attrs.frozen
class RequestHead:
    """A request without its body. What may hold secrets is not in its repr.

    Attributes:
        method, target: as they came.
        path: without the query, percent-decoded; the target itself when that is no path (``*``).
        query: as it came, "" for none.
        http_version: "1.0" or "1.1" (or a later 1.x).
        headers: lower-case names and values, in order.
        rest: what came after it in the same reads.
    """

    method: str
    target: str = attrs.field(repr=False)
    path: str
    query: str = attrs.field(repr=False)
    http_version: str
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(repr=False)
    rest: bytes = attrs.field(repr=False)

    def values(self, name: str) -> list[str]:
        """Return the value of each line of the header ``name`` (lower-case), decoded as Latin-1."""
        wanted = name.encode("ascii")
        return [value.decode("latin-1") for known, value in self.headers if known == wanted]

    def header(self, name: str) -> str | None:
        """Return a header's value, several lines joined by ", " (RFC 9110, section 5.3); None without it."""
        values = self.values(name)
        return ", ".join(values) if values else None

    def as_dict(self) -> dict[str, str]:
        """Return all headers as `header` would."""
        found: dict[str, str] = {}
        for raw_name, value in self.headers:
            name = _USUAL.get(raw_name) or raw_name.decode("ascii")
            text = _USUAL.get(value) or value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
        return found


async def read_head(
    stream: trio.abc.ReceiveStream,
    *,
    limit_bytes: int = HttpConfig().head_bytes,
    limit_headers: int = HttpConfig().headers,
) -> RequestHead | None:
    """Read one request's head; None when the peer closed without a word (a health probe does).

    The caller puts the deadline round it. Cancelling loses what was read.

    Raises:
        HttpError: 400, 431, 501 or 505; the connection is fit only for the answer then.
        trio.BrokenResourceError: the connection was lost.
    """
    reader = HeadReader(limit_bytes=limit_bytes, limit_headers=limit_headers)
    while True:
        data = await stream.receive_some()
        head = reader.receive_data(data)
        if head is not None:
            return head
        if not data:
            if reader.is_fresh:
                return None
            raise HttpError(400, "the connection ended within the request's head")


class HeadReader:
    """The sans-I/O part of `read_head`: bytes in, a `RequestHead` out; linear, however the input is cut."""

    def __init__(self, *, limit_bytes: int, limit_headers: int) -> None:
        self._limit_bytes = limit_bytes
        self._limit_headers = limit_headers
        self._buffer = bytearray()
        self._looked_at = 0
        self._is_line_checked = False

    @property
    def is_fresh(self) -> bool:
        """Whether no byte has come yet."""
        return not self._buffer

    def receive_data(self, data: bytes | bytearray) -> RequestHead | None:
        """Return the head when it is complete, else None. Not to be called after that.

        Raises:
            HttpError: as soon as the bytes cannot become an acceptable head.
        """
        self._buffer += data
        self._check_request_line()
        # An end may straddle two chunks by its first two bytes.
        found = _HEAD_END.search(self._buffer, max(0, self._looked_at - 2))
        self._looked_at = len(self._buffer)
        # Counted here: h11 looks at the size only when the head is not complete in one read.
        if (found.end() if found else self._looked_at) > self._limit_bytes:
            raise HttpError(431, f"the request's head is over {self._limit_bytes} bytes")
        if found is None:
            return None
        raw, rest = bytes(self._buffer[: found.end()]), bytes(self._buffer[found.end() :])
        return _checked_head(raw, rest, self._limit_headers)

    def _check_request_line(self) -> None:
        """Refuse TLS, HTTP/0.9, HTTP/2 and garbage at once, not only when a blank line comes."""
        if self._is_line_checked or not self._buffer:
            return
        if not _METHOD_START.match(self._buffer):
            raise HttpError(400, "this is not an HTTP request")
        line_end = self._buffer.find(b"\n", self._looked_at)
        if line_end < 0:
            return
        self._is_line_checked = True
        line = _REQUEST_LINE.fullmatch(self._buffer, 0, line_end)
        if line is None:
            raise HttpError(400, "the request line is not METHOD TARGET HTTP/1.1 (RFC 9112, section 3)")
        if line[1] != b"1":
            raise HttpError(505, "only HTTP/1.1 is spoken here")


def check_upgrade(head: RequestHead) -> None:
    """Return when the request is a WebSocket handshake (RFC 6455, section 4.2.1).

    Raises:
        HttpError: 400, 405 (not GET) or 426 (no upgrade, or another version of the WebSocket protocol).
    """
    if head.method != "GET":
        raise HttpError(405, f"method {head.method[:20]}, expected GET", [("Allow", "GET")])
    if head.http_version == "1.0":
        raise HttpError(400, "a WebSocket handshake needs HTTP/1.1")
    upgrades = [value.lower() for value in head.values("upgrade")]
    tokens = [token for value in head.values("connection") for token in _tokens(value.lower())]
    if upgrades != ["websocket"] or "upgrade" not in tokens:
        raise HttpError(
            426,
            "this is a WebSocket endpoint: expected 'Connection: Upgrade' and 'Upgrade: websocket'",
            [("Upgrade", "websocket")],
        )
    if head.values("sec-websocket-version") != ["13"]:
        raise HttpError(
            426,
            "expected 'Sec-WebSocket-Version: 13'",
            [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        )
    keys = head.values("sec-websocket-key")
    if len(keys) != 1 or not _is_nonce(keys[0]):
        raise HttpError(400, "expected one Sec-WebSocket-Key of 16 bytes in base64")
    lengths = head.values("content-length")
    if head.values("transfer-encoding") or any(length.strip("0") for length in lengths):
        raise HttpError(400, "a WebSocket handshake has no body")


def check_origin(head: RequestHead, origins: Sequence[str]) -> None:
    """Return when the page that asks may connect: no Origin (no browser), our own, or one that is listed.

    ``"*"`` lists all. A page is our own when its host and port are those of the Host header. Its scheme is
    not compared: behind a proxy that ends TLS we see another one than the page.

    Raises:
        HttpError: 403.
    """
    sent = head.values("origin")
    if not sent or "*" in origins:
        return
    if len(sent) == 1:
        origin = _origin(sent[0])
        if origin in [_origin(listed) for listed in origins] or _is_own(origin, head.header("host") or ""):
            return
    raise HttpError(403, "pages of this origin may not connect")


def choose_subprotocol(head: RequestHead) -> str | None:
    """Return the highest version of STOMP offered as a sub-protocol, whatever the order; None without any."""
    offered = {token for value in head.values("sec-websocket-protocol") for token in _tokens(value)}
    return next((name for name in SUBPROTOCOLS if name in offered), None)


def upgrade_response(head: RequestHead, subprotocol: str | None) -> bytes:
    """Return the 101 for a head that `check_upgrade` has let through; no extension is taken up."""
    [key] = head.values("sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode("ascii")).digest()).decode("ascii")
    chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
    ).encode("ascii")


def response(
    status: int,
    body: str | bytes = b"",
    *,
    headers: Headers = (),
    content_type: str = "text/plain; charset=utf-8",
    is_head: bool = False,
) -> bytes:
    """Return a complete HTTP/1.1 response, after which the connection is closed.

    Args:
        is_head: the request was HEAD: the answer tells the body's length and has none.

    Raises:
        ValueError: if a header holds a line end.
    """
    content = body.encode("utf-8") if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
    fields = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(content))),
        ("X-Content-Type-Options", "nosniff"),
        *headers,
        ("Connection", "close"),
    ]
    for name, value in fields:
        if re.search(r"[\r\n\0]", name + value):
            raise ValueError(f"the header {name!r} holds a line end or NUL")
        lines.append(f"{name}: {value}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if is_head else head + content


def resolve_static(static: Mapping[str, str], path: str) -> Path | None:
    """Return the file that a (percent-decoded) path names, or None.

    The longest prefix in ``static`` decides; a directory gives its ``index.html``. No path leads out of
    the prefix's directory, neither by ``..`` nor by a symbolic link, and none to a name that begins with
    a dot (``.git``, ``.env``). Asks the file system: call it in a thread.
    """
    bases = [prefix.rstrip("/") for prefix in static]
    directories = dict(zip(bases, static.values(), strict=True))
    fitting = [base for base in bases if path == base or path.startswith(f"{base}/")]
    if not fitting or not path:
        return None
    base = max(fitting, key=len)
    segments = path[len(base) :].split("/")[1:]
    wants_directory = bool(segments) and segments[-1] == ""
    if wants_directory:
        segments.pop()
    if any(segment.startswith(".") or not segment or re.search(r"[\\:\0]", segment) for segment in segments):
        return None
    try:
        root = Path(directories[base]).resolve()
        found = root.joinpath(*segments).resolve()
        if found.is_dir():
            found = (found / "index.html").resolve()
        elif wants_directory:
            return None
        return found if found.is_relative_to(root) and found.is_file() else None
    except (OSError, RuntimeError):  # a name too long, a loop of links (RuntimeError before Python 3.13)
        return None


def content_type_of(path: Path) -> str:
    """Return the Content-Type for a file by its name; text is taken for UTF-8.

    By Python's own table, not the machine's ``/etc/mime.types``, so that it is the same everywhere.
    """
    kind, encoding = mimetypes.MimeTypes().guess_type(path.name)
    if kind is None or encoding is not None:
        return "application/octet-stream"
    is_text = kind.startswith("text/") or kind in ("application/javascript", "application/json")
    return f"{kind}; charset=utf-8" if is_text else kind


def _checked_head(raw: bytes, rest: bytes, limit_headers: int) -> RequestHead:
    if b"\0" in raw:
        raise HttpError(400, "the request's head holds a NUL")
    if re.search(rb"\n[ \t]", raw):
        raise HttpError(400, "a header is folded over lines (obsolete, RFC 9112, section 5.2)")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw))
    connection.receive_data(raw)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        # Its text quotes the line, which may hold a password.
        reason = "a header is not as RFC 9112 has it, or Host or Content-Length is missing or repeated"
        raise HttpError(error.error_status_hint, reason) from error
    assert isinstance(request, h11.Request)  # the head is complete, so there is nothing else to come first
    headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
    if len(headers) > limit_headers:
        raise HttpError(431, f"{len(headers)} headers, expected at most {limit_headers}")
    for name, value in headers:
        if not value.isascii() and (name in _ASCII_HEADERS or name.startswith(b"sec-websocket-")):
            raise HttpError(400, f"the header {name.decode('ascii')} is not ASCII")
        if name == b"host":
            _check_host(value)
    target = request.target.decode("ascii")
    path, query = _split_target(target)
    return RequestHead(
        method=request.method.decode("ascii"),
        target=target,
        path=path,
        query=query,
        http_version=request.http_version.decode("ascii"),
        headers=headers,
        rest=rest,
    )


def _check_host(value: bytes) -> None:
    """Refuse what no host name is."""
    match = _HOST.fullmatch(value.decode("ascii"))
    if match is None:
        raise HttpError(400, "the header host is not HOST or HOST:PORT")
    if any(len(label) > _LABEL_LENGTH for label in match[1].split(".")):
        raise HttpError(400, f"the header host has a label of more than {_LABEL_LENGTH} characters")
    try:
        match[1].encode("ascii").decode("idna")
    except UnicodeError:
        raise HttpError(400, "the header host has an xn-- label that is not IDNA") from None


def _split_target(target: str) -> tuple[str, str]:
    """Return path (decoded) and query of a request's target in any of its forms (RFC 9112, section 3.2)."""
    absolute = re.match(r"(?:https?|wss?)://[^/?]*", target, re.IGNORECASE)
    path, _, query = target[absolute.end() if absolute else 0 :].partition("?")
    try:
        decoded = urllib.parse.unquote(path or "/", errors="strict")
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8") from None
    if "\0" in decoded:
        raise HttpError(400, "the path holds a NUL")
    return decoded, query


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.split(",")]


def _is_nonce(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _origin(text: str) -> tuple[str, str, str]:
    """Return an origin as (scheme, host, port), defaults filled in; what is none ("null") stays as it is."""
    match = _ORIGIN.fullmatch(text.lower().rstrip("/"))
    if match is None:
        return ("", text.lower(), "")
    scheme, host, port = match.groups()
    return (scheme, host, port or _PORTS.get(scheme, ""))


def _is_own(origin: tuple[str, str, str], host_header: str) -> bool:
    scheme, host, port = origin
    own = _HOST.fullmatch(host_header.lower())
    return own is not None and scheme in _PORTS and (host, port) == (own[1], own[2] or _PORTS[scheme])
