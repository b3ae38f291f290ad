"""One connection's bytes: deadlines, one writer at a time, and a stream that is torn stays so."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import tls
import trio
from streams import Narrow, Tap, records
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_stomp.metrics import Metrics
from trio_stomp.transport.stream import WireStream

WRITE_TIMEOUT = 10.0


def wire_over(stream: trio.abc.Stream) -> WireStream:
    return WireStream(stream, write_timeout=WRITE_TIMEOUT, metrics=Metrics())


@pytest.fixture
async def stalled() -> AsyncIterator[tuple[WireStream, trio.SocketStream]]:
    """A wire over a real socket whose buffers are small, and the peer's end, which does not read."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for end in (ours, theirs):
        end.setblocking(False)
    a = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    b = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    async with a, b:
        yield wire_over(a), b


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


# Writing.


async def test_what_is_written_arrives_and_is_counted(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    metrics = Metrics()
    wire = WireStream(ours, write_timeout=WRITE_TIMEOUT, metrics=metrics)
    await trio.sleep(3)
    await wire.send_all(b"x" * 100_000)
    assert metrics.bytes_out == 100_000
    assert wire.last_written == trio.current_time()
    await wire.aclose()
    assert await read_all(theirs) == b"x" * 100_000


async def test_a_peer_that_takes_nothing_is_given_up_at_the_deadline(autojump_clock: MockClock) -> None:
    narrow = Narrow(5)
    metrics = Metrics()
    wire = WireStream(narrow, write_timeout=WRITE_TIMEOUT, metrics=metrics)
    started = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match="took nothing for 10 seconds"):
        await wire.send_all(b"0123456789")
    assert trio.current_time() - started == WRITE_TIMEOUT
    assert wire.is_torn
    assert narrow.is_closed
    assert (metrics.write_timeouts, metrics.bytes_out) == (1, 0)


async def test_a_slow_peer_that_takes_something_lives_on(autojump_clock: MockClock) -> None:
    narrow = Narrow(0)
    wire = wire_over(narrow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_all, b"x" * 100_000)
        for _ in range(7):
            await trio.sleep(9)
            narrow.widen(16_384)
    assert len(narrow.taken) == 100_000
    assert not wire.is_torn


async def test_a_write_cancelled_midway_tears_the_stream(autojump_clock: MockClock) -> None:
    narrow = Narrow(5)
    wire = wire_over(narrow)
    with trio.move_on_after(1) as scope:
        await wire.send_all(b"0123456789")
    assert scope.cancelled_caught
    assert wire.is_torn
    assert narrow.is_closed


async def test_nothing_is_ever_written_into_a_torn_stream(autojump_clock: MockClock) -> None:
    narrow = Narrow(5)
    wire = wire_over(narrow)
    with trio.move_on_after(1):
        await wire.send_all(b"0123456789")
    narrow.is_closed = False  # as though closing had had no effect
    narrow.widen(1000)
    for data in (b"more", b"\x88\x02\x03\xe8"):
        with pytest.raises(trio.BrokenResourceError, match="cut off midway"):
            await wire.send_all(data)
        assert narrow.is_closed
    assert narrow.taken == b"01234"


async def test_a_writer_that_waits_its_turn_behind_a_torn_write_writes_nothing(
    autojump_clock: MockClock,
) -> None:
    narrow = Narrow(5)
    wire = wire_over(narrow)
    errors = []

    async def second() -> None:
        try:
            await wire.send_all(b"pong")
        except trio.BrokenResourceError as error:
            errors.append(str(error))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def cut_off() -> None:
            with first:
                await wire.send_all(b"0123456789")

        nursery.start_soon(cut_off)
        await wait_all_tasks_blocked()
        nursery.start_soon(second)
        await wait_all_tasks_blocked()
        first.cancel()
    assert errors == ["an earlier write was cut off midway"]
    assert narrow.taken == b"01234"


async def test_cancelling_a_writer_that_waits_its_turn_tears_nothing(autojump_clock: MockClock) -> None:
    narrow = Narrow(5)
    wire = wire_over(narrow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_all, b"0123456789")
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await wire.send_all(b"pong")
        assert not wire.is_torn
        narrow.widen(1000)
    await wire.send_all(b"next")
    assert narrow.taken == b"0123456789next"


async def test_writers_take_turns_in_order(autojump_clock: MockClock) -> None:
    narrow = Narrow(3)
    wire = wire_over(narrow)
    async with trio.open_nursery() as nursery:
        for data in (b"first", b"second", b"third"):
            nursery.start_soon(wire.send_all, data)
            await wait_all_tasks_blocked()
        narrow.widen(1000)
    assert narrow.taken == b"firstsecondthird"


# A bare socket, which is written by its descriptor.


async def test_a_socket_takes_a_small_write_without_yielding(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    wire, peer = stalled
    yielded = []

    async def other() -> None:
        yielded.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await wire.send_all(b"now")
        assert not yielded
    assert await peer.receive_some() == b"now"


async def test_a_socket_gets_the_rest_of_a_large_write_as_it_has_room(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    wire, peer = stalled
    data = bytes(range(256)) * 4000
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            await wire.send_all(data)
            await wire.aclose_gently(1)

        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        got = b""
        while len(got) < len(data):
            got += await peer.receive_some()
        assert await peer.receive_some() == b""
        await peer.aclose()
    assert got == data


async def test_small_writes_wait_behind_a_large_one_on_a_socket(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    """A pong must not get into the middle of a frame, though the socket would take it by then."""
    wire, peer = stalled
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_all, b"x" * 1_000_000)
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.send_all, b"pong")
        await wait_all_tasks_blocked()
        got = b""
        while len(got) < 1_000_004:
            got += await peer.receive_some()
    assert got.index(b"p") == 1_000_000


# Writing without waiting.


async def test_send_now_writes_what_the_socket_takes(stalled: tuple[WireStream, trio.SocketStream]) -> None:
    wire, peer = stalled
    assert wire.send_now(b"abc") == 3
    assert await peer.receive_some() == b"abc"


async def test_between_send_now_and_its_rest_nobody_else_writes(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    wire, peer = stalled
    data = b"x" * 1_000_000
    sent = wire.send_now(data)
    assert 0 < sent < len(data)
    assert wire.send_now(b"again") == 0
    got = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_all, b"pong")
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.send_rest, data[sent:])
        while len(got) < len(data) + 4:
            got += await peer.receive_some()
    assert got == data + b"pong"
    assert wire.send_now(b"now") == 3


async def test_a_rest_that_is_left_tears_the_stream(stalled: tuple[WireStream, trio.SocketStream]) -> None:
    wire, peer = stalled
    sent = wire.send_now(bytes(1_000_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises_broken, wire)
        await wait_all_tasks_blocked()
        wire.leave_rest()
    assert wire.is_torn
    assert wire.send_now(b"more") == 0
    assert len(await read_all(peer)) == sent


async def raises_broken(wire: WireStream) -> None:
    with pytest.raises(trio.BrokenResourceError, match="cut off midway"):
        await wire.send_all(b"pong")


async def test_leaving_no_rest_tears_nothing(stalled: tuple[WireStream, trio.SocketStream]) -> None:
    wire, _ = stalled
    wire.send_now(b"abc")
    wire.leave_rest()
    assert not wire.is_torn


async def test_send_now_leaves_to_the_next_write_what_is_wrong(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    wire, peer = stalled
    await peer.aclose()
    assert wire.send_now(b"abc") == 0
    with pytest.raises(trio.BrokenResourceError):
        await wire.send_rest(b"abc")


async def test_send_now_writes_nothing_where_it_might_wait() -> None:
    ours, _ = memory_stream_pair()
    assert wire_over(ours).send_now(b"abc") == 0


async def test_a_socket_whose_peer_does_not_read_is_given_up(
    stalled: tuple[WireStream, trio.SocketStream], autojump_clock: MockClock
) -> None:
    wire, _ = stalled
    started = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match="took nothing"):
        await wire.send_all(bytes(1_000_000))
    assert trio.current_time() - started == WRITE_TIMEOUT
    assert wire.is_torn


async def test_a_cancelled_write_tears_a_socket_and_the_peer_sees_its_end(
    stalled: tuple[WireStream, trio.SocketStream], autojump_clock: MockClock
) -> None:
    wire, peer = stalled
    with trio.move_on_after(1):
        await wire.send_all(b"x" * 1_000_000)
    with pytest.raises(trio.BrokenResourceError, match="cut off midway"):
        await wire.send_all(b"\x88\x02\x03\xe8")
    assert set(await read_all(peer)) == {ord("x")}


async def test_aborting_wakes_a_blocked_writer_and_a_reader(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    wire, _ = stalled
    woken = []

    async def write() -> None:
        with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
            await wire.send_all(bytes(1_000_000))
        woken.append("writer")

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await wire.receive_some()
        woken.append("reader")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await wire.abort()
    assert sorted(woken) == ["reader", "writer"]


async def test_a_peer_that_is_gone_is_a_broken_resource(
    stalled: tuple[WireStream, trio.SocketStream],
) -> None:
    wire, peer = stalled
    await peer.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await wire.send_all(b"x")
    assert await wire.receive_some() == b""


# TLS.


async def test_nothing_is_written_below_tls() -> None:
    """A raw send into a TLS connection would be plain text in it."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    tap = Tap(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
    bottom = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    server, client = tls.over(bottom, tap, https_compatible=True)
    secret = b"nobody else may read this" * 4000
    wire = wire_over(server)

    async def write() -> None:
        await wire.send_all(secret)
        await wire.send_all(b"and this")
        await wire.aclose_gently(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        got = b""
        while len(got) < len(secret) + 8:
            got += await client.receive_some()
        await trio.aclose_forcefully(client)
    assert got == secret + b"and this"
    assert b"may read" not in tap.read
    assert b"this" not in tap.read
    assert records(bytes(tap.read)) <= {20, 21, 22, 23}


# Reading, and the time of it.


async def test_silence_counts_only_while_we_read(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    wire = wire_over(ours)
    await trio.sleep(100)
    assert wire.silence(trio.current_time()) == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.receive_some)
        await trio.sleep(7)
        assert wire.silence(trio.current_time()) == pytest.approx(7)
        await theirs.send_all(b"x")
    assert wire.last_read == trio.current_time()
    assert wire.silence(trio.current_time() + 50) == 0


async def test_bytes_read_are_counted() -> None:
    ours, theirs = memory_stream_pair()
    metrics = Metrics()
    wire = WireStream(ours, write_timeout=WRITE_TIMEOUT, metrics=metrics)
    await theirs.send_all(b"12345")
    assert await wire.receive_some() == b"12345"
    assert metrics.bytes_in == 5


async def test_reading_a_socket_is_cancellable_and_loses_nothing(
    stalled: tuple[WireStream, trio.SocketStream], autojump_clock: MockClock
) -> None:
    wire, peer = stalled
    with trio.move_on_after(1) as scope:
        await wire.receive_some()
    assert scope.cancelled_caught
    await peer.send_all(b"later")
    assert await wire.receive_some() == b"later"


# Closing.


async def test_closing_gently_drops_what_still_comes_so_that_the_last_words_arrive(
    autojump_clock: MockClock,
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.testing.open_stream_to_socket_listener(listeners[0])
    accepted = await listeners[0].accept()
    async with client, listeners[0]:
        wire = wire_over(accepted)
        await client.send_all(b"unread" * 1000)
        await wire.send_all(b"last words")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.aclose_gently, 5)
            await wait_all_tasks_blocked(0.005)
            await client.send_all(b"still more" * 1000)
            assert await read_all(client) == b"last words"
            await client.aclose()


async def test_closing_tls_gently_is_no_truncation() -> None:
    server, client = tls.over(*memory_stream_pair())
    wire = wire_over(server)

    async def read() -> None:
        assert await read_all(client) == b"last words"  # without close_notify: BrokenResourceError
        await client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wire.send_all(b"last words")
        await wire.aclose_gently(5)
        await wire.aclose_gently(5)  # twice is as good as once


async def test_closing_tls_gently_ends_though_the_peer_sends_on() -> None:
    server, client = tls.over(*memory_stream_pair())
    wire = wire_over(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"unread")
        await wire.send_all(b"last words")
    await client.send_all(b"still more")
    with trio.fail_after(4):
        await wire.aclose_gently(5)
    assert await read_all(client) == b"last words"
    await trio.aclose_forcefully(client)


async def test_closing_gently_ends_in_time_though_the_peer_stays(
    stalled: tuple[WireStream, trio.SocketStream], autojump_clock: MockClock
) -> None:
    wire, _ = stalled
    started = trio.current_time()
    await wire.aclose_gently(5)
    assert trio.current_time() - started == 5


async def test_closing_gently_does_not_wait_for_ever_behind_a_blocked_write(
    stalled: tuple[WireStream, trio.SocketStream], autojump_clock: MockClock
) -> None:
    wire, _ = stalled
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                await wire.send_all(bytes(1_000_000))

        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        started = trio.current_time()
        await wire.aclose_gently(5)
        assert trio.current_time() - started == 5


@pytest.mark.parametrize("sent", [b"", b"x"], ids=["before anything came", "after a short read"])
async def test_reading_a_socket_of_ours_that_was_closed_says_so(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        wire = WireStream(stream, write_timeout=10, metrics=Metrics())
        if sent:
            theirs.sendall(sent)
            assert await wire.receive_some() == sent
        await wire.abort()
        with pytest.raises(trio.ClosedResourceError):
            await wire.receive_some()
