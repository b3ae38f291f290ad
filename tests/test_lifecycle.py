"""Draining: everybody sees through what was read, says what was promised, and is told to come back."""

from __future__ import annotations

import pytest
import trio
from peer import Gate, HeldRunner, Peer, ended, gated_peer, open_peer, run_pool_in, stomp, without_heart_beats
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from wire import Wire, handshake

from trio_stomp import DrainConfig, Message, State, StompApp
from trio_stomp.testing import open_test_server

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
