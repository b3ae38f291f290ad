"""STOMP without a WebSocket: the same sessions, with an ERROR where a close code told the reason."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import tls
import trio
from peer import Gate, Peer, TcpPeer, bare, ended, without_heart_beats
from streams import Recording
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_stomp import (
    AcceptConfig,
    ConnectRefused,
    ConnectRequest,
    DrainConfig,
    HttpConfig,
    Message,
    OutboxConfig,
    ServerConfig,
    Session,
    StompApp,
    StompConfig,
    User,
    Version,
    WebSocketConfig,
)
from trio_stomp.stomp.frames import Frame
from trio_stomp.testing import TestServer, open_test_server

QUIET = without_heart_beats()


class Held:
    """An app whose handlers wait until the test lets them go, and say what they did."""

    def __init__(self) -> None:
        self.app = StompApp()
        self.gate = trio.Event()
        self.done: list[bytes] = []
        self.app.on_message("/app/hold")(self.hold)
        self.app.on_message("/app/note")(self.note)

    async def hold(self, message: Message) -> None:
        await self.gate.wait()
        self.done.append(message.body)

    async def note(self, message: Message) -> None:
        self.done.append(message.body)


async def tcp_peer(server: TestServer, **headers: str) -> TcpPeer:
    """A connected one."""
    peer = TcpPeer(server.connect_tcp())
    connected = await peer.connect(**headers)
    assert connected.command == "CONNECTED", connected
    return peer


# What is the same over both.

Start = Callable[..., Awaitable[Peer]]


async def over_websocket(server: TestServer, version: Version = Version.V1_2) -> Peer:
    peer = Peer(server.connect(), version)
    await peer.wire.shake_hands()
    return peer


async def over_tcp(server: TestServer, version: Version = Version.V1_2) -> Peer:
    return TcpPeer(server.connect_tcp(), version)


@pytest.fixture(params=[over_websocket, over_tcp], ids=lambda start: start.__name__)
def start(request: pytest.FixtureRequest) -> Start:
    """Opens a connection over which STOMP may be spoken."""
    found: Start = request.param
    return found


async def connected(start: Start, server: TestServer, **headers: str) -> Peer:
    """A session over either."""
    peer = await start(server)
    await peer.say("CONNECT", accept_version="1.2", host="h", **headers)
    frame = await peer.frame()
    assert frame.command == "CONNECTED", frame
    return peer


async def endings(server: TestServer, peer: Peer) -> tuple[list[Frame], str]:
    """The frames to the end, and the close code that the server counts; over TCP nothing else has it."""
    frames = await peer.to_end()
    await wait_all_tasks_blocked()
    [code] = server.statistics().metrics.close_codes
    assert peer.close_code in (None, int(code))
    return frames, code


@pytest.mark.parametrize("version", list(Version))
async def test_any_version_is_spoken(start: Start, version: Version, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await start(server, version)
        await peer.say("CONNECT", accept_version=version.value, host="h")
        assert (await peer.frame()).headers.get("version", "1.0") == version.value
        await peer.subscribe("/topic/a")
        body = "null: \0, größer".encode()
        await peer.say("SEND", body, destination="/topic/a", mood="größer")
        message = await peer.frame()
        assert (message.body, message.headers["mood"]) == (body, "größer")


async def test_who_never_connects_is_error_and_1008(start: Start, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer, started = await start(server), trio.current_time()
        [error], code = await endings(server, peer)
        assert "no CONNECT within 10 seconds" in error.headers["message"]
        assert (code, trio.current_time() - started) == ("1008", pytest.approx(10, abs=0.1))
        assert server.statistics().metrics.limit_hits["stomp.connect_timeout"] == 1


async def test_frames_come_in_any_pieces(start: Start, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await connected(start, server)
        await peer.subscribe("/topic/a")
        two = b"\n\r\nSEND\r\ndestination:/topic/a\r\n\r\n1\0\nSEND\ndestination:/topic/a\n\n2\0"
        for at in range(len(two)):
            await peer.tell(two[at : at + 1])
        await peer.tell(two + two)
        assert [(await peer.frame()).body for _ in range(6)] == [b"1", b"2"] * 3


async def test_receipts_come_after_the_effect_and_in_order(start: Start, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await connected(start, server)
        await peer.subscribe("/topic/a")
        await peer.tell(
            *(bare("SEND", b"%d" % n, destination="/topic/a", receipt=f"r{n}") for n in range(20))
        )
        got = [await peer.frame() for _ in range(40)]
        assert [frame.headers.get("receipt-id") or frame.body.decode() for frame in got] == [
            text for n in range(20) for text in (str(n), f"r{n}")
        ]


async def test_one_message_reaches_subscribers_over_both(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peers = [await connected(start, server) for start in (over_websocket, over_tcp, over_tcp)]
        for peer in peers:
            await peer.subscribe("/topic/a")
        await peers[0].say("SEND", b"x", destination="/topic/a")
        assert [(await peer.frame()).body for peer in peers] == [b"x"] * 3


async def test_what_a_lost_session_has_not_acknowledged_goes_to_the_other_kind(
    start: Start, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, QUIET) as server:
        lost = await connected(start, server)
        await lost.say("SUBSCRIBE", id="1", destination="/queue/a", ack="client-individual", receipt="s")
        await lost.frame()
        await lost.tell(*(bare("SEND", b"%d" % n, destination="/queue/a", receipt="r") for n in (1, 2)))
        one, _, two, _ = [await lost.frame() for _ in range(4)]
        await lost.say("ACK", id=two.headers["ack"], receipt="a")
        await lost.frame()
        await lost.wire.stream.aclose()
        await ended(server)
        other = await connected(over_tcp if start is over_websocket else over_websocket, server)
        await other.say("SUBSCRIBE", id="1", destination="/queue/a", ack="client-individual")
        again = await other.frame()
        assert (one.body, again.body, again.headers["redelivered"]) == (b"1", b"1", "true")


async def test_disconnect_gets_its_receipt_and_nothing_else(start: Start, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await connected(start, server)
        await peer.subscribe("/topic/a")
        await peer.tell(
            bare("SEND", b"last", destination="/topic/a"),
            bare("DISCONNECT", receipt="bye"),
            bare("SEND", b"behind", destination="/topic/a", receipt="never"),
        )
        frames, code = await endings(server, peer)
        assert [frame.command for frame in frames] == ["MESSAGE", "RECEIPT"]
        assert code == "1000"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"NOTHING\n\n\0", "1002"),
        (b"SEND\nno colon\n\n\0", "1002"),
        (b"CONNECT\naccept-version:1.2\nhost:h\n\n\0", "1002"),
        (b"UNSUBSCRIBE\nid:9\nreceipt:r\n\n\0", "1002"),
        (b"SEND\ndestination:/nowhere\n\n\0", "1008"),
        (b"SEND\ndestination:/topic/a\ncontent-length:1001\n\n", "1009"),
    ],
)
async def test_a_bad_frame_is_one_error_and_the_end(
    start: Start, wrong: bytes, code: str, autojump_clock: MockClock
) -> None:
    config = without_heart_beats(stomp={"body": 1000})
    async with open_test_server(None, config) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        peer = await connected(start, server)
        await peer.subscribe("/topic/a")
        await peer.tell(wrong, bare("SEND", b"behind", destination="/topic/a"))
        frames, found = await endings(server, peer)
        assert [frame.command for frame in frames] == ["ERROR"]
        assert found == code
        await ended(server)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_refused_connect_is_told(start: Start, autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_connect
    async def refuse(request: ConnectRequest) -> User:
        raise ConnectRefused("members only")

    async with open_test_server(app, QUIET) as server:
        peer = await start(server)
        await peer.say("CONNECT", accept_version="1.2", host="h")
        [error], code = await endings(server, peer)
        assert (error.headers["message"], code) == ("members only", "1008")


async def test_frames_received_before_the_peer_is_lost_are_still_handled(
    start: Start, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        peer = await connected(start, server)
        await peer.tell(
            bare("SEND", b"1", destination="/app/hold"),
            *(bare("SEND", b"%d" % n, destination="/app/note") for n in range(2, 6)),
        )
        await wait_all_tasks_blocked()
        await peer.wire.stream.aclose()
        held.gate.set()
        await ended(server)
        assert held.done == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_lost_peer_is_noticed_while_a_handler_runs_and_cut_in_time(
    start: Start, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        peer = await connected(start, server)
        await peer.tell(bare("SEND", b"1", destination="/app/hold"))
        await wait_all_tasks_blocked()
        started = trio.current_time()
        await peer.wire.stream.aclose()
        await ended(server)
        assert trio.current_time() - started == pytest.approx(10, abs=1)
        assert server.statistics().metrics.limit_hits["stomp.linger"] == 1
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_heart_beats_go_both_ways(start: Start, autojump_clock: MockClock) -> None:
    config = ServerConfig(stomp=StompConfig(heart_beat_send=10, heart_beat_receive=10))
    async with open_test_server(None, config) as server:
        peer = await connected(start, server, heart_beat="10000,10000")
        for _ in range(5):
            await trio.sleep(15)
            await peer.tell(b"\n")
        assert server.statistics().metrics.heart_beats_sent >= 7
        started = trio.current_time()
        [error], code = await endings(server, peer)
        assert "no heart-beat for 20.0 seconds" in error.headers["message"]
        assert (code, trio.current_time() - started) == ("1002", pytest.approx(20, abs=0.1))


async def test_a_peer_that_takes_nothing_is_given_up(start: Start, autojump_clock: MockClock) -> None:
    config = without_heart_beats(outbox=OutboxConfig(write_timeout=3))
    async with open_test_server(None, config) as server, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        gate = Gate(theirs)
        if start is over_tcp:
            nursery.start_soon(server.server.serve_tcp_stream, gate, "gated")
            peer: Peer = TcpPeer(ours)
        else:
            nursery.start_soon(server.server.serve_stream, gate, "gated")
            peer = Peer(ours)
        await peer.connect()
        await peer.subscribe("/topic/a")
        gate.shut()
        await peer.say("SEND", b"x", destination="/topic/a")
        await ended(server)
        metrics = server.statistics().metrics
        assert (metrics.write_timeouts, metrics.close_codes) == (1, {"1006": 1})


# What a close code would have told.


async def test_a_drained_session_is_told_by_an_error_when_all_is_done(autojump_clock: MockClock) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server, trio.open_nursery() as nursery:
        peer = await tcp_peer(server)
        await peer.say("SEND", b"1", destination="/app/hold", receipt="r")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        held.gate.set()
        receipt, error = await peer.to_end()
        assert (receipt.headers["receipt-id"], held.done) == ("r", [b"1"])
        assert (error.command, error.headers["message"]) == ("ERROR", "the server is going away")
        await server.server.wait_stopped()
        metrics = server.statistics().metrics
        assert (metrics.close_codes, metrics.protocol_errors) == ({"1012": 1}, 0)
        assert not server.server.was_cut


async def test_a_drain_ends_who_has_not_connected(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, trio.open_nursery() as nursery:
        peer = TcpPeer(server.connect_tcp())
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        [error] = await peer.to_end()
        assert error.headers["message"] == "the server is going away"


@pytest.mark.parametrize(
    ("reason", "code", "messages"),
    [("enough", 4001, ["enough"]), ("", 1008, ["the server closes this session"]), ("bye", 1000, [])],
)
async def test_a_session_that_the_app_closes_is_told_why(
    reason: str, code: int, messages: list[str], autojump_clock: MockClock
) -> None:
    app = StompApp()

    @app.on_message("/app/leave")
    async def leave(session: Session) -> None:
        session.close(reason, code)

    async with open_test_server(app, QUIET) as server:
        peer = await tcp_peer(server)
        await peer.say("SEND", destination="/app/leave", receipt="r")
        assert [frame.headers.get("message") for frame in await peer.to_end()] == [None, *messages]


async def test_a_client_that_reads_too_slowly_is_told(autojump_clock: MockClock) -> None:
    config = without_heart_beats(outbox=OutboxConfig(bytes=2048))
    async with open_test_server(None, config) as server, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        gate = Gate(theirs)
        nursery.start_soon(server.server.serve_tcp_stream, gate, "gated")
        peer = TcpPeer(ours)
        await peer.connect()
        await peer.subscribe("/topic/a")
        gate.shut()
        for _ in range(5):
            await peer.say("SEND", bytes(900), destination="/topic/a")
        await wait_all_tasks_blocked()
        gate.open()
        *_, last = await peer.to_end()
        assert last.headers["message"].startswith("too slow")
        await wait_all_tasks_blocked()
        assert server.statistics().metrics.close_codes == {"4500": 1}


# Who is let in.


async def refusal(server: TestServer, remote: str = "test") -> Frame:
    peer = TcpPeer(server.connect_tcp(remote=remote))
    [error] = await peer.to_end()
    assert error.command == "ERROR"
    assert 1 <= int(error.headers["retry-after"]) <= 5
    return error


async def test_over_the_limit_it_is_an_error_before_anything_is_asked(autojump_clock: MockClock) -> None:
    config = without_heart_beats(accept=AcceptConfig(connections=2))
    async with open_test_server(None, config) as server:
        await over_websocket(server)
        peer = await tcp_peer(server)
        assert (await refusal(server)).headers["message"] == "2 connections are open already"
        metrics = server.statistics().metrics
        assert (metrics.limit_hits["accept.connections"], metrics.tcp_refused) == (1, 1)
        await peer.say("DISCONNECT")
        await peer.to_end()
        await ended(server, 1)
        await tcp_peer(server)


async def test_over_the_limit_of_an_address_or_the_rate_it_is_an_error(autojump_clock: MockClock) -> None:
    config = without_heart_beats(accept=AcceptConfig(per_address=1, rate=1, burst=2))
    async with open_test_server(None, config) as server:
        peers = [TcpPeer(server.connect_tcp(remote=f"192.0.2.{n}:5")) for n in (1, 2)]
        for peer in peers:
            await peer.connect()
        assert "from this address" in (await refusal(server, "192.0.2.1:6")).headers["message"]
        assert "per second" in (await refusal(server, "192.0.2.3:5")).headers["message"]
        metrics = server.statistics().metrics
        assert (metrics.limit_hits["accept.per_address"], metrics.limit_hits["accept.rate"]) == (1, 1)


async def test_while_draining_it_is_an_error(autojump_clock: MockClock) -> None:
    held = Held()
    config = without_heart_beats(drain=DrainConfig(delay=5, window=0))
    async with open_test_server(held.app, config) as server, trio.open_nursery() as nursery:
        peer = await tcp_peer(server)
        await peer.say("SEND", b"1", destination="/app/hold")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await trio.sleep(4)
        late = await tcp_peer(server)
        nursery.start_soon(late.to_end)
        await trio.sleep(2)
        assert (await refusal(server)).headers["message"] == "the server is draining"
        held.gate.set()
        await peer.to_end()


# What is TCP's own.


async def test_the_app_knows_that_there_was_no_handshake(autojump_clock: MockClock) -> None:
    app, seen = StompApp(), []

    @app.on_connect
    async def note(request: ConnectRequest) -> None:
        seen.append(request)

    async with open_test_server(app, QUIET) as server:
        peer = TcpPeer(server.connect_tcp(remote="192.0.2.7:5"))
        await peer.connect(login="ada")
        [request] = seen
        assert (request.path, request.query, request.http_headers, request.subprotocol) == ("", "", {}, None)
        assert (request.remote, request.login) == ("192.0.2.7:5", "ada")


async def test_no_byte_of_a_websocket_is_sent(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await tcp_peer(server)
        await peer.subscribe("/topic/a")
        await peer.say("SEND", b"x", destination="/topic/a", receipt="r")
        await peer.say("DISCONNECT", receipt="bye")
        await peer.to_end()
        sent = b"".join(peer.raw)
        assert sent.startswith(b"CONNECTED\n")
        assert [frame[:4].strip(b"\n") for frame in sent.split(b"\0")] == [
            b"CONN", b"RECE", b"MESS", b"RECE", b"RECE", b""
        ]  # fmt: skip


@pytest.mark.parametrize("opening", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])
async def test_a_browser_gets_an_error_and_nothing_of_it_is_obeyed(
    opening: bytes, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = TcpPeer(server.connect_tcp())
        await peer.send(opening, b"\0", bare("CONNECT", accept_version="1.2", host="h"))
        assert [frame.command for frame in await peer.to_end()] == ["ERROR"]
        assert server.statistics().metrics.sessions_connected == 0


async def test_little_is_read_ahead_of_a_handler(autojump_clock: MockClock) -> None:
    held = Held()
    config = without_heart_beats(websocket=WebSocketConfig(receive_ahead=2000))
    async with open_test_server(held.app, config) as server, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        recording = Recording(theirs)
        nursery.start_soon(server.server.serve_tcp_stream, recording, "test")
        peer = TcpPeer(ours)
        await peer.connect()
        await peer.say("SEND", b"1", destination="/app/hold")
        await wait_all_tasks_blocked()
        reads = len(recording.read)
        for _ in range(500):  # each is read by itself, and costs more than its bytes
            await peer.send(b"\n")
            await wait_all_tasks_blocked()
        assert 30 < len(recording.read) - reads < 50
        held.gate.set()
        await peer.say("SEND", b"2", destination="/app/note", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"
        nursery.cancel_scope.cancel()


async def test_a_client_that_floods_does_not_put_off_its_end(autojump_clock: MockClock) -> None:
    class Flood(trio.abc.Stream):
        """Always has something to read, without a checkpoint."""

        reads = 0
        sent = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0DISCONNECT\n\n\0"

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            self.reads += 1
            assert self.reads < 10_000
            data, self.sent = self.sent, b"\n"
            return data

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async with open_test_server(None, QUIET) as server:
        with trio.fail_after(100):
            await server.server.serve_tcp_stream(Flood(), "flood")
        metrics = server.statistics().metrics
        assert (metrics.close_codes, metrics.internal_errors) == ({"1000": 1}, 0)


async def test_an_exception_of_ours_ends_one_connection_only(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    class Broken(Gate):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            raise RuntimeError("a bug")

    async with open_test_server(None, QUIET) as server:
        _, theirs = memory_stream_pair()
        with caplog.at_level(logging.CRITICAL):
            await server.server.serve_tcp_stream(Broken(theirs), "broken")
        assert server.statistics().metrics.internal_errors == 1
        await tcp_peer(server)


async def test_cancelling_the_server_closes_at_once(autojump_clock: MockClock) -> None:
    held = Held()
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        async with open_test_server(held.app, QUIET) as server:
            peer = await tcp_peer(server)
            await peer.say("SEND", b"1", destination="/app/hold")
            started = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() == started
    assert await peer.to_end() == []
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before


# TLS.


async def test_tls_is_spoken_and_ends_with_its_farewell() -> None:
    async with open_test_server(None, QUIET) as server, trio.open_nursery() as nursery:
        ours, theirs = tls.over(*memory_stream_pair())
        nursery.start_soon(server.server.serve_tcp_stream, ours, "test")
        peer = TcpPeer(theirs)
        await peer.connect()
        await peer.say("DISCONNECT", receipt="bye")
        assert (await peer.frame()).headers["receipt-id"] == "bye"
        assert await theirs.receive_some() == b""  # without close_notify: BrokenResourceError
        await theirs.aclose()


async def test_tls_that_does_not_come_is_closed_in_time_and_counted(autojump_clock: MockClock) -> None:
    config = without_heart_beats(http=HttpConfig(head_timeout=3))
    async with open_test_server(None, config) as server, trio.open_nursery() as nursery:
        bottom, theirs = memory_stream_pair()
        ours, _ = tls.over(bottom, memory_stream_pair()[0])
        nursery.start_soon(server.server.serve_tcp_stream, ours, "test")
        started = trio.current_time()
        assert await theirs.receive_some(1) == b""
        assert trio.current_time() - started == 3
        await wait_all_tasks_blocked()
        assert server.statistics().metrics.limit_hits["http.head_timeout"] == 1


async def test_plain_stomp_where_tls_is_spoken_is_closed() -> None:
    async with open_test_server(None, QUIET) as server, trio.open_nursery() as nursery:
        bottom, theirs = memory_stream_pair()
        ours, _ = tls.over(bottom, memory_stream_pair()[0])
        await theirs.send_all(bare("CONNECT", accept_version="1.2", host="h"))
        nursery.start_soon(server.server.serve_tcp_stream, ours, "test")
        while await theirs.receive_some(1000):  # perhaps TLS's alert
            pass
        await wait_all_tasks_blocked()
        metrics = server.statistics().metrics
        assert (metrics.connections_current, metrics.internal_errors) == (0, 0)
