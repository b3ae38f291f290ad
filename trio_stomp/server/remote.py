"""Who a peer is: the socket's address, or the one that a trusted proxy tells.

Rule: nobody is believed who is not in ``proxy.trusted``: a header can be written by anybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import trio

from trio_stomp.config import ProxyConfig
from trio_stomp.transport.proxy import Proxied, ProxyHeaderError, ProxyReader

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Trust:
    """Tells proxies, who are believed, from everybody else."""

    def __init__(self, config: ProxyConfig) -> None:
        self._networks = [ipaddress.ip_network(network) for network in config.trusted]

    def covers(self, remote: str) -> bool:
        """Whether ``remote`` (see `peer_of`) is a trusted proxy."""
        address = address_of(remote)
        return address is not None and any(address in network for network in self._networks)

    def forwarded(self, remote: str, fields: Sequence[str]) -> str:
        """Whom the proxies speak for: the rightmost of ``X-Forwarded-For`` that is none of them.

        Each proxy appends who connected to it, so what is left of the first untrusted one is hearsay.
        ``remote`` itself when it is not trusted, or when nothing legible stands next to it.

        Args:
            fields: the values of the header's lines, in order.
        """
        hops = [hop.strip() for field in fields for hop in field.split(",")]
        while self.covers(remote) and hops:
            address = address_of(hops.pop())
            if address is None:
                break
            remote = str(address)  # not the header's own words: it is for the log
        return remote


def peer_of(stream: trio.abc.Stream) -> str:
    """Return the socket's peer, as ``192.0.2.7:50123``; ``memory`` and ``gone`` for what has no address."""
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(plain, trio.SocketStream):
        return "memory"
    try:
        host, port = plain.socket.getpeername()[:2]
    except (OSError, ValueError):
        return "gone"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(remote: str) -> Address | None:
    """Return the address in ``192.0.2.7:50123``, ``[2001:db8::7]:50123``, or one without a port.

    IPv4 within IPv6 (a socket for both) is IPv4. None for what has no address, as ``memory``.
    """
    host, bracket, _ = remote.partition("]")
    if bracket:
        host = host.removeprefix("[")
    elif remote.count(":") == 1:
        host = remote.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # without an interface's name
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


async def read_proxy_header(stream: trio.abc.ReceiveStream, *, limit_bytes: int) -> Proxied | None:
    """Read the PROXY header that opens a connection, and not a byte more; None: it closed without a word.

    The caller puts the deadline round it.

    Raises:
        ProxyHeaderError: something else came.
        trio.BrokenResourceError: the connection was lost.
    """
    reader = ProxyReader(limit_bytes=limit_bytes)
    while True:
        data = await stream.receive_some(reader.wanted)
        if not data:
            if reader.is_fresh:
                return None
            raise ProxyHeaderError("the connection ended within its PROXY header")
        header = reader.receive_data(bytes(data))
        if header is not None:
            return header
