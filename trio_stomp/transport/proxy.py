r"""The PROXY protocol's header, versions 1 and 2: who connected to the proxy (sans-I/O).

Rule 1: not a byte beyond the header is asked for: what follows is TLS, HTTP or STOMP.
Rule 2: whether the sender is to be believed is not judged here.

The specification is proxy-protocol.txt of HAProxy; the sections are its.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from trio_stomp.errors import TrioStompError

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""Opens version 2: no HTTP, no TLS and no STOMP begins like this (section 2.2)."""
_HEAD: Final = len(_SIGNATURE) + 4
"""Bytes of version 2 before the addresses: signature, version and command, family, length."""
_WORD: Final = b"PROXY "
_LINE_BYTES: Final = 107
"""The longest line of version 1, its CRLF included (section 2.1)."""
_LINE: Final = re.compile(
    rb"PROXY (TCP4 [0-9.]+ [0-9.]+|TCP6 [0-9A-Fa-f:.]+ [0-9A-Fa-f:.]+)"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN( [^\r\n]*)?\r\n")

_LOCAL, _PROXY = 0, 1
_TCP4, _TCP6 = 0x11, 0x21
_SIZES: Final = ((_TCP4, 4), (_TCP6, 16))
"""Family with protocol, and bytes of an address."""


class ProxyHeaderError(TrioStompError):
    """What came is no header of the PROXY protocol.

    Attributes:
        limit: the setting whose limit was reached; None when it was none.
    """

    def __init__(self, message: str, *, limit: str | None = None) -> None:
        super().__init__(message)
        self.limit = limit


@attrs.frozen
class Proxied:
    """A header.

    Attributes:
        source: who connected to the proxy, as ``192.0.2.7:50123`` or ``[2001:db8::7]:50123``. None: the proxy
            speaks for itself (a health check), or does not know.
    """

    source: str | None


class ProxyReader:
    """Bytes in, a `Proxied` out.

    Attributes:
        wanted: how many bytes may be read now without going past the header.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = b""
        self.wanted = len(_SIGNATURE)  # the shortest line of version 1 has 15

    @property
    def is_fresh(self) -> bool:
        """Whether no byte has come yet."""
        return not self._buffer

    def receive_data(self, data: bytes) -> Proxied | None:
        """Take up to `wanted` bytes; the header when it is complete. Not to be called after that.

        Raises:
            ProxyHeaderError: as soon as the bytes cannot become one.
        """
        assert len(data) <= self.wanted, (len(data), self.wanted)
        self._buffer += data
        if _SIGNATURE.startswith(self._buffer[: len(_SIGNATURE)]):
            return self._version_2(self._buffer)
        if _WORD.startswith(self._buffer[: len(_WORD)]):
            return self._version_1(self._buffer)
        raise ProxyHeaderError("the connection does not begin with a PROXY header")

    def _version_1(self, line: bytes) -> Proxied | None:
        if b"\n" in line:  # its end, or no line; never longer than _LINE_BYTES: no more is wanted
            if _UNKNOWN.fullmatch(line):
                return Proxied(None)
            found = _LINE.fullmatch(line)
            if found is None:
                raise ProxyHeaderError("the PROXY line is not as section 2.1 has it")
            kind, source, destination = found[1].decode().split(" ")
            port, other_port = int(found[2]), int(found[3])
            parse = ipaddress.IPv4Address if kind == "TCP4" else ipaddress.IPv6Address
            try:
                address = parse(source)
                parse(destination)
            except ValueError as error:
                raise ProxyHeaderError(f"the PROXY line: {error}") from None
            if max(port, other_port) > 0xFFFF:
                raise ProxyHeaderError(f"the PROXY line: {max(port, other_port)} is no port")
            return Proxied(_shown(address, port))
        if len(line) >= _LINE_BYTES or b"\r" in line[:-1]:
            raise ProxyHeaderError(f"no CRLF within the {_LINE_BYTES} bytes of a PROXY line")
        missing = 1 if line.endswith(b"\r") else 2
        self.wanted = min(max(missing, len(_SIGNATURE) - len(line)), _LINE_BYTES - len(line))
        return None

    def _version_2(self, header: bytes) -> Proxied | None:
        size = _HEAD
        if len(header) >= _HEAD:
            version, command = header[12] >> 4, header[12] & 0x0F
            if version != 2 or command not in (_LOCAL, _PROXY):
                raise ProxyHeaderError(
                    f"PROXY version and command are {header[12]:#x}, expected 0x20 or 0x21"
                )
            if header[13] >> 4 > 3 or header[13] & 0x0F > 2:
                raise ProxyHeaderError(f"PROXY family and protocol are {header[13]:#x}, which is none")
            size += int.from_bytes(header[14:_HEAD], "big")
            if size > self._limit_bytes:
                raise ProxyHeaderError(
                    f"the PROXY header has {size} bytes, expected at most {self._limit_bytes}",
                    limit="proxy.header_bytes",
                )
        if len(header) < size:
            self.wanted = (size if len(header) >= len(_SIGNATURE) else len(_SIGNATURE)) - len(header)
            return None
        if header[12] & 0x0F == _LOCAL:
            return Proxied(None)
        for family, length in _SIZES:
            if header[13] == family:
                if size < _HEAD + 2 * length + 4:
                    raise ProxyHeaderError(f"a PROXY header of {size} bytes has no room for its addresses")
                address = ipaddress.ip_address(header[_HEAD : _HEAD + length])
                at = _HEAD + 2 * length
                return Proxied(_shown(address, int.from_bytes(header[at : at + 2], "big")))
        return Proxied(None)  # a Unix socket, datagrams, or unspecified: the proxy's own address stands


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
