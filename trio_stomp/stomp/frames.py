"""STOMP frames: what they are, and how they are written; `decoding` reads them (sans-I/O).

Rule: escaping follows the version, and nothing but the version.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from trio_stomp.errors import LocalProtocolError

HEART_BEAT: Final = b"\n"
"""What is sent when there is nothing to send (STOMP 1.2, Heart-beating)."""


class Version(enum.Enum):
    """A version of STOMP; ``value`` is its name on the wire."""

    V1_0 = "1.0"
    V1_1 = "1.1"
    V1_2 = "1.2"


CLIENT_COMMANDS: Final = frozenset(
    [
        "CONNECT",
        "STOMP",
        "SEND",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "ACK",
        "NACK",
        "BEGIN",
        "COMMIT",
        "ABORT",
        "DISCONNECT",
    ]
)
SERVER_COMMANDS: Final = frozenset(["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"])
WITH_BODY: Final = frozenset(("SEND", "MESSAGE", "ERROR"))
"""The only frames that may have a body (STOMP 1.2, Body)."""
UNESCAPED: Final = frozenset(("CONNECT", "STOMP", "CONNECTED"))
"""Never escaped, so that 1.0 peers understand them (STOMP 1.2, Value Encoding)."""

ESCAPES: Final[Mapping[Version, Mapping[str, str]]] = MappingProxyType(
    {
        Version.V1_0: MappingProxyType({}),
        Version.V1_1: MappingProxyType({"\\": "\\\\", "\n": "\\n", ":": "\\c"}),
        Version.V1_2: MappingProxyType({"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"}),
    }
)
"""What each version writes for what."""
_TO_ESCAPE: Final = re.compile(r"[\\\n:\r]")


@attrs.define  # not frozen: attrs' frozen __init__ takes 0.6 us instead of 0.25, once per frame
class Frame:
    """One frame. Of a repeated header the first is kept (STOMP 1.2, Repeated Header Entries)."""

    command: str
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""


@attrs.frozen
class Limits:
    """What one frame may be at most."""

    header_line: int = 16 * 1024
    """Bytes in a header line."""
    headers: int = 256
    """Header lines."""
    head: int = 4 * 1024 * 1024
    """Bytes from the command to the end of the last header line; at least ``header_line``."""
    body: int = 4 * 1024 * 1024
    """Bytes in the body."""


def escape(text: str, version: Version) -> str:
    """A header's name or value as it goes on the wire.

    What the version cannot escape is left as it is: in 1.1 a CR is data, in 1.0 everything is.
    """
    if _TO_ESCAPE.search(text) is None:
        return text
    escapes = ESCAPES[version]
    return _TO_ESCAPE.sub(lambda found: escapes.get(found[0], found[0]), text)


def encode_headers(headers: Mapping[str, str], version: Version) -> bytes:
    r"""Header lines, each with its line end, escaped as the version does.

    Raises:
        LocalProtocolError: the version has no way to say it: a line feed, or a ``:`` in a name, in
            1.0; a NUL or half a surrogate pair in any.
    """
    lines = plain_lines("".join([f"{name}:{value}\n" for name, value in headers.items()]), len(headers))
    if lines is not None:
        return lines
    text = "".join([_header_line(name, value, version) for name, value in headers.items()])
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a header is no Unicode text: {error.reason}") from error


def plain_lines(text: str, count: int) -> bytes | None:
    """So many header lines as they are, if all versions have them so; None: something is escaped or not said.

    It is nearly always so, and seen in the whole at once: 0.9 us for four headers instead of 2.3.
    """
    if (
        text.count(":") == count
        and text.count("\n") == count
        and "\\" not in text
        and "\r" not in text
        and "\0" not in text
        and "\n:" not in text
        and text[:1] != ":"
    ):
        try:
            return text.encode()
        except UnicodeEncodeError:
            return None
    return None


def expressible(headers: Mapping[str, str], version: Version) -> dict[str, str]:
    """What of the headers the version can say, for messages on their way to older clients.

    Names that cannot be said are left out; line feeds and NULs in values become spaces, halves of
    surrogate pairs question marks.
    """
    said: dict[str, str] = {}
    for raw_name, raw_value in headers.items():
        name, value = (text.encode("utf-8", "replace").decode() for text in (raw_name, raw_value))
        try:
            _header_line(name, value, version)
        except LocalProtocolError:
            value = value.replace("\0", " ")
            if version is Version.V1_0:
                if ":" in name or "\n" in name:
                    continue
                value = value.replace("\n", " ")
            if not name or "\0" in name:
                continue
        said[name] = value
    return said


def encode(frame: Frame, version: Version) -> bytes:
    """The whole frame, its closing NUL included.

    ``content-length`` is ours: it is written for frames that have a body, whatever the headers say.

    Raises:
        LocalProtocolError: a header cannot be said in this version, or the frame may not have a body.
    """
    command, body = frame.command, frame.body
    if body and command not in WITH_BODY:
        raise LocalProtocolError(f"a {command} frame cannot have a body (STOMP 1.2, Body)")
    headers = {name: value for name, value in frame.headers.items() if name != "content-length"}
    if body:
        headers["content-length"] = str(len(body))
    if command in UNESCAPED:
        version = Version.V1_0
        # These are read before the version is known, so as in 1.2: there a CR ends a line or is an error.
        for name, value in headers.items():
            if "\r" in name or "\r" in value:
                raise LocalProtocolError(
                    f"header {name!r} of a {command} has a CR in it, which nothing escapes"
                )
    return b"".join((command.encode("ascii"), b"\n", encode_headers(headers, version), b"\n", body, b"\0"))


def _header_line(name: str, value: str, version: Version) -> str:
    if not name:
        raise LocalProtocolError("a header needs a name")
    if "\0" in name or "\0" in value:
        raise LocalProtocolError(f"header {name!r} has a NUL in it")
    if version is Version.V1_0:
        if ":" in name or "\n" in name or "\n" in value:
            raise LocalProtocolError(f"header {name!r} cannot be said here: nothing is escaped")
        return f"{name}:{value}\n"
    return f"{escape(name, version)}:{escape(value, version)}\n"
