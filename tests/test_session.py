"""One session from CONNECT to its close: order, receipts, and each way to end."""

from __future__ import annotations

import logging

import pytest
import trio
from peer import Peer, ended, gated_peer, open_peer, stomp, without_heart_beats
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import client_frame, close_frame

from trio_stomp import (
    ConnectRefused,
    ConnectRequest,
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
from trio_stomp.testing import open_test_server

QUIET = without_heart_beats()


class Held:
    """An app whose handlers wait until the test lets them go, and say what they did."""

    def __init__(self) -> None:
        self.app = StompApp()
        self.gate = trio.Event()
        self.done: list[bytes] = []
        self.app.on_message("/app/hold")(self.hold)
        self.app.on_message("/app/note")(self.note)
        self.app.on_message("/app/beside", concurrency=2)(self.beside)

    async def hold(self, message: Message) -> None:
        await self.gate.wait()
        self.done.append(message.body)

    async def note(self, message: Message) -> None:
        self.done.append(message.body)

    async def beside(self, message: Message) -> None:
        await self.gate.wait()
        self.done.append(message.body)


# CONNECT.


@pytest.mark.parametrize("version", list(Version))
async def test_connected_says_who_and_what(version: Version, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = Peer(server.connect(), version)
        connected = await peer.connect()
        assert connected.command == "CONNECTED"
        assert connected.headers.get("version") == (None if version is Version.V1_0 else version.value)
        assert ":" not in connected.headers["session"]


async def test_session_ids_are_not_guessable(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        ids = {(await Peer(server.connect()).connect()).headers["session"] for _ in range(10)}
        assert len(ids) == 10
        assert min(map(len, ids)) >= 22


async def test_no_connect_in_time_is_error_and_1008(autojump_clock: MockClock) -> None:
    async with open_test_server() as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        started = trio.current_time()
        [error] = await peer.to_end()
        assert trio.current_time() - started == pytest.approx(10, abs=0.1)
        assert (error.command, peer.close_code) == ("ERROR", 1008)
        assert server.statistics().metrics.connect_timeouts == 1


async def test_a_drip_of_bytes_does_not_put_off_the_connect_timeout(autojump_clock: MockClock) -> None:
    async with open_test_server() as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        for _ in range(9):
            await trio.sleep(1)
            await peer.send(client_frame(b"\n"))
        await trio.sleep(1.5)
        [error] = await peer.to_end()
        assert "no CONNECT within 10 seconds" in error.headers["message"]


async def test_a_refused_connect_is_error_with_its_text_and_1008(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_connect
    async def refuse(request: ConnectRequest) -> User:
        raise ConnectRefused("members only")

    async with open_test_server(app, QUIET) as server:
        peer = Peer(server.connect())
        error = await peer.connect(then=stomp("SEND", b"x", destination="/topic/a"))
        assert error.headers["message"] == "members only"
        assert await peer.to_end() == []
        assert peer.close_code == 1008
        metrics = server.statistics().metrics
        assert (metrics.connects_refused, metrics.sessions_connected) == (1, 0)


async def test_a_crash_in_on_connect_is_1011_and_says_nothing(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    app = StompApp()

    @app.on_connect
    async def crash(request: ConnectRequest) -> User:
        raise RuntimeError("the database is at 10.0.0.7")

    async with open_test_server(app, QUIET) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        peer = Peer(server.connect())
        error = await peer.connect()
        assert error.headers["message"] == "internal error"
        assert "10.0.0.7" not in str(error)
        await peer.to_end()
        assert peer.close_code == 1011
        await ended(server)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.exc_info is not None


async def test_on_connect_sees_what_the_client_sent(autojump_clock: MockClock) -> None:
    app, seen = StompApp(), []

    @app.on_connect
    async def look(request: ConnectRequest) -> User:
        seen.append(request)
        return User("ada")

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server, login="l", passcode="p", x="y")
        [request] = seen
        assert (request.login, request.passcode, request.host) == ("l", "p", "h")
        assert request.headers["x"] == "y"
        assert request.http_headers["host"] == "testserver"
        assert (request.path, request.subprotocol, request.remote) == ("/ws", "v12.stomp", "test")
        assert peer.close_code is None


async def test_the_users_name_is_told(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_connect
    async def welcome(request: ConnectRequest) -> User:
        return User("ada: the first")

    async with open_test_server(app, QUIET) as server, server.client() as client:
        assert client.user_name == "ada: the first"


async def test_a_client_that_leaves_during_on_connect_leaves_nothing(autojump_clock: MockClock) -> None:
    app, gate = StompApp(), trio.Event()

    @app.on_connect
    async def slow(request: ConnectRequest) -> User:
        await gate.wait()
        return User("ada")

    async with open_test_server(app, QUIET) as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        await peer.say("CONNECT", accept_version="1.2", host="h")
        await wait_all_tasks_blocked()
        await peer.wire.stream.aclose()
        await ended(server)  # on_connect never answers: the linger time ends it


@pytest.mark.parametrize(
    ("host", "is_welcome"), [("chat.example", True), ("other.example", False), (None, False)]
)
async def test_a_virtual_host_is_kept_to(
    host: str | None, is_welcome: bool, autojump_clock: MockClock
) -> None:
    config = without_heart_beats(stomp={"virtual_host": "chat.example"})
    async with open_test_server(None, config) as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        headers = {} if host is None else {"host": host}
        await peer.say("CONNECT", accept_version="1.2", **headers)
        frame = await peer.frame()
        assert frame.command == ("CONNECTED" if is_welcome else "ERROR")
        if not is_welcome:
            await peer.to_end()
            assert peer.close_code == 1008


async def test_any_host_will_do_by_default(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        assert (await Peer(server.connect()).connect()).command == "CONNECTED"


async def test_no_common_version_is_told_with_those_that_there_are(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        await peer.say("CONNECT", accept_version="3.0", host="h")
        [error] = await peer.to_end()
        assert error.headers["version"] == "1.0,1.1,1.2"
        assert peer.close_code == 1002


async def test_a_body_before_connected_is_limited_closely(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        await peer.send(client_frame(b"SEND\ndestination:/topic/a\ncontent-length:70000\n\n"))
        await peer.to_end()
        assert peer.close_code == 1009
        assert server.statistics().metrics.limit_hits["stomp.body_before_connected"] == 1


async def test_headers_before_connected_are_limited_together(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        await peer.send(client_frame(b"CONNECT\n" + b"".join(b"%d:%8000d\n" % (n, n) for n in range(9))))
        await peer.to_end()
        assert peer.close_code == 1009
        assert server.statistics().metrics.limit_hits["stomp.head"] == 1


async def test_frames_in_one_write_with_connect_are_seen_through(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(
            server,
            then=stomp("SUBSCRIBE", destination="/topic/a", id="1")
            + stomp("SEND", b"x", destination="/topic/a"),
        )
        assert (await peer.frame()).body == b"x"


# Receipts and order.


async def test_a_receipt_comes_after_the_effect_and_in_order(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(
            *(stomp("SEND", b"%d" % n, destination="/topic/a", receipt=f"r{n}") for n in range(20))
        )
        got = [await peer.frame() for _ in range(40)]
        assert [frame.headers.get("receipt-id") or frame.body.decode() for frame in got] == [
            text for n in range(20) for text in (str(n), f"r{n}")
        ]


async def test_frames_are_seen_through_one_at_a_time(autojump_clock: MockClock) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.send(
            stomp("SEND", b"first", destination="/app/hold"), stomp("SEND", b"next", destination="/app/note")
        )
        await wait_all_tasks_blocked()
        assert held.done == []
        held.gate.set()
        await wait_all_tasks_blocked()
        assert held.done == [b"first", b"next"]


async def test_one_sessions_handler_does_not_hold_up_another(autojump_clock: MockClock) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        one, two = await open_peer(server), await open_peer(server)
        await one.say("SEND", b"slow", destination="/app/hold")
        await two.say("SEND", b"quick", destination="/app/note", receipt="r")
        assert (await two.frame()).command == "RECEIPT"
        assert held.done == [b"quick"]
        held.gate.set()


# Endings.


async def test_disconnect_gets_its_receipt_then_1000(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(stomp("SEND", b"last", destination="/topic/a"), stomp("DISCONNECT", receipt="bye"))
        assert [frame.command for frame in await peer.to_end()] == ["MESSAGE", "RECEIPT"]
        assert peer.close_code == 1000


async def test_nothing_behind_disconnect_is_seen(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        other, peer = await open_peer(server), await open_peer(server)
        await other.subscribe("/topic/a")
        await peer.send(
            stomp("SEND", b"before", destination="/topic/a"),
            stomp("DISCONNECT"),
            stomp("SEND", b"behind", destination="/topic/a"),
        )
        await peer.to_end()
        await other.say("SEND", b"end", destination="/topic/a")
        assert [(await other.frame()).body for _ in range(2)] == [b"before", b"end"]


async def test_nothing_behind_an_error_is_seen(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        other, peer = await open_peer(server), await open_peer(server)
        await other.subscribe("/topic/a")
        await peer.send(
            stomp("SEND", b"before", destination="/topic/a"),
            stomp("UNSUBSCRIBE", id="unknown", receipt="r"),
            stomp("SEND", b"behind", destination="/topic/a"),
        )
        [error] = await peer.to_end()
        assert (error.command, error.headers["receipt-id"], peer.close_code) == ("ERROR", "r", 1002)
        await other.say("SEND", b"end", destination="/topic/a")
        assert [(await other.frame()).body for _ in range(2)] == [b"before", b"end"]


async def test_what_was_queued_before_an_error_is_sent_first(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(stomp("SEND", b"x", destination="/topic/a", receipt="r"), stomp("MESSAGE"))
        assert [frame.command for frame in await peer.to_end()] == ["MESSAGE", "RECEIPT", "ERROR"]


@pytest.mark.parametrize("is_polite", [True, False])
async def test_frames_received_before_a_close_are_still_handled(
    is_polite: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.send(
            stomp("SEND", b"1", destination="/app/hold"),
            *(stomp("SEND", b"%d" % n, destination="/app/note") for n in range(2, 6)),
            close_frame() if is_polite else b"",
        )
        await wait_all_tasks_blocked()
        await peer.wire.stream.aclose()
        held.gate.set()
        await ended(server)
        assert held.done == [b"1", b"2", b"3", b"4", b"5"]


async def test_what_outlasts_the_linger_time_is_cut(autojump_clock: MockClock) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        peer = await open_peer(server)
        await peer.say("SEND", b"1", destination="/app/hold")
        await wait_all_tasks_blocked()
        started = trio.current_time()
        await peer.wire.stream.aclose()
        await ended(server)
        assert trio.current_time() - started == pytest.approx(10, abs=1)
        assert held.done == []
        assert server.statistics().metrics.limit_hits["stomp.linger"] == 1
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_session_cut_in_the_midst_of_traffic_leaves_the_server_well(
    autojump_clock: MockClock,
) -> None:
    held = Held()
    held.app.allow_send("/topic/**")
    async with open_test_server(held.app, QUIET) as server:
        cut, other = await open_peer(server), await open_peer(server)
        for peer in (cut, other):
            await peer.subscribe("/topic/a")
        await cut.say("SEND", b"1", destination="/app/hold")
        await cut.send(close_frame())
        for _ in range(40):
            await trio.sleep(0.3)
            await other.say("SEND", b"x", destination="/topic/a", receipt="r")
            assert (await other.frame()).command == "MESSAGE"
            assert (await other.frame()).command == "RECEIPT"
        assert server.statistics().sessions == 1
        assert server.statistics().metrics.internal_errors == 0


async def test_a_lost_writer_ends_the_session(autojump_clock: MockClock) -> None:
    config = without_heart_beats(outbox=OutboxConfig(write_timeout=3))
    async with open_test_server(None, config) as server, gated_peer(server) as (peer, gate):
        await peer.subscribe("/topic/a")
        gate.shut()
        await peer.say("SEND", b"x", destination="/topic/a")
        await ended(server)
        metrics = server.statistics().metrics
        assert metrics.write_timeouts == 1
        assert metrics.subscriptions == 0
        assert metrics.close_codes["1006"] == 1


async def test_a_client_that_never_answers_the_close_is_cut_in_time(autojump_clock: MockClock) -> None:
    config = without_heart_beats(websocket=WebSocketConfig(close_timeout=2))
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        started = trio.current_time()
        await peer.say("DISCONNECT")
        await ended(server)
        assert trio.current_time() - started <= 3


async def test_close_of_the_session_by_a_handler_sees_through_what_was_read(
    autojump_clock: MockClock,
) -> None:
    app, done = StompApp(), []

    @app.on_message("/app/leave")
    async def leave(session: Session) -> None:
        session.close("enough", 4001)

    @app.on_message("/app/note")
    async def note(message: Message) -> None:
        done.append(message.body)

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.send(
            stomp("SEND", destination="/app/leave", receipt="r"),
            stomp("SEND", b"still", destination="/app/note"),
        )
        assert [frame.command for frame in await peer.to_end()] == ["RECEIPT"]
        assert peer.close_code == 4001
        assert done == [b"still"]


async def test_a_session_can_be_closed_from_elsewhere_and_twice(autojump_clock: MockClock) -> None:
    app, sessions = StompApp(), []

    @app.on_message("/app/enter")
    async def enter(session: Session) -> None:
        sessions.append(session)

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/enter", receipt="r")
        await peer.frame()
        sessions[0].close("one", 4001)
        sessions[0].close("two", 4002)
        assert await peer.to_end() == []
        assert peer.close_code == 4001
        await ended(server)
        sessions[0].close("three", 4003)  # long gone


async def test_handlers_that_run_beside_finish_before_the_session_ends(autojump_clock: MockClock) -> None:
    held = Held()
    async with open_test_server(held.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.send(
            stomp("SEND", b"1", destination="/app/beside", receipt="r"), stomp("DISCONNECT", receipt="bye")
        )
        await wait_all_tasks_blocked()
        held.gate.set()
        got = [frame.headers["receipt-id"] for frame in await peer.to_end()]
        assert set(got) == {"r", "bye"}
        assert held.done == [b"1"]
        assert peer.close_code == 1000


async def test_a_bug_of_ours_is_1011_and_only_this_session_ends(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, QUIET) as server:
        one, other = await open_peer(server), await open_peer(server)

        def broken(session: object, frame: Frame) -> None:
            raise RuntimeError("secret")

        actions = server.server._core.dispatcher._actions
        actions["UNSUBSCRIBE"] = broken  # type: ignore[index]  # a dict behind its Mapping
        await one.subscribe("/topic/a")
        await one.say("UNSUBSCRIBE", id="1")
        [error] = await one.to_end()
        assert "secret" not in str(error)
        assert one.close_code == 1011
        await other.subscribe("/topic/a")
        assert server.statistics().metrics.internal_errors == 1


@pytest.mark.parametrize(
    "wrong",
    [
        b"SEND\n\n\0",
        b"NOTHING\n\n\0",
        b"CONNECT\naccept-version:1.2\nhost:h\n\n\0",
        b"CONNECTED\n\n\0",
        b"MESSAGE\n\n\0",
        b"RECEIPT\nreceipt-id:1\n\n\0",
        b"ERROR\n\n\0",
        b"SUBSCRIBE\ndestination:/topic/a\n\n\0",
        b"SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0",
        b"UNSUBSCRIBE\nid:9\n\n\0",
        b"ACK\nid:9\n\n\0",
        b"COMMIT\ntransaction:t\n\n\0",
        b"SEND\ndestination:/topic/a\ntransaction:t\n\n\0",
        b"SEND\nno colon\n\n\0",
        b"SEND\ndestination:/topic/a\ncontent-length:x\n\n\0",
        b"SEND\ndestination:/topic/\\t\n\n\0",
        b"SUBSCRIBE\nid:2\ndestination:/topic/a\n\nbody\0",
    ],
)
async def test_a_bad_frame_gets_one_error_and_a_close_and_leaves_nothing(
    wrong: bytes, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, QUIET) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(client_frame(wrong), stomp("SEND", b"behind", destination="/topic/a"))
        assert [frame.command for frame in await peer.to_end()] == ["ERROR"]
        assert peer.close_code == 1002
        await ended(server)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert server.statistics().metrics.subscriptions == 0


async def test_more_subscriptions_than_allowed_are_refused_with_1008(autojump_clock: MockClock) -> None:
    config = ServerConfig(stomp=StompConfig(subscriptions=2))
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        for id in "12":
            await peer.subscribe("/topic/a", id)
        await peer.say("SUBSCRIBE", destination="/topic/a", id="3")
        await peer.to_end()
        assert peer.close_code == 1008
        assert server.statistics().metrics.limit_hits["stomp.subscriptions"] == 1


async def test_a_body_over_the_limit_is_refused_with_1009(autojump_clock: MockClock) -> None:
    config = ServerConfig(stomp=StompConfig(body=1000))
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        await peer.say("SEND", bytes(1001), destination="/topic/a")
        await peer.to_end()
        assert peer.close_code == 1009
        assert server.statistics().metrics.limit_hits["stomp.body"] == 1


async def test_a_frame_may_span_messages_and_a_message_hold_several_frames(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        two = b"SEND\ndestination:/topic/a\n\n1\0\nSEND\ndestination:/topic/a\n\n2\0"
        await peer.send(client_frame(two[:40]), client_frame(two[40:45]), client_frame(two[45:]))
        assert [(await peer.frame()).body for _ in range(2)] == [b"1", b"2"]


async def test_the_end_of_a_session_is_counted(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        async with server.client():
            assert server.statistics().metrics.sessions_current == 1
        await ended(server)
        metrics = server.statistics().metrics
        assert metrics.sessions_current == 0
        assert metrics.close_codes["1000"] == 1
