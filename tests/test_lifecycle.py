"""Draining: everybody sees through what was read, says what was promised, and is told to come back."""

from __future__ import annotations

import json

import pytest
import trio
import trio.lowlevel
from peer import Gate, HeldRunner, Peer, ended, gated_peer, open_peer, run_pool_in, stomp, without_heart_beats
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from wire import Wire, handshake

from trio_stomp import ConfigError, DrainConfig, Message, State, StompApp
from trio_stomp.testing import TestServer, open_test_server

QUIET = without_heart_beats()


def holding_app() -> tuple[StompApp, trio.Event]:
    app, gate = StompApp(), trio.Event()

    @app.on_message("/app/hold")
    async def hold(message: Message) -> None:
        await gate.wait()

    return app, gate


async def test_idle_sessions_are_closed_with_1012(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peers = [await open_peer(server) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(peer.to_end)
            assert await server.server.drain()
        assert [peer.close_code for peer in peers] == [1012] * 3
        assert server.server.state is State.STOPPED
        assert not server.server.was_cut


async def test_a_server_without_sessions_drains_at_once(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        started = trio.current_time()
        assert await server.server.drain()
        assert trio.current_time() == pytest.approx(started, abs=0.01)


async def test_a_running_handler_finishes_and_its_receipt_goes_out(autojump_clock: MockClock) -> None:
    app, gate = holding_app()
    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.send(stomp("SEND", destination="/app/hold", receipt="r"))
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        assert server.server.state is State.DRAINING
        gate.set()
        assert [frame.headers["receipt-id"] for frame in await peer.to_end()] == ["r"]
        assert peer.close_code == 1012


async def test_frames_that_were_read_before_the_drain_are_seen_through(autojump_clock: MockClock) -> None:
    app, gate = holding_app()
    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.send(*(stomp("SEND", destination="/app/hold", receipt=f"r{n}") for n in range(3)))
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        gate.set()
        assert [frame.headers["receipt-id"] for frame in await peer.to_end()] == ["r0", "r1", "r2"]


async def test_a_blocking_call_finishes_in_a_drain(autojump_clock: MockClock) -> None:
    app, done = StompApp(), []

    @app.on_message("/app/block")
    def block(message: Message) -> None:
        done.append(message.body)

    runner = HeldRunner()
    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        run_pool_in(server, runner)
        peer = await open_peer(server)
        await peer.say("SEND", b"x", destination="/app/block", receipt="r")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        runner.release()
        assert [frame.headers["receipt-id"] for frame in await peer.to_end()] == ["r"]
        assert done == [b"x"]


async def test_the_deadline_cuts_what_does_not_end(autojump_clock: MockClock) -> None:
    app, _ = holding_app()
    config = without_heart_beats(drain=DrainConfig(delay=0, window=0, deadline=7))
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_test_server(app, config) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")
        await wait_all_tasks_blocked()
        started = trio.current_time()
        assert not await server.server.drain()
        assert trio.current_time() - started == pytest.approx(7, abs=0.1)
        assert server.server.was_cut
        assert server.statistics().metrics.limit_hits["drain.deadline"] == 1
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_client_that_does_not_read_does_not_hold_up_the_drain_beyond_its_deadline(
    autojump_clock: MockClock,
) -> None:
    config = without_heart_beats(drain=DrainConfig(delay=0, window=0, deadline=3))
    async with open_test_server(None, config) as server, gated_peer(server) as (peer, gate):
        await peer.subscribe("/topic/a")
        gate.shut()
        await peer.say("SEND", b"x", destination="/topic/a")
        started = trio.current_time()
        assert not await server.server.drain()
        assert trio.current_time() - started <= 3.1


async def test_a_second_drain_waits_for_the_first(autojump_clock: MockClock) -> None:
    app, gate = holding_app()
    answers = []

    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:

        async def drain() -> None:
            answers.append(await server.server.drain())

        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")
        await wait_all_tasks_blocked()
        nursery.start_soon(drain)
        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        assert answers == []
        gate.set()
        await peer.to_end()
    assert answers == [True, True]


async def test_upgrades_are_refused_and_http_is_answered_while_draining(autojump_clock: MockClock) -> None:
    app, gate = holding_app()
    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        answers = {}
        for name, request in {
            "upgrade": handshake(),
            "readyz": b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n",
            "healthz": b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        }.items():
            wire = Wire(server.connect())
            await wire.stream.send_all(request)
            answers[name] = await wire.read_to_end()
        assert answers["upgrade"].startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After:" in answers["upgrade"]
        assert answers["readyz"].startswith(b"HTTP/1.1 503 ")
        assert answers["healthz"].startswith(b"HTTP/1.1 200 ")
        gate.set()
        await peer.to_end()


async def test_a_handshake_under_way_when_the_drain_begins_ends_with_it(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        gate = Gate(theirs)
        nursery.start_soon(server.server.serve_stream, gate, "late")
        other = await open_peer(server)
        gate.shut()
        late = Peer(ours)
        await ours.send_all(handshake())
        await wait_all_tasks_blocked()  # its 101 hangs
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        started = trio.current_time()
        gate.open()
        await late.wire.read_until(b"\r\n\r\n")
        nursery.start_soon(other.to_end)
        assert await late.to_end() == []
        assert late.close_code == 1012
        await server.server.wait_stopped()
        assert trio.current_time() - started < 5


async def test_a_session_before_connect_is_drained_too(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, trio.open_nursery() as nursery:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await peer.to_end()
        assert peer.close_code == 1012


async def test_streams_end_with_the_drain(autojump_clock: MockClock) -> None:
    app = StompApp()
    ends = []

    @app.on_subscribe("/app/ticks")
    async def ticks():  # type: ignore[no-untyped-def]
        try:
            while True:
                yield "tick"
                await trio.sleep(1)
        finally:
            ends.append(1)

    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.subscribe("/app/ticks")
        nursery.start_soon(peer.to_end)
        assert await server.server.drain()
        assert ends == [1]


async def test_leaving_a_test_server_drains_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with open_test_server(None, QUIET) as server:
            peer = await open_peer(server)
            nursery.start_soon(peer.to_end)
        assert peer.close_code == 1012


async def test_the_states_are_told(autojump_clock: MockClock) -> None:
    app, gate = holding_app()
    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        assert server.statistics().state == "ready"
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        assert server.statistics().state == "draining"
        gate.set()
        await peer.to_end()
        await ended(server)
        await server.server.wait_stopped()
        assert server.statistics().state == "stopped"


# The steps of a drain in time

PACED = without_heart_beats(drain=DrainConfig(delay=5, window=20, deadline=60))


async def status_of(server: TestServer, request: bytes) -> str:
    wire = Wire(server.connect())
    await wire.stream.send_all(request)
    return (await wire.read_until(b"\r\n\r\n")).split(b" ")[1].decode()


READYZ = b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_new_sessions_are_welcome_until_the_delay_is_over(autojump_clock: MockClock) -> None:
    app, gate = holding_app()
    async with open_test_server(app, PACED) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")  # the drain does not end before it
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        assert await status_of(server, READYZ) == "503"
        await trio.sleep(4.9)
        late = await open_peer(server)
        nursery.start_soon(late.to_end)
        await trio.sleep(0.2)
        assert await status_of(server, handshake()) == "503"
        assert await status_of(server, HEALTHZ) == "200"
        gate.set()
        await peer.to_end()
        await server.server.wait_stopped()
        assert late.close_code == 1012


async def test_sessions_are_closed_evenly_over_the_window(autojump_clock: MockClock) -> None:
    async with open_test_server(None, PACED) as server, trio.open_nursery() as nursery:
        started, ends = trio.current_time(), []

        async def stay(peer: Peer) -> None:
            await peer.to_end()
            ends.append(trio.current_time() - started)

        for _ in range(40):
            nursery.start_soon(stay, await open_peer(server))
        await wait_all_tasks_blocked()
        assert await server.server.drain()
        in_slots = [int((end - 5) / 0.5) for end in sorted(ends)]
        assert in_slots == list(range(40))
        assert server.statistics().metrics.sessions_drained == 40
        assert server.statistics().metrics.sessions_cut == 0


async def test_who_subscribes_to_it_is_told_of_its_turn(autojump_clock: MockClock) -> None:
    async with open_test_server(None, PACED) as server, trio.open_nursery() as nursery:
        told = []

        async def listen(peer: Peer) -> None:
            message = await peer.frame()
            assert message.headers["destination"] == "/user/queue/server"
            assert message.headers["content-type"] == "application/json"
            event, at = json.loads(message.body), trio.current_time()
            assert await peer.to_end() == []
            assert event["event"] == "draining"
            assert trio.current_time() - at == pytest.approx(event["reconnect_after"], abs=0.01)
            told.append(event["reconnect_after"])

        for _ in range(4):
            peer = await open_peer(server)
            await peer.subscribe("/user/queue/server")
            nursery.start_soon(listen, peer)
        silent = await open_peer(server)
        assert await server.server.drain()
        assert await silent.to_end() == []
        assert len(told) == 4
        assert max(told) - min(told) > 4  # of 20 seconds, in slots of 4


async def test_handlers_in_tasks_of_their_own_may_take_until_the_deadline(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/slow", send_to_user="/queue/slow", concurrency=5)
    async def slow(message: Message) -> str:
        await trio.sleep(30)  # more than stomp.linger
        return "done"

    config = without_heart_beats(drain=DrainConfig(delay=0, window=0, deadline=60))
    async with open_test_server(app, config) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.subscribe("/user/queue/slow")
        await peer.say("SEND", destination="/app/slow", receipt="r")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        message, receipt = await peer.to_end()
        assert (message.body, receipt.headers["receipt-id"]) == (b"done", "r")
        assert peer.close_code == 1012


async def test_the_deadline_counts_from_the_start_and_says_what_it_cuts(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = holding_app()
    async with open_test_server(app, PACED) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/hold")
        await wait_all_tasks_blocked()
        started = trio.current_time()
        assert not await server.server.drain()
        assert trio.current_time() - started == 60
        assert server.statistics().metrics.sessions_cut == 1
    assert "the drain's deadline of 60 seconds cuts off 1 sessions with 1 running handlers" in caplog.text


async def test_times_may_be_given_for_one_drain(autojump_clock: MockClock) -> None:
    async with open_test_server(None, PACED) as server:
        started = trio.current_time()
        with pytest.raises(ConfigError, match="deadline is 3 seconds, expected at least"):
            await server.server.drain(deadline=3)
        assert server.server.state is State.READY
        assert await server.server.drain(delay=1, window=0, deadline=3)
        assert trio.current_time() - started == 1


async def test_sessions_that_have_left_need_no_turn(autojump_clock: MockClock) -> None:
    async with open_test_server(None, PACED) as server, trio.open_nursery() as nursery:
        staying, leaving = await open_peer(server), await open_peer(server)
        nursery.start_soon(server.server.drain)
        await trio.sleep(4)
        await leaving.wire.stream.aclose()
        await trio.lowlevel.checkpoint()
        await staying.to_end()
        await server.server.wait_stopped()
        assert server.statistics().metrics.sessions_drained == 1


# Over HTTP

ASK = "{method} /drain HTTP/1.1\r\nHost: h\r\n{authorization}\r\n"


@pytest.mark.parametrize(
    ("method", "authorization", "status"),
    [
        ("GET", "Authorization: Bearer secret\r\n", "200"),
        ("POST", "Authorization: Bearer secret\r\n", "202"),
        ("POST", "Authorization: Bearer secre\r\n", "401"),
        ("POST", "Authorization: Bearer s\u00e9cret\r\n", "401"),
        ("POST", "Authorization: Basic secret\r\n", "401"),
        ("POST", "", "401"),
        ("PUT", "Authorization: Bearer secret\r\n", "405"),
    ],
)
async def test_drain_is_asked_for_with_the_token(
    method: str, authorization: str, status: str, autojump_clock: MockClock
) -> None:
    request = ASK.format(method=method, authorization=authorization).encode("latin-1")
    async with open_test_server(None, without_heart_beats(admin_token="secret")) as server:
        assert await status_of(server, request) == status
        await wait_all_tasks_blocked()
        assert (server.server.state is State.STOPPED) == (status == "202")


async def test_without_a_token_there_is_no_drain_over_http(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        request = ASK.format(method="GET", authorization="Authorization: Bearer None\r\n").encode()
        assert await status_of(server, request) == "404"
