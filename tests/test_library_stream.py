"""The library's stream: pings behind a full list, the peer's Close, ways to end (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest
import trio
from paths import Held, bodies, both_paths, config, in_pieces, send
from peer import Peer, ended, gated_peer, open_peer, stomp
from streams import Recording
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import CLOSE, PING, PONG, Seen, client_frame, close_frame

from trio_stomp.testing import open_test_server

# Pings.


@both_paths
async def test_pings_are_answered_within_a_fragmented_message(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.send(client_frame(b"\n", final=False), client_frame(b"1", PING))
        assert await peer.wire.frame() == Seen(PONG, b"1")


@both_paths
async def test_a_ping_in_the_read_that_fills_the_list_is_answered(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, receive_ahead=1024)) as server:
        peer = await open_peer(server)
        await peer.send(send(b"", "/app/hold"))
        await wait_all_tasks_blocked()
        await peer.send(*[send(b"x" * 100)] * 50, client_frame(b"full", PING))
        assert await peer.wire.frame() == Seen(PONG, b"full")
        held.gate.set()


@both_paths
async def test_pings_that_come_while_the_list_is_full_are_answered_however_long_a_handler_takes(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, receive_ahead=1024)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(send(b"", "/app/hold"))
        await wait_all_tasks_blocked()
        await peer.send(*(send(b"%0100d" % n) for n in range(8)))
        for minute in range(30):
            await trio.sleep(60)
            started = trio.current_time()
            await peer.send(client_frame(b"%0100d" % minute, PING))
            with trio.fail_after(10):
                assert await peer.wire.frame() == Seen(PONG, b"%0100d" % minute)
            assert trio.current_time() - started < 1
        await peer.send(*(send(b"%0100d" % n) for n in range(8, 20)))
        held.gate.set()
        assert await bodies(peer, 20) == [b"%0100d" % n for n in range(20)]


@both_paths
async def test_reading_on_for_pings_keeps_no_more_than_twice_the_list_and_a_piece(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    ahead = 4096
    settings = config(is_fast=is_fast, receive_ahead=ahead)
    async with open_test_server(held.app, settings) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        recording = Recording(theirs)
        nursery.start_soon(server.server.serve_stream, recording, "test")
        peer = Peer(ours)
        await peer.connect()
        await peer.subscribe("/topic/a")
        await peer.send(send(b"", "/app/hold"))
        await wait_all_tasks_blocked()
        before = sum(recording.read)
        frames = [send(b"%0900d" % n) for n in range(100)]
        for frame in frames:
            await peer.send(frame)
            await trio.sleep(1)
        assert 2 * ahead <= sum(recording.read) - before <= 2 * ahead + len(frames[0])
        held.gate.set()
        assert await bodies(peer, 100) == [b"%0900d" % n for n in range(100)]
        nursery.cancel_scope.cancel()


async def test_reading_on_for_pings_is_slow_and_in_small_pieces(autojump_clock: MockClock) -> None:
    """A ping is worth an answer, a flood of them is not worth the processor."""
    held = Held()
    settings = config(receive_ahead=1024)
    async with open_test_server(held.app, settings) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        recording = Recording(theirs)
        nursery.start_soon(server.server.serve_stream, recording, "test")
        peer = Peer(ours)
        await peer.connect()
        await peer.send(send(b"", "/app/hold"))
        await wait_all_tasks_blocked()
        await peer.send(send(b"x" * 1100))
        await wait_all_tasks_blocked()
        before = sum(recording.read)
        await peer.send(client_frame(b"", PING) * 100_000)
        await trio.sleep(1)
        assert 0 < sum(recording.read) - before <= 11 * 4096
        held.gate.set()
        nursery.cancel_scope.cancel()


@both_paths
async def test_pings_that_wait_for_their_pongs_when_we_close_are_no_trouble(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    """The library, once it has sent a Close itself, dies of a ping that it was given before."""
    async with (
        open_test_server(None, config(is_fast=is_fast)) as server,
        gated_peer(server) as (peer, gate),
    ):
        gate.shut()
        await peer.send(stomp("DISCONNECT"), *(client_frame(b"%d" % n, PING) for n in range(3)))
        await wait_all_tasks_blocked()
        gate.open()
        seen = await peer.wire.frame()
        while seen.opcode == PONG:
            seen = await peer.wire.frame()
        assert seen.close_code == 1000
        started = trio.current_time()
        await peer.send(client_frame(b"?", PING), close_frame())
        assert await peer.wire.read_to_end() == b"", "nothing follows our Close"
        assert trio.current_time() == started
        assert server.statistics().metrics.internal_errors == 0


# The peer's Close.


@both_paths
async def test_a_close_waits_for_the_receipt_of_what_came_before_it(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, close_timeout=100)) as server:
        peer = await open_peer(server)
        await peer.send(send(b"last", "/app/hold", receipt="r"), close_frame(1000))
        await wait_all_tasks_blocked()
        held.gate.set()
        assert (await peer.frame()).headers == {"receipt-id": "r"}
        assert (await peer.wire.frame()).opcode == CLOSE


@both_paths
async def test_a_close_is_not_held_for_longer_than_the_timeout(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, close_timeout=3)) as server:
        peer = await open_peer(server)
        started = trio.current_time()
        await peer.send(send(b"", "/app/hold"), close_frame(1000))
        assert (await peer.wire.frame()).opcode == CLOSE
        assert trio.current_time() - started == pytest.approx(3)
        held.gate.set()


@both_paths
@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_close_is_answered_with_its_own_code(
    is_fast: bool, code: int, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.send(close_frame(code))
        [answer] = await peer.wire.frames_to_end()
        assert answer.close_code == code


@both_paths
async def test_nothing_after_a_close_is_acted_on(is_fast: bool, autojump_clock: MockClock) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        other, peer = await open_peer(server), await open_peer(server)
        await other.subscribe("/topic/a")
        await peer.send(send(b"before"), close_frame(), send(b"behind"), client_frame(b"?", PING))
        assert [frame.opcode for frame in await peer.wire.frames_to_end()] == [CLOSE]
        await other.say("SEND", b"end", destination="/topic/a")
        assert await bodies(other, 2) == [b"before", b"end"]


@both_paths
async def test_a_close_within_a_fragmented_message_ends_the_session(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        started = trio.current_time()
        await peer.send(client_frame(b"SEND", final=False), close_frame(1001))
        assert [frame.close_code for frame in await peer.wire.frames_to_end()] == [1001]
        assert trio.current_time() == started
        await ended(server)
        assert trio.current_time() - started <= 1


@both_paths
async def test_a_close_whose_bytes_come_one_by_one(is_fast: bool, autojump_clock: MockClock) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        for byte in close_frame(1001, b"bye"):
            await peer.send(bytes((byte,)))
            await wait_all_tasks_blocked()
        [answer] = await peer.wire.frames_to_end()
        assert answer.close_code == 1001


# What ends a session that waits for the rest of a message.

UNFINISHED: Sequence[bytes] = (
    client_frame(b"SEND\n", final=False),
    client_frame(b"SEND\n", final=False) + client_frame(b"x", 0, final=False) + client_frame(b"", PING),
    send(b"x" * 100)[:50],
    send(b"x" * 70_000)[:5000],
)


@both_paths
@pytest.mark.parametrize("unfinished", UNFINISHED, ids=["fragment", "two", "half a frame", "large frame"])
async def test_a_drain_does_not_wait_for_the_rest_of_a_message(
    unfinished: bytes, is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.send(unfinished)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            started = trio.current_time()
            nursery.start_soon(server.server.drain)
            assert await peer.to_end() == []
            assert trio.current_time() == started
            assert peer.close_code == 1012


@both_paths
@pytest.mark.parametrize("unfinished", UNFINISHED, ids=["fragment", "two", "half a frame", "large frame"])
async def test_a_peer_that_falls_silent_within_a_message_is_found_out(
    unfinished: bytes, is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast, heart_beat=5.0)) as server:
        peer = await open_peer(server, heart_beat="5000,0")
        await peer.send(unfinished)
        started = trio.current_time()
        await ended(server)
        assert trio.current_time() - started < 20
        assert "no heart-beat" in (await peer.to_end())[0].headers["message"]


@both_paths
async def test_the_rest_of_a_message_that_comes_in_time_is_still_seen_through(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    """A session that is to end has been given the message: it is handled though it was held up."""
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        frame = in_pieces(send(b"whole", "/app/hold"))
        await peer.send(send(b"first", "/app/hold"), frame[:-10])
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain)
            await wait_all_tasks_blocked()
            await peer.send(frame[-10:])
            await wait_all_tasks_blocked()
            held.gate.set()
            await peer.to_end()
        assert held.done == [b"first", b"whole"]


@both_paths
async def test_what_comes_while_a_session_is_to_end_is_not_kept(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.send(send(b"first", "/app/hold"))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain)
            await wait_all_tasks_blocked()
            for _ in range(50):
                await peer.send(in_pieces(send(b"late", "/app/hold")), send(b"late", "/app/hold"))
                await wait_all_tasks_blocked()
            held.gate.set()
            await peer.to_end()
        assert held.done == [b"first"]


@both_paths
async def test_a_limit_broken_within_a_message_is_told_after_what_came_before_it(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, fragments=3)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(
            send(b"", "/app/hold"),
            send(b"1"),
            in_pieces(send(b"2"), parts=3),
            in_pieces(send(b"3"), parts=4),
            send(b"4"),
        )
        await wait_all_tasks_blocked()
        held.gate.set()
        *messages, error = await peer.to_end()
        assert [message.body for message in messages] == [b"1", b"2"]
        assert "more than 3 fragments" in error.headers["message"]
        assert peer.close_code == 1008
        assert server.statistics().metrics.limit_hits["websocket.fragments"] == 1


@both_paths
async def test_a_message_that_grows_too_big_while_it_is_awaited(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast, message=2000)) as server:
        peer = await open_peer(server)
        await peer.send(client_frame(b"\n" * 1000, final=False))
        await wait_all_tasks_blocked()
        await peer.send(client_frame(b"\n" * 1001, 0, final=False))
        [error] = await peer.to_end()
        assert "more than 2000 bytes" in error.headers["message"]
        assert peer.close_code == 1009
        assert server.statistics().metrics.limit_hits["websocket.message"] == 1


BROKEN = {
    "too big": client_frame(b"x" * 70_000),
    "too big in pieces": client_frame(b"\n" * 1500, final=False) + client_frame(b"\n" * 1500, 0),
    "not UTF-8": client_frame(b"\xff"),
    "fragments": client_frame(b"", final=False)
    + client_frame(b"", 0, final=False) * 20
    + client_frame(b"", 0),
}


@both_paths
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_peer_that_broke_a_limit_and_answers_our_close_is_let_go_at_once(
    broken: bytes, is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast, message=2000, fragments=9)) as server:
        peer = await open_peer(server)
        started = trio.current_time()
        await peer.send(broken, send(b"late", "/nowhere"), client_frame(b"?", PING))
        await peer.to_end()  # which answers the Close
        assert peer.close_code in (1007, 1008, 1009)
        assert await peer.wire.read_to_end() == b""
        assert trio.current_time() == started
        assert server.statistics().metrics.internal_errors == 0


async def test_what_a_peer_sends_that_broke_a_limit_is_not_even_read_before_its_turn(
    autojump_clock: MockClock,
) -> None:
    held = Held()
    async with open_test_server(held.app, config(message=2000)) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        recording = Recording(theirs)
        nursery.start_soon(server.server.serve_stream, recording, "test")
        peer = Peer(ours)
        await peer.connect()
        await peer.send(send(b"", "/app/hold"), client_frame(b"x" * 70_000)[:100])
        await wait_all_tasks_blocked()
        before = sum(recording.read)
        for _ in range(50):
            await peer.send(b"x" * 1000)
            await wait_all_tasks_blocked()
        assert sum(recording.read) == before
        held.gate.set()
        await peer.to_end()
        assert peer.close_code == 1009
        nursery.cancel_scope.cancel()


# What is illegal.

ILLEGAL: Mapping[str, tuple[bytes, int]] = MappingProxyType(
    {
        "unmasked": (client_frame(b"\n", masked=False), 1002),
        "unknown opcode": (client_frame(b"", 3), 1002),
        "continuation of nothing": (client_frame(b"x", 0), 1002),
        "a start of one": (client_frame(b"x" * 50, 0)[:6], 1002),
        "text within a message": (client_frame(b"\n", final=False) + client_frame(b"\n"), 1002),
        "fragmented ping": (client_frame(b"", PING, final=False), 1002),
        "not UTF-8, and not at its end": (client_frame(b"\xc3(", final=False), 1007),
        "not UTF-8, in pieces": (client_frame(b"\xc3", final=False) + client_frame(b"(", 0), 1007),
        "not UTF-8, and more behind it": (
            client_frame(b"\xc3", final=False) + client_frame(b"(", 0) + send(b"3"),
            1007,
        ),
        "unmasked, and more behind it": (client_frame(b"\n", masked=False) + send(b"3"), 1002),
        "close code 1005": (close_frame(1005), 1002),
    }
)


@both_paths
@pytest.mark.parametrize(("illegal", "code"), list(ILLEGAL.values())[:-1], ids=list(ILLEGAL)[:-1])
async def test_what_is_illegal_is_told_by_error_and_code_behind_what_came_before_it(
    illegal: bytes, code: int, is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, close_timeout=100)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(send(b"", "/app/hold"), send(b"1"), in_pieces(send(b"2")), illegal)
        await wait_all_tasks_blocked()
        held.gate.set()
        started = trio.current_time()
        *messages, error = await peer.to_end()
        assert [message.body for message in messages] == [b"1", b"2"]
        assert (error.command, peer.close_code) == ("ERROR", code)
        assert trio.current_time() == started
        await ended(server)
        assert server.statistics().metrics.protocol_errors == 1


@both_paths
@pytest.mark.parametrize(("illegal", "code"), ILLEGAL.values(), ids=ILLEGAL)
async def test_a_peer_that_did_what_is_illegal_is_hung_up_on(
    illegal: bytes, code: int, is_fast: bool, autojump_clock: MockClock
) -> None:
    """ "An endpoint MUST NOT continue to attempt to process data" from it (RFC 6455, section 7.1.7)."""
    async with open_test_server(None, config(is_fast=is_fast, close_timeout=100)) as server:
        peer = await open_peer(server)
        started = trio.current_time()
        await peer.send(illegal)
        with trio.fail_after(1000):
            *_, farewell = await peer.wire.frames_to_end()
        assert farewell.close_code == code
        assert trio.current_time() == started


@both_paths
@pytest.mark.parametrize(("illegal", "code"), ILLEGAL.values(), ids=ILLEGAL)
async def test_what_is_illegal_is_not_held_behind_a_handler_for_longer_than_the_timeout(
    illegal: bytes, code: int, is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast, close_timeout=3)) as server:
        peer = await open_peer(server)
        started = trio.current_time()
        await peer.send(send(b"", "/app/hold"), illegal)
        with trio.fail_after(1000):
            [farewell] = await peer.wire.frames_to_end()
        assert farewell.close_code == code
        assert trio.current_time() - started == pytest.approx(3)
        held.gate.set()
        await ended(server)
        assert server.statistics().metrics.internal_errors == 0
