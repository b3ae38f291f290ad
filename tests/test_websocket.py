"""The transport: order, our own Close, the handshake (DESIGN section 6)."""

from __future__ import annotations

import attrs
import pytest
import trio
from paths import Held, bodies, both_paths, config, in_pieces, send
from peer import Gate, Peer, open_peer, stomp
from streams import Recording
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from wire import BINARY, PING, PONG, client_frame, close_frame, handshake

from trio_stomp import OutboxConfig
from trio_stomp.testing import open_test_server

# Order.


@both_paths
@pytest.mark.parametrize("step", [0, 1, 7, 50])
async def test_fragmented_and_whole_messages_do_not_overtake_each_other(
    is_fast: bool, step: int, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        data = b"".join(
            (
                send(b"A"),
                in_pieces(send(b"B")),
                send(b"C"),
                in_pieces(send(b"D"), parts=5, between=client_frame(b"", PING)),
                send(b"E"),
            )
        )
        for start in range(0, len(data), step or len(data)):
            await peer.send(data[start : start + (step or len(data))])
            await wait_all_tasks_blocked()
        found = [await peer.wire.frame() for _ in range(9)]
        assert [frame.opcode for frame in found].count(PONG) == 4
        messages = [frame.payload for frame in found if frame.opcode != PONG]
        assert [message.rstrip(b"\0")[-1:] for message in messages] == [b"A", b"B", b"C", b"D", b"E"]


@both_paths
async def test_messages_stay_in_order_behind_a_handler_that_holds_them_up(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    held = Held()
    async with open_test_server(held.app, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(send(b"", "/app/hold"))
        for n in range(40):
            frame = send(b"%d" % n)
            await peer.send(in_pieces(frame) if n % 3 == 1 else frame)
            await wait_all_tasks_blocked()
        held.gate.set()
        assert await bodies(peer, 40) == [b"%d" % n for n in range(40)]


@both_paths
async def test_large_and_small_messages_stay_in_order(is_fast: bool, autojump_clock: MockClock) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        sizes = [1, 70_000, 2, 200_000, 3, 65_000, 4]
        await peer.send(*(send(b"x" * size) for size in sizes))
        assert [len(body) for body in await bodies(peer, len(sizes))] == sizes


@both_paths
async def test_a_text_character_may_be_torn_between_fragments(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(in_pieces(send("☃☃☃".encode()), parts=50))
        assert await bodies(peer, 1) == ["☃☃☃".encode()]


@both_paths
async def test_binary_and_text_messages_are_both_accepted(is_fast: bool, autojump_clock: MockClock) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        frame = b"SEND\ndestination:/topic/a\ncontent-length:2\n\n\xff\0\0"
        await peer.send(client_frame(frame, BINARY), send(b"text"))
        assert await bodies(peer, 2) == [b"\xff\0", b"text"]


# Our Close.


@both_paths
async def test_once_we_close_nothing_more_is_acted_on(is_fast: bool, autojump_clock: MockClock) -> None:
    async with open_test_server(None, config(is_fast=is_fast)) as server:
        other, peer = await open_peer(server), await open_peer(server)
        await other.subscribe("/topic/a")
        await peer.say("DISCONNECT")
        assert (await peer.wire.frame()).close_code == 1000
        await peer.send(send(b"late"), in_pieces(send(b"later")), client_frame(b"?", PING), close_frame())
        assert await peer.wire.read_to_end() == b""
        await other.say("SEND", b"end", destination="/topic/a")
        assert await bodies(other, 1) == [b"end"]
        assert server.statistics().metrics.internal_errors == 0


# The handshake.


async def test_compression_is_not_negotiated(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server:
        peer = Peer(server.connect())
        offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
        await peer.wire.stream.send_all(handshake(extra=[offer]))
        head = await peer.wire.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head.lower()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("v10.stomp, v11.stomp, v12.stomp", b"v12.stomp"),
        ("v11.stomp, v10.stomp", b"v11.stomp"),
        ("soap, v10.stomp", b"v10.stomp"),
        ("soap", None),
        ("", None),
    ],
)
async def test_the_highest_sub_protocol_offered_is_chosen(
    offered: str, chosen: bytes | None, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, config()) as server:
        peer = Peer(server.connect())
        head = await peer.wire.shake_hands(protocols=offered)
        lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"sec-websocket-protocol")]
        assert lines == ([] if chosen is None else [b"sec-websocket-protocol: " + chosen])


async def test_a_peer_that_does_not_take_the_101_is_cut_in_time(autojump_clock: MockClock) -> None:
    settings = attrs.evolve(config(), outbox=OutboxConfig(write_timeout=3))
    async with open_test_server(None, settings) as server:
        ours, theirs = memory_stream_pair()
        gate = Gate(theirs)
        gate.shut()
        await ours.send_all(handshake())
        started = trio.current_time()
        await server.server.serve_stream(gate, "test")
        assert trio.current_time() - started <= 3
        assert server.statistics().metrics.internal_errors == 0


async def test_the_101_does_not_wait_for_a_slow_reader_of_the_session(autojump_clock: MockClock) -> None:
    """Bytes behind the head, in reads of their own, stay in the socket until the 101 is out."""
    async with open_test_server(None, config(close_timeout=0.5)) as server, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        gate = Gate(theirs)
        recording = Recording(gate)
        gate.shut()
        nursery.start_soon(server.server.serve_stream, recording, "test")
        head = handshake()
        await ours.send_all(head)
        await wait_all_tasks_blocked()
        await ours.send_all(stomp("CONNECT", accept_version="1.2", host="h"))
        await wait_all_tasks_blocked()
        assert sum(recording.read) == len(head)
        gate.open()
        peer = Peer(ours)
        await peer.wire.read_until(b"\r\n\r\n")
        assert (await peer.frame()).command == "CONNECTED"
        nursery.cancel_scope.cancel()
