"""The PROXY protocol's header: bytes in, an address out, and never a byte too many."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_stomp.transport.proxy import Proxied, ProxyHeaderError, ProxyReader

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = b"PROXY CONNECT\naccept-version:1.2\n\n\0"
"""What may follow a header, and is not to be touched."""


def version_2(addresses: bytes = b"", *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


def over_ipv4(source: str, port: int, *, tail: bytes = b"") -> bytes:
    ends = ipaddress.ip_address(source).packed + bytes((127, 0, 0, 1))
    return version_2(ends + struct.pack("!HH", port, 80) + tail)


def over_ipv6(source: str, port: int, *, tail: bytes = b"") -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address("::1").packed
    return version_2(ends + struct.pack("!HH", port, 80) + tail, family=0x21)


def read(data: bytes, most: int = 1 << 20) -> tuple[Proxied | None, bytes]:
    """Feed at most ``most`` bytes at a time; the header, and what was left alone."""
    reader = ProxyReader(limit_bytes=4096)
    while data:
        size = min(most, reader.wanted)
        assert size > 0
        header = reader.receive_data(data[:size])
        data = data[size:]
        if header is not None:
            return header, data
    return None, data


def source_of(data: bytes) -> str | None:
    """The header's source; the same whole, in pieces, and with something behind it."""
    whole, _ = read(data)
    assert whole is not None
    for most in (1, 2, 3, 7, 1 << 20):
        assert read(data, most) == (whole, b"")
        assert read(data + BEHIND, most) == (whole, BEHIND)
        for end in range(len(data)):
            assert read(data[:end], most) == (None, b"")
    return whole.source


FULL = b"ffff:" * 7 + b"ffff"
TLVS = b"\x04\x00\x03\0\0\0" + b"\x20\x00\x05\x01\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 50123 80\r\n", "192.0.2.7:50123"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1"),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
        (b"PROXY TCP6 :: :: 0 0\r\n", "[::]:0"),
        (b"PROXY TCP6 %b %b 65535 65535\r\n" % (FULL, FULL), f"[{FULL.decode()}]:65535"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 anything goes 1 2\r\n", None),
        (over_ipv4("192.0.2.7", 50123), "192.0.2.7:50123"),
        (over_ipv4("192.0.2.7", 0, tail=TLVS), "192.0.2.7:0"),
        (over_ipv6("2001:db8::7", 65535), "[2001:db8::7]:65535"),
        (over_ipv6("2001:db8::7", 1, tail=TLVS), "[2001:db8::7]:1"),
        (version_2(command=0x20, family=0x00), None),  # LOCAL: the proxy's own health check
        (version_2(bytes(12), command=0x20), None),
        (version_2(family=0x00), None),  # unspecified
        (version_2(bytes(216), family=0x31), None),  # a Unix socket
        (version_2(bytes(12), family=0x12), None),  # datagrams
    ],
)  # fmt: skip
def test_a_header_is_understood_whole_in_pieces_and_with_more_behind_it(
    data: bytes, source: str | None
) -> None:
    assert source_of(data) == source


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"CONNECT\naccept-version:1.2\n\n\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x12",  # TLS
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n\n\n\n\n\n\n\n\n\n\n\n",
        b"proxy TCP4 192.0.2.7 127.0.0.1 50123 80\r\n",
        b"PROXY TCP5 192.0.2.7 127.0.0.1 50123 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 50123 80\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 50123\r80\r\n",
        b"PROXY TCP4  192.0.2.7 127.0.0.1 50123 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 50123 80 \r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 50123 65536\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 050123 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 -1 80\r\n",
        b"PROXY TCP4 192.0.2.007 127.0.0.1 50123 80\r\n",
        b"PROXY TCP4 192.0.2.256 127.0.0.1 50123 80\r\n",
        b"PROXY TCP4 2001:db8::7 127.0.0.1 50123 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0 50123 80\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 50123 80\r\n",
        b"PROXY TCP6 192.0.2.7 127.0.0.1 50123 80\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        version_2(bytes(12), command=0x11),
        version_2(bytes(12), command=0x22),
        version_2(bytes(12), family=0x41),
        version_2(bytes(12), family=0x13),
        version_2(bytes(11)),
        version_2(bytes(35), family=0x21),
    ],
)
def test_what_is_no_header_is_refused_whole_and_in_pieces(data: bytes) -> None:
    for most in (1, 2, 5, 1 << 20):
        with pytest.raises(ProxyHeaderError):
            read(data, most)


def test_a_header_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(ProxyHeaderError, match="5016 bytes, expected at most 4096") as caught:
        read(version_2(bytes(5000))[:16])
    assert caught.value.limit == "proxy.header_bytes"
    assert read(version_2(bytes(4080)))[0] is not None


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=200), st.data())
def test_any_address_survives(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, tail: bytes, data: st.DataObject
) -> None:
    over = over_ipv4 if address.version == 4 else over_ipv6
    line = f"PROXY TCP{address.version} {address} {address} {port} 1\r\n".encode()
    shown = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    most = data.draw(st.integers(1, 300))
    for header in (line, over(str(address), port, tail=tail)):
        assert read(header + BEHIND, most) == (Proxied(shown), BEHIND)


@example(b"PROXY ", b"\n\0", 1)
@given(
    st.sampled_from([b"", SIGNATURE, SIGNATURE + b"\x21\x11", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN"]),
    st.binary(max_size=300),
    st.integers(1, 50),
)
def test_whatever_comes_is_a_header_or_refused_the_same_in_any_pieces(
    start: bytes, rest: bytes, most: int
) -> None:
    def outcome(most: int) -> object:
        try:
            return read(start + rest, most)
        except ProxyHeaderError:
            return "refused"

    assert outcome(most) == outcome(1 << 20)
