"""Who a peer is: a proxy's word counts only where the proxy is trusted."""

from __future__ import annotations

import logging

import pytest
import trio
from peer import Peer, TcpPeer, without_heart_beats
from trio.testing import MockClock
from wire import handshake

from trio_stomp import AcceptConfig, ConnectRequest, HttpConfig, ProxyConfig, StompApp, User
from trio_stomp.server.remote import Trust, address_of
from trio_stomp.testing import TestServer, open_test_server

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")
TRUSTING = ProxyConfig(trusted=PROXIES)
BEHIND_PROXY = ProxyConfig(trusted=PROXIES, protocol=True)
PROXY = "10.0.0.1:4000"
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 50123 80\r\n"


def app_that_tells() -> tuple[StompApp, list[str]]:
    """An app, and the addresses of those who connect."""
    app, seen = StompApp(), []

    @app.on_connect
    async def note(request: ConnectRequest) -> User:
        seen.append(request.remote)
        return User("somebody")

    return app, seen


# Whose word counts.


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("192.0.2.7:50123", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8::7]:50123", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[fe80::1%eth0]:5", "fe80::1"),
        ("[::ffff:192.0.2.7]:5", "192.0.2.7"),
    ],
)
def test_an_address_is_found_with_and_without_its_port(remote: str, address: str) -> None:
    assert str(address_of(remote)) == address


@pytest.mark.parametrize("remote", ["memory", "gone", "", "unknown", "example.com:80", "1.2.3.4:5:6"])
def test_what_has_no_address_has_none(remote: str) -> None:
    assert address_of(remote) is None


@pytest.mark.parametrize(
    ("remote", "fields", "found"),
    [
        (PROXY, ["192.0.2.7"], "192.0.2.7"),
        (PROXY, ["1.1.1.1, 192.0.2.7"], "192.0.2.7"),  # 1.1.1.1: what the client says of itself
        (PROXY, ["1.1.1.1, 192.0.2.7, 10.9.9.9"], "192.0.2.7"),
        (PROXY, ["1.1.1.1", "192.0.2.7", "10.9.9.9"], "192.0.2.7"),  # of several lines
        (PROXY, ["192.0.2.7:50123"], "192.0.2.7"),
        (PROXY, ["[2001:db8::7]:443"], "2001:db8::7"),
        (PROXY, ["2001:db8::7 , 2001:db8:ffff::1"], "2001:db8::7"),
        (PROXY, ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),  # a proxy's own request
        (PROXY, ["192.0.2.7, unknown"], PROXY),
        (PROXY, ["192.0.2.7, unknown, 10.9.9.9"], "10.9.9.9"),
        (PROXY, ["192.0.2.7:\x1b[2J"], "192.0.2.7"),  # what is for a terminal does not get into the log
        (PROXY, [""], PROXY),
        (PROXY, [], PROXY),
        ("[2001:db8:ffff::1]:4000", ["192.0.2.7"], "192.0.2.7"),
        ("[::ffff:10.0.0.1]:4000", ["192.0.2.7"], "192.0.2.7"),
        ("192.0.2.1:4000", ["192.0.2.7"], "192.0.2.1:4000"),
        ("memory", ["192.0.2.7"], "memory"),
    ],
)
def test_the_rightmost_untrusted_address_is_the_peers(remote: str, fields: list[str], found: str) -> None:
    assert Trust(TRUSTING).forwarded(remote, fields) == found


def test_nobody_is_trusted_by_default() -> None:
    assert Trust(ProxyConfig()).forwarded("127.0.0.1:5", ["192.0.2.7"]) == "127.0.0.1:5"


# X-Forwarded-For.


async def remote_over_http(remote: str, proxy: ProxyConfig, *, opening: bytes = b"") -> str:
    """What the app is told of one who comes over the WebSocket port."""
    app, seen = app_that_tells()
    async with open_test_server(app, without_heart_beats(proxy=proxy)) as server:
        peer = Peer(server.connect(remote=remote))
        await peer.wire.send(opening, handshake(extra=["X-Forwarded-For: 1.1.1.1, 192.0.2.7"]))
        await peer.wire.read_until(b"\r\n\r\n")
        await peer.say("CONNECT", accept_version="1.2", host="h")
        await peer.frame()
    return seen[0]


async def test_the_app_sees_whom_the_proxy_speaks_for(autojump_clock: MockClock) -> None:
    assert await remote_over_http(PROXY, TRUSTING) == "192.0.2.7"


async def test_an_untrusted_peer_speaks_for_itself(autojump_clock: MockClock) -> None:
    assert await remote_over_http("192.0.2.1:5", TRUSTING) == "192.0.2.1:5"


async def test_a_proxy_behind_a_proxy_speaks_for_its_client(autojump_clock: MockClock) -> None:
    opening = b"PROXY TCP4 10.0.0.2 10.0.0.1 50123 80\r\n"
    assert await remote_over_http(PROXY, BEHIND_PROXY, opening=opening) == "192.0.2.7"


async def test_the_limit_per_address_goes_by_whom_the_proxy_speaks_for(autojump_clock: MockClock) -> None:
    config = without_heart_beats(proxy=TRUSTING, accept=AcceptConfig(per_address=1))

    async def status(server: TestServer, client: str) -> bytes:
        peer = Peer(server.connect(remote=PROXY))
        await peer.wire.send(handshake(extra=[f"X-Forwarded-For: {client}"]))
        head = await peer.wire.read_until(b"\r\n\r\n")
        return head.split(b" ")[1]

    async with open_test_server(None, config) as server:
        clients = ["192.0.2.7", "192.0.2.7", "192.0.2.8"]
        assert [await status(server, client) for client in clients] == [b"101", b"503", b"101"]


# The PROXY protocol.


async def test_a_header_tells_who_connects(autojump_clock: MockClock) -> None:
    app, seen = app_that_tells()
    async with open_test_server(app, without_heart_beats(proxy=BEHIND_PROXY)) as server:
        peer = TcpPeer(server.connect_tcp(remote=PROXY))
        await peer.send(LINE)
        assert (await peer.connect()).command == "CONNECTED"
    assert seen == ["192.0.2.7:50123"]


async def test_a_header_may_come_byte_by_byte_and_stomp_right_behind_it(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats(proxy=BEHIND_PROXY)) as server:
        peer = TcpPeer(server.connect_tcp(remote=PROXY))
        for byte in LINE:
            await peer.send(bytes((byte,)))
            await trio.testing.wait_all_tasks_blocked()
        assert (await peer.connect()).command == "CONNECTED"
        peer = TcpPeer(server.connect_tcp(remote=PROXY))
        await peer.send(LINE, b"CONNECT\naccept-version:1.2\nhost:h\n\n\0")
        assert (await peer.frame()).command == "CONNECTED"


async def test_a_proxys_own_health_check_is_served(autojump_clock: MockClock) -> None:
    local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
    async with open_test_server(None, without_heart_beats(proxy=BEHIND_PROXY)) as server:
        peer = Peer(server.connect(remote=PROXY))
        await peer.wire.send(local, b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await peer.wire.read_to_end()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("remote", "sent", "reason"),
    [
        ("192.0.2.1:5", LINE, "untrusted"),
        ("memory", LINE, "untrusted"),
        (PROXY, b"CONNECT\naccept-version:1.2\nhost:h\n\n\0", "malformed"),
        (PROXY, LINE.replace(b"192", b"999"), "malformed"),
        (PROXY, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "malformed"),
        (PROXY, LINE[:10], "late"),
        (PROXY, b"", "late"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_who_has_no_header_of_a_trusted_proxy_is_closed_without_a_word_and_counted(
    kind: str,
    remote: str,
    sent: bytes,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    config = without_heart_beats(proxy=BEHIND_PROXY, http=HttpConfig(head_timeout=3))
    with caplog.at_level(logging.INFO, "trio_stomp.server"):
        async with open_test_server(None, config) as server:
            started = trio.current_time()
            stream = (server.connect if kind == "http" else server.connect_tcp)(remote=remote)
            await stream.send_all(sent)
            assert await stream.receive_some(1) == b""
            assert trio.current_time() - started == pytest.approx(3 if reason == "late" else 0)
            await trio.testing.wait_all_tasks_blocked()
            metrics = server.statistics().metrics
            assert metrics.proxy_refused == {reason: 1}
            assert metrics.limit_hits["http.head_timeout"] == (reason == "late")
            assert metrics.limit_hits["proxy.header_bytes"] == sent.endswith(b"\xff\xff")
            assert metrics.connections_current == 0
    assert f"connection from {remote} closed: " in caplog.text


async def test_a_probe_that_says_nothing_is_not_counted(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats(proxy=BEHIND_PROXY)) as server:
        stream = server.connect_tcp(remote=PROXY)
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        metrics = server.statistics().metrics
        assert (metrics.proxy_refused, metrics.connections_closed) == ({}, 1)


async def test_a_header_that_breaks_off_is_malformed(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats(proxy=BEHIND_PROXY)) as server:
        stream = server.connect_tcp(remote=PROXY)
        await stream.send_all(LINE[:20])
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().metrics.proxy_refused == {"malformed": 1}


async def test_without_the_setting_a_header_is_no_stomp(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats(proxy=TRUSTING)) as server:
        peer = TcpPeer(server.connect_tcp(remote=PROXY))
        await peer.send(LINE, b"\n\0")
        assert [frame.command for frame in await peer.to_end()] == ["ERROR"]
