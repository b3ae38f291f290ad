"""Heart-beats: deadlines from the last byte, both ways, and never for time in which we did not look."""

from __future__ import annotations

import pytest
import trio
from peer import Peer, ended, gated_peer, open_peer
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import PING, PONG, TEXT, client_frame

from trio_stomp import ClientConfig, Message, ServerConfig, StompApp, StompConfig, Version
from trio_stomp.server.heartbeat import HeartBeats
from trio_stomp.testing import open_test_server

BEAT = client_frame(b"\n")


def beating(send: float = 10, receive: float = 10) -> ServerConfig:
    return ServerConfig(stomp=StompConfig(heart_beat_send=send, heart_beat_receive=receive))


# The clockwork.


async def test_a_deadline_is_looked_at_when_it_comes_and_when_it_says(autojump_clock: MockClock) -> None:
    beats, seen = HeartBeats(), []

    def check(now: float) -> float:
        seen.append(round(now - start))
        return now + 5

    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        beats.watch(start + 3, check)
        nursery.start_soon(beats.run)
        await trio.sleep(14)
        nursery.cancel_scope.cancel()
    assert seen == [3, 8, 13]


async def test_an_earlier_deadline_that_comes_later_is_not_missed(autojump_clock: MockClock) -> None:
    beats, seen = HeartBeats(), []

    def check_as(name: str, again: float) -> object:
        def check(now: float) -> float:
            seen.append(name)
            return now + again

        return check

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beats.run)
        beats.watch(trio.current_time() + 100, check_as("late", 1000))  # type: ignore[arg-type]
        await trio.sleep(1)
        beats.watch(trio.current_time() + 1, check_as("early", 1000))  # type: ignore[arg-type]
        await trio.sleep(2)
        assert seen == ["early"]
        nursery.cancel_scope.cancel()


async def test_a_cancelled_watch_is_never_looked_at_and_let_go(autojump_clock: MockClock) -> None:
    beats = HeartBeats()

    def check(now: float) -> float:
        raise AssertionError("looked at")

    async with trio.open_nursery() as nursery:
        beats.watch(trio.current_time() + 3, check).cancel()
        nursery.start_soon(beats.run)
        await trio.sleep(10)
        assert not beats._heap
        nursery.cancel_scope.cancel()


async def test_a_deadline_that_does_not_move_on_does_not_spin(autojump_clock: MockClock) -> None:
    beats, looks = HeartBeats(), 0

    def check(now: float) -> float:
        nonlocal looks
        looks += 1
        return now - 1

    async with trio.open_nursery() as nursery:
        beats.watch(trio.current_time(), check)
        nursery.start_soon(beats.run)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert looks <= 102


# Ours to the client.


async def next_beat(peer: Peer) -> float:
    started = trio.current_time()
    seen = await peer.wire.frame()
    assert (seen.opcode, seen.payload) == (TEXT, b"\n")
    return trio.current_time() - started


async def test_a_silent_server_sends_heart_beats_before_they_are_due(autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating()) as server:
        peer = await open_peer(server, heart_beat="0,4000")
        for _ in range(3):
            assert 5 <= await next_beat(peer) <= 10  # max(10 s of ours, 4 s of theirs)
        assert server.statistics().metrics.heart_beats_sent == 3


async def test_the_slower_of_both_wishes_is_kept(autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating(send=1)) as server:
        peer = await open_peer(server, heart_beat="0,20000")
        assert 10 < await next_beat(peer) <= 20


@pytest.mark.parametrize("offer", ["0,0", "5000,0"])
async def test_nobody_gets_heart_beats_who_wants_none(offer: str, autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating(receive=0)) as server:
        peer = await open_peer(server, heart_beat=offer)
        with trio.move_on_after(100) as waited:
            await peer.frame()
        assert waited.cancelled_caught
        assert server.statistics().metrics.heart_beats_sent == 0


async def test_what_is_sent_anyway_counts_as_a_heart_beat(autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating(receive=0)) as server:
        peer = await open_peer(server, heart_beat="0,10000")
        await peer.subscribe("/topic/a")
        for _ in range(10):
            await trio.sleep(5)
            await peer.say("SEND", b"x", destination="/topic/a")
            await peer.frame()
        assert server.statistics().metrics.heart_beats_sent == 0


async def test_no_heart_beats_pile_up_behind_a_write_that_hangs(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, beating()) as server,
        gated_peer(server, heart_beat="0,1000") as (_, gate),
    ):
        gate.shut()
        await trio.sleep(15)  # the write ends at 10 s without progress
        assert server.statistics().metrics.heart_beats_sent <= 1


# The client's to us.


async def test_a_silent_client_is_error_and_1002_after_twice_what_was_agreed(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(None, beating(send=0)) as server:
        peer = await open_peer(server, heart_beat="10000,0")
        started = trio.current_time()
        [error] = await peer.to_end()
        assert trio.current_time() - started == pytest.approx(20, abs=0.1)
        assert "no heart-beat for 20.0 seconds" in error.headers["message"]
        assert peer.close_code == 1002
        metrics = server.statistics().metrics
        assert metrics.heart_beats_missed == 1
        assert metrics.limit_hits["stomp.heart_beat_tolerance"] == 1


@pytest.mark.parametrize("sign", [BEAT, client_frame(b"", PONG), client_frame(b"hi", PING)])
async def test_any_byte_is_a_sign_of_life(sign: bytes, autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating(send=0)) as server:
        peer = await open_peer(server, heart_beat="10000,0")
        for _ in range(10):
            await trio.sleep(15)
            await peer.send(sign)
        await peer.subscribe("/topic/a") if sign == BEAT else None
        assert server.statistics().sessions == 1


async def test_parts_of_a_frame_count_as_signs_of_life(autojump_clock: MockClock) -> None:
    patient = ServerConfig(stomp=StompConfig(heart_beat_send=0, heart_beat_receive=10, frame_timeout=1000))
    async with open_test_server(None, patient) as server:
        peer = await open_peer(server, heart_beat="10000,0")
        await peer.subscribe("/topic/a")
        large = client_frame(b"SEND\ndestination:/topic/a\n\nhello\0")
        for at in range(len(large)):
            await trio.sleep(15)
            await peer.wire.stream.send_all(large[at : at + 1])
        assert (await peer.frame()).body == b"hello"


async def test_time_in_which_a_handler_runs_is_not_counted(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/slow")
    async def slow(message: Message) -> None:
        await trio.sleep(100)

    async with open_test_server(app, beating(send=0)) as server:
        peer = await open_peer(server, heart_beat="10000,0")
        await peer.say("SEND", destination="/app/slow", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"


async def test_a_client_that_is_silent_after_a_handler_is_missed_all_the_same(
    autojump_clock: MockClock,
) -> None:
    app = StompApp()

    @app.on_message("/app/slow")
    async def slow(message: Message) -> None:
        await trio.sleep(100)

    async with open_test_server(app, beating(send=0)) as server:
        peer = await open_peer(server, heart_beat="10000,0")
        await peer.say("SEND", destination="/app/slow")
        started = trio.current_time()
        [error] = await peer.to_end()
        assert "no heart-beat" in error.headers["message"]
        assert 100 <= trio.current_time() - started <= 145


async def test_a_1_0_client_has_no_heart_beats(autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating()) as server:
        peer = await open_peer(server, Version.V1_0, heart_beat="1000,1000")
        await trio.sleep(100)
        assert server.statistics().sessions == 1
        await peer.subscribe("/topic/a")


async def test_both_sides_of_ours_keep_each_other_alive(autojump_clock: MockClock) -> None:
    async with open_test_server() as server, server.client() as client:
        await trio.sleep(1000)
        await client.send("/topic/a", "x", receipt=True)
        metrics = server.statistics().metrics
        assert metrics.heart_beats_missed == 0
        assert 100 <= metrics.heart_beats_sent <= 120


async def test_a_session_that_has_ended_is_not_looked_at_any_more(autojump_clock: MockClock) -> None:
    async with open_test_server(None, beating()) as server:
        async with server.client(config=ClientConfig(heart_beat_send=10, heart_beat_receive=10)):
            pass
        await ended(server)
        await trio.sleep(100)
        await wait_all_tasks_blocked()
        assert not server.server._core.heart_beats._heap
        assert server.statistics().metrics.heart_beats_missed == 0
