"""The front door over a connection: what a browser, a probe, a scraper or a rude peer is answered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import trio
from hardening import handshake_with
from peer import Gate, Peer, open_peer, without_heart_beats
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import Wire, handshake

from trio_stomp import HttpConfig, Message, StompApp
from trio_stomp.testing import TestServer, open_test_server

QUIET = without_heart_beats()


@attrs.frozen
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(target: str, *, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: testserver\r\n{extra}\r\n".encode()


async def ask(server: TestServer, data: bytes) -> Answer:
    """Send a request; the whole answer, after which the server must have hung up."""
    wire = Wire(server.connect())
    await wire.stream.send_all(data)
    return await answer_on(wire)


async def answer_on(wire: Wire) -> Answer:
    head, _, body = (await wire.read_to_end()).partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return Answer(int(status.split()[1]), {name.lower(): value for name, _, value in fields}, body)


# For machines.


async def test_healthz_is_200_while_alive(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        answer = await ask(server, request("/healthz"))
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert answer.headers["connection"] == "close"


async def test_readyz_is_200_when_ready_and_503_when_draining(autojump_clock: MockClock) -> None:
    held, app = trio.Event(), StompApp()

    @app.on_message("/app/hold")
    async def hold(message: Message) -> None:
        await held.wait()

    async with open_test_server(app, QUIET) as server:
        assert (await ask(server, request("/readyz"))).status == 200
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain)
            await wait_all_tasks_blocked()
            answer = await ask(server, request("/readyz"))
            assert (answer.status, answer.body) == (503, b"draining\n")
            assert (await ask(server, request("/healthz"))).status == 200
            held.set()


async def test_an_upgrade_while_draining_is_503_with_retry_after(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        await server.server.drain()
        answer = await ask(server, handshake())
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.body
        assert server.statistics().metrics.handshakes_refused["503"] == 1


async def test_metrics_are_prometheus_text_and_count_sessions(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client():
        answer = await ask(server, request("/metrics"))
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = dict(
            line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#")
        )
        assert samples["trio_stomp_sessions_current"] == "1"


async def test_each_answer_is_counted_by_its_status(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        for target in ("/healthz", "/healthz", "/nowhere"):
            await ask(server, request(target))
        await wait_all_tasks_blocked()
        metrics = server.statistics().metrics
        assert dict(metrics.http_requests) == {"200": 2, "404": 1}
        assert metrics.connections_opened == metrics.connections_closed == 3


# For browsers.


@pytest.mark.parametrize(
    ("target", "status", "content_type", "body"),
    [
        ("/", 200, "text/html; charset=utf-8", b"<p>chat"),
        ("/chat.css", 200, "text/css; charset=utf-8", b"p {}"),
        ("/a%20b.txt?v=1", 200, "text/plain; charset=utf-8", b"space"),
        ("/missing.js", 404, "text/plain; charset=utf-8", b"nothing here\n"),
        ("/../secret", 404, "text/plain; charset=utf-8", b"nothing here\n"),
        ("/%2e%2e/secret", 404, "text/plain; charset=utf-8", b"nothing here\n"),
        ("/.env", 404, "text/plain; charset=utf-8", b"nothing here\n"),
    ],
)
async def test_static_files_are_served(
    tmp_path: Path, target: str, status: int, content_type: str, body: bytes
) -> None:
    # In real time: the clock that jumps does not notice the thread that reads the file.
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    for name, content in (
        ("index.html", b"<p>chat"),
        ("chat.css", b"p {}"),
        ("a b.txt", b"space"),
        (".env", b"secret"),
    ):
        (site / name).write_bytes(content)
    async with open_test_server(None, without_heart_beats(static={"/": str(site)})) as server:
        answer = await ask(server, request(target))
        assert (answer.status, answer.body) == (status, body)
        assert answer.headers["content-type"] == content_type
        assert answer.headers["content-length"] == str(len(body))


async def test_machines_paths_win_over_files(tmp_path: Path) -> None:
    (tmp_path / "healthz").write_text("a file")
    async with open_test_server(None, without_heart_beats(static={"/": str(tmp_path)})) as server:
        assert (await ask(server, request("/healthz"))).body == b"ok\n"


@pytest.mark.parametrize("target", ["/healthz", "/readyz", "/metrics", "/nowhere"])
async def test_head_gets_the_head_of_what_get_gets(target: str, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        got = await ask(server, request(target))
        head = await ask(server, request(target, method="HEAD"))
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers.keys() == got.headers.keys()
        assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("target", ["/healthz", "/metrics", "/nowhere", "/ws"])
async def test_other_methods_are_405_with_allow(method: str, target: str, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        answer = await ask(server, request(target, method=method))
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]
        assert answer.body


async def test_a_body_that_is_not_read_does_not_keep_the_answer_from_arriving(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(None, QUIET) as server:
        data = request("/healthz", method="POST", extra="Content-Length: 5\r\n") + b"12345"
        assert (await ask(server, data)).status == 405


# For WebSocket handshakes.


async def test_a_plain_get_of_the_endpoint_is_426_and_says_to_upgrade(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        answer = await ask(server, request("/ws"))
        assert answer.status == 426
        assert answer.headers["upgrade"] == "websocket"
        assert b"WebSocket endpoint" in answer.body


async def test_another_version_of_the_protocol_is_426_and_is_told_ours(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        answer = await ask(server, handshake_with("Sec-WebSocket-Version", b"8"))
        assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://testserver", 101),
        ("https://listed.example", 101),
        ("https://listed.example:8443", 403),
        ("http://testserver.evil.example", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_pages_of_other_origins_are_403(
    origin: str | None, status: int, autojump_clock: MockClock
) -> None:
    config = without_heart_beats(origins=("https://listed.example",))
    async with open_test_server(None, config) as server:
        extra = [] if origin is None else [f"Origin: {origin}"]
        wire = Wire(server.connect())
        await wire.stream.send_all(handshake(extra=extra))
        head = await wire.read_until(b"\r\n\r\n")
        assert head.split()[1] == str(status).encode()
        if status == 403:
            assert await wire.read_to_end()
            assert server.statistics().metrics.handshakes_refused["403"] == 1
        await wire.stream.aclose()


async def test_the_endpoint_can_be_elsewhere(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats(path="/stomp")) as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands(path="/stomp?token=1")
        assert (await ask(server, handshake("/ws"))).status == 404


async def test_an_upgrade_refused_is_told_on_the_wire_in_one_answer(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        answer = await ask(server, handshake_with("Sec-WebSocket-Key", b"short"))
        assert answer.status == 400
        assert answer.headers["content-length"] == str(len(answer.body))


# For slow and rude peers.


async def test_a_head_that_does_not_come_is_408_in_time(autojump_clock: MockClock) -> None:
    config = without_heart_beats(http=HttpConfig(head_timeout=3))
    async with open_test_server(None, config) as server:
        wire, started = Wire(server.connect()), trio.current_time()
        await wire.stream.send_all(b"GET / HT")
        answer = await answer_on(wire)
        assert answer.status == 408
        assert b"3 seconds" in answer.body
        assert trio.current_time() - started == pytest.approx(3)
        assert server.statistics().metrics.limit_hits["http.head_timeout"] == 1


async def test_a_connection_without_a_word_is_408_in_time(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        wire, started = Wire(server.connect()), trio.current_time()
        assert (await answer_on(wire)).status == 408
        assert trio.current_time() - started == pytest.approx(5)


async def test_a_slow_loris_is_cut_off_and_many_of_them_hold_up_nobody(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        wires = [Wire(server.connect()) for _ in range(200)]
        head = handshake(extra=["X-Long: " + "x" * 500])
        for byte in head[:9]:
            for wire in wires:
                await wire.stream.send_all(bytes((byte,)))
            await trio.sleep(0.5)
        assert (await ask(server, request("/healthz"))).status == 200
        await trio.sleep(1)
        assert [(await answer_on(wire)).status for wire in wires] == [408] * 200
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_head_that_is_too_large_is_431(in_pieces: bool, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        wire = Wire(server.connect())
        data = handshake(extra=["X-Long: " + "x" * 17_000])
        for start in range(0, len(data), 100 if in_pieces else len(data)):
            try:
                await wire.stream.send_all(data[start : start + (100 if in_pieces else len(data))])
            except trio.BrokenResourceError:
                break
            await wait_all_tasks_blocked()
        assert (await answer_on(wire)).status == 431
        assert server.statistics().metrics.limit_hits["http.head_bytes"] == 1


async def test_too_many_headers_are_431(autojump_clock: MockClock) -> None:
    config = without_heart_beats(http=HttpConfig(headers=20))
    async with open_test_server(None, config) as server:
        answer = await ask(server, handshake(extra=[f"X-{n}: y" for n in range(30)]))
        assert answer.status == 431


async def test_a_peer_that_connects_and_goes_is_counted_and_not_answered(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(None, QUIET) as server:
        wire = Wire(server.connect())
        await wire.stream.aclose()
        await wait_all_tasks_blocked()
        metrics = server.statistics().metrics
        assert metrics.connections_opened == metrics.connections_closed == 1
        assert dict(metrics.http_requests) == {}
        assert metrics.internal_errors == 0


async def test_a_socket_that_is_closed_already_is_counted_and_nothing_is_raised(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(None, QUIET) as server:
        ours, theirs = trio.socket.socketpair()
        theirs.close()
        stream = trio.SocketStream(ours)
        await stream.aclose()
        await server.server.serve_stream(stream)
        metrics = server.statistics().metrics
        assert metrics.connections_opened == metrics.connections_closed == 1
        assert metrics.internal_errors == 0


async def test_a_peer_that_does_not_read_its_answer_is_cut_in_time(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        ours, theirs = trio.testing.memory_stream_pair()
        gate = Gate(theirs)
        gate.shut()
        await ours.send_all(request("/metrics"))
        started = trio.current_time()
        await server.server.serve_stream(gate, "test")
        assert trio.current_time() - started <= server.server.config.outbox.write_timeout
        assert server.statistics().metrics.internal_errors == 0


async def test_one_connection_is_one_request(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        answer = await ask(server, request("/healthz") * 3)
        assert (answer.status, answer.body) == (200, b"ok\n")
