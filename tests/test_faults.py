"""Faults and floods over memory streams: each meets its limit, is counted, and leaves no task behind.

The table of all of them, with those that other files have, is docs/faults.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
from peer import Peer, ended, open_peer, stomp
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import PING, PONG, client_frame

from trio_stomp import (
    Message,
    ServerConfig,
    StatisticsConfig,
    StompApp,
    StompConfig,
    WebSocketConfig,
)
from trio_stomp.testing import TestServer, open_test_server

both_paths = pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])


def config(*, is_fast: bool = True, stomp: dict[str, Any] | None = None, **sections: Any) -> ServerConfig:
    """No timers but those under test."""
    websocket = sections.pop("websocket", {})
    return ServerConfig(
        stomp=StompConfig(heart_beat_send=0, heart_beat_receive=0, **(stomp or {})),
        websocket=WebSocketConfig(fast_path=is_fast, **websocket),
        statistics=StatisticsConfig(log_interval=0, lag_interval=0),
        **sections,
    )


@contextlib.asynccontextmanager
async def faulty(server: TestServer, *limits: str) -> AsyncIterator[None]:
    """What happens within leaves no task, hits these limits and no others, and disturbs nobody else."""
    await wait_all_tasks_blocked()
    tasks = trio.lowlevel.current_statistics().tasks_living
    yield
    await ended(server)
    await trio.sleep(100)  # more than every deadline of ours
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    metrics = server.statistics().metrics
    assert {name for name, hits in metrics.limit_hits.items() if hits} == set(limits)
    assert metrics.internal_errors == 0
    peer = await open_peer(server)
    await peer.subscribe("/topic/well")
    await peer.say("SEND", b"?", destination="/topic/well")
    assert (await peer.frame()).body == b"?"


async def hang_up(*peers: Peer) -> None:
    for peer in peers:
        await trio.aclose_forcefully(peer.wire.stream)


async def drip(peer: Peer, pieces: Sequence[bytes], every: float) -> None:
    """Send piece after piece, until the server has had enough."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        for piece in pieces:
            await peer.wire.stream.send_all(piece)
            await trio.sleep(every)


SEND = b"SEND\ndestination:/topic/a\n\n" + b"x" * 100 + b"\0"
ONE_FRAME = client_frame(SEND)
DRIPS = {
    "a byte of a WebSocket frame": [ONE_FRAME[:8], *(ONE_FRAME[at : at + 1] for at in range(8, 140))],
    "a fragment of a byte": [
        client_frame(SEND[at : at + 1], 0 if at else 1, final=False) for at in range(len(SEND))
    ],
    "a message of a byte": [client_frame(SEND[at : at + 1]) for at in range(len(SEND))],
}


@both_paths
@pytest.mark.parametrize("pieces", DRIPS.values(), ids=DRIPS)
async def test_a_frame_that_drips_is_given_up(
    pieces: Sequence[bytes], is_fast: bool, autojump_clock: MockClock
) -> None:
    async with (
        open_test_server(None, config(is_fast=is_fast)) as server,
        faulty(server, "stomp.frame_timeout"),
        trio.open_nursery() as nursery,
    ):
        peer = await open_peer(server)
        started = trio.current_time()
        nursery.start_soon(drip, peer, pieces, 5.0)
        [error] = await peer.to_end()
        assert 30 <= trio.current_time() - started < 46
        assert "not come to its end" in error.headers["message"]
        assert peer.close_code == 1008
        await hang_up(peer)
        nursery.cancel_scope.cancel()


@both_paths
async def test_a_large_frame_may_take_as_long_as_its_bytes_do(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    body = b"x" * 200_000
    upload = stomp("SEND", body, destination="/topic/a")
    pieces = [upload[at : at + 1000] for at in range(0, len(upload), 1000)]
    async with open_test_server(None, config(is_fast=is_fast)) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        nursery.start_soon(drip, peer, pieces, 1.0)  # 200 s at 1,000 bytes a second
        assert (await peer.frame()).body == body
        assert not server.statistics().metrics.limit_hits["stomp.frame_timeout"]


async def test_many_frames_each_cut_in_two_are_none_that_drips(autojump_clock: MockClock) -> None:
    """Whenever the server looks a frame is under way, but never the same."""
    stream = SEND * 50
    pieces = [client_frame(stream[at : at + 100]) for at in range(0, len(stream), 100)]
    async with open_test_server(None, config()) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        nursery.start_soon(drip, peer, pieces, 5.0)
        for _ in range(50):
            assert (await peer.frame()).command == "MESSAGE"


async def test_a_frame_behind_a_handler_that_takes_long_does_not_drip(autojump_clock: MockClock) -> None:
    app = StompApp()
    app.allow_send("/topic/**")

    @app.on_message("/app/slow")
    async def slow(message: Message) -> None:
        await trio.sleep(200)

    async with open_test_server(app, config()) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.say("SEND", destination="/app/slow")
        await peer.send(client_frame(SEND[:40]))
        await trio.sleep(210)
        await peer.send(client_frame(SEND[40:]))
        assert (await peer.frame()).command == "MESSAGE"


async def test_heart_beats_in_two_reads_are_no_frame(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server:
        peer = await open_peer(server)
        for _ in range(20):
            await peer.send(client_frame(b"\r"))
            await trio.sleep(5)
            await peer.send(client_frame(b"\n"))
        await peer.subscribe("/topic/a")


@both_paths
@pytest.mark.parametrize("opcode", [PING, PONG], ids=["pings", "pongs"])
async def test_a_flood_of_control_frames_is_1008(
    opcode: int, is_fast: bool, autojump_clock: MockClock
) -> None:
    async with (
        open_test_server(None, config(is_fast=is_fast)) as server,
        faulty(server, "websocket.control_frames"),
    ):
        peer = await open_peer(server)
        await peer.send(client_frame(b"", opcode) * 10_000)
        seen = await peer.wire.frames_to_end()
        assert seen[-1].close_code == 1008
        pongs = [frame for frame in seen if frame.opcode == PONG]
        assert len(pongs) <= 100
        await hang_up(peer)


@both_paths
async def test_a_flood_of_pings_within_a_message_is_1008(is_fast: bool, autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, config(is_fast=is_fast)) as server,
        faulty(server, "websocket.control_frames"),
    ):
        peer = await open_peer(server)
        await peer.send(client_frame(b"SEND", final=False), client_frame(b"", PING) * 10_000)
        assert (await peer.wire.frames_to_end())[-1].close_code == 1008
        await hang_up(peer)


async def test_100_pings_a_second_are_answered(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server:
        peer = await open_peer(server)
        for _ in range(5):
            await peer.send(client_frame(b"?", PING) * 100)
            for _ in range(100):
                assert (await peer.wire.frame()).opcode == PONG
            await trio.sleep(1)
        assert not server.statistics().metrics.limit_hits["websocket.control_frames"]
