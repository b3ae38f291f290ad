"""Faults and floods over memory streams: each meets its limit, is counted, and leaves no task behind.

The table of all of them, with those that other files have, is docs/faults.md.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from peer import Peer, ended, gated_peer, open_peer, stomp
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import PING, PONG, Wire, client_frame, handshake

from trio_stomp import (
    AcceptConfig,
    Message,
    OutboxConfig,
    ServerConfig,
    StatisticsConfig,
    StompApp,
    StompConfig,
    WebSocketConfig,
)
from trio_stomp.metrics import Metrics
from trio_stomp.server.listeners import PatientListener
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


# Floods.


async def test_a_flood_of_connects_is_let_in_up_to_the_limit(autojump_clock: MockClock) -> None:
    limited = config(accept=AcceptConfig(connections=20))
    async with open_test_server(None, limited) as server, faulty(server, "accept.connections"):
        wires = [Wire(server.connect()) for _ in range(200)]
        answers = []
        for wire in wires:
            await wire.stream.send_all(handshake() + stomp("CONNECT", accept_version="1.2", host="h"))
        for wire in wires:
            answers.append(int((await wire.read_until(b"\r\n\r\n")).split()[1]))
        assert (answers.count(101), answers.count(503)) == (20, 180)
        for wire in wires:
            await trio.aclose_forcefully(wire.stream)


async def test_a_flood_of_upgrades_without_connect_is_given_up(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server, faulty(server, "stomp.connect_timeout"):
        wires = [Wire(server.connect()) for _ in range(200)]
        for wire in wires:
            await wire.shake_hands()
        for wire in wires:
            assert (await wire.frames_to_end())[-1].close_code == 1008
            await trio.aclose_forcefully(wire.stream)
        assert server.statistics().metrics.limit_hits["stomp.connect_timeout"] == 200


async def test_a_flood_of_connect_frames_is_error_at_the_second(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server, faulty(server):
        peer = await open_peer(server)
        await peer.send(stomp("CONNECT", accept_version="1.2", host="h") * 10_000)
        frames = await peer.to_end()
        assert [frame.command for frame in frames] == ["ERROR"]
        assert server.statistics().metrics.frames_in == 1
        await hang_up(peer)


async def test_a_flood_of_subscriptions_ends_at_the_limit_and_leaves_none(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server, faulty(server, "stomp.subscriptions"):
        peers = [await open_peer(server) for _ in range(5)]
        for peer in peers:
            await peer.send(
                *(
                    stomp("SUBSCRIBE", destination=f"/topic/{number}/**", id=str(number))
                    for number in range(1001)
                )
            )
        for peer in peers:
            [error] = await peer.to_end()
            assert "1000" in error.headers["message"]
            await hang_up(peer)
        await ended(server)
        assert server.statistics().metrics.subscriptions == 0


@pytest.mark.parametrize("is_pinging", [False, True])
@pytest.mark.parametrize("how", ["hangs up", "DISCONNECT", "ERROR"])
async def test_of_a_session_that_is_over_nothing_is_left_for_the_collector(
    how: str, is_pinging: bool, autojump_clock: MockClock
) -> None:
    """What only the garbage collector could free would pile up until it looks, which is seldom."""
    gc.collect()
    async with open_test_server(None, config()) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        if is_pinging:
            await peer.send(client_frame(b"?", PING))
            assert (await peer.wire.frame()).opcode == PONG
        (session,) = server.server._lifecycle._sessions.values()
        library = session._transport._websocket
        assert (library is not None) == is_pinging
        remaining = [weakref.ref(each) for each in (session, library) if each is not None]
        del session, library
        gc.disable()
        try:
            match how:
                case "DISCONNECT":
                    await peer.say("DISCONNECT", receipt="r")
                case "ERROR":
                    await peer.say("NONSENSE")
            await hang_up(peer)
            await ended(server)
            await trio.sleep(100)  # watches are cancelled, and forgotten at their time
            assert [each() for each in remaining if each() is not None] == []
        finally:
            gc.enable()


async def test_subscribing_and_unsubscribing_for_ever_keeps_nothing(autojump_clock: MockClock) -> None:
    async with open_test_server(None, config()) as server, faulty(server):
        peer = await open_peer(server)
        for number in range(5000):
            destination = f"/topic/{number}/*"
            await peer.send(stomp("SUBSCRIBE", destination=destination, id="1"), stomp("UNSUBSCRIBE", id="1"))
        await peer.say("DISCONNECT", receipt="r")
        assert [frame.command for frame in await peer.to_end()] == ["RECEIPT"]
        await hang_up(peer)
        assert server.statistics().metrics.subscriptions == 0


@both_paths
async def test_a_million_empty_fragments_are_1008_at_the_limit(
    is_fast: bool, autojump_clock: MockClock
) -> None:
    async with (
        open_test_server(None, config(is_fast=is_fast)) as server,
        faulty(server, "websocket.fragments"),
    ):
        peer = await open_peer(server)
        await peer.send(client_frame(b"", final=False), client_frame(b"", 0, final=False) * 1_000_000)
        assert (await peer.wire.frames_to_end())[-1].close_code == 1008
        await hang_up(peer)


async def test_a_peer_that_never_reads_is_cut(autojump_clock: MockClock) -> None:
    narrow = config(outbox=OutboxConfig(bytes=64 * 1024, write_timeout=10))
    async with open_test_server(None, narrow) as server, faulty(server, "outbox.write_timeout"):
        sender = await open_peer(server)
        async with gated_peer(server) as (peer, gate):
            await peer.subscribe("/topic/a")
            gate.shut()
            await sender.say("SEND", b"x", destination="/topic/a")
            await trio.sleep(20)
            assert server.statistics().sessions == 1
        await hang_up(sender)


class Exhausted(trio.abc.Listener[trio.abc.Stream]):
    """A listener of a process without a file descriptor left, ``times`` times."""

    def __init__(self, times: int, error: int = errno.EMFILE) -> None:
        self.left = times
        self._error = error

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self.left:
            return trio.testing.memory_stream_pair()[0]
        self.left -= 1
        raise OSError(self._error, "as asked")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_a_listener_without_descriptors_waits_counts_and_goes_on(
    error: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, accepted = Metrics(), []
    exhausted = Exhausted(100, error)
    listener = PatientListener(exhausted, metrics, lambda: accepted.append(None))  # type: ignore[arg-type]  # as good as a socket's
    started = trio.current_time()
    await listener.accept()
    assert accepted == [None]
    assert trio.current_time() - started == pytest.approx(10)  # not a busy loop
    assert metrics.accepts_failed == 100
    assert len(caplog.records) == 1  # nor a flood of the log


async def test_a_listener_that_fails_for_another_reason_says_so(autojump_clock: MockClock) -> None:
    metrics = Metrics()
    listener = PatientListener(Exhausted(1, errno.EBADF), metrics, pytest.fail)  # type: ignore[arg-type]  # as above
    with pytest.raises(OSError, match="as asked"):
        await listener.accept()
    assert metrics.accepts_failed == 0


# Time and text.

PACKAGE = Path(__file__).parent.parent / "trio_stomp"
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today", "datetime.today"}
OF_DATES = {
    "errors.py": "Retry-After may be a date",
    "cli/measuring.py": "a report says when it was made",
}
"""Where the wall clock is read, and why that is right: nothing there waits for it."""


def wall_clock_reads(source: str) -> list[str]:
    """What of `WALL_CLOCKS` is called, or imported to be called by its bare name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.append(".".join(ast.unparse(node).split(".")[-2:]))
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"time.{alias.name}" for alias in node.names]
    return [name for name in found if name in WALL_CLOCKS]


def test_what_reads_the_wall_clock_is_found() -> None:
    assert wall_clock_reads("import time\nx = time.time()") == ["time.time"]
    assert wall_clock_reads("from time import time") == ["time.time"]
    assert wall_clock_reads("import datetime\nx = datetime.datetime.now()") == ["datetime.now"]
    assert wall_clock_reads("import time\nx = time.monotonic()") == []


def test_no_deadline_is_of_the_wall_clock() -> None:
    """A clock that is set, or stepped by NTP, changes nothing: deadlines are trio's, which are monotonic."""
    found = {
        str(path.relative_to(PACKAGE)): reads
        for path in PACKAGE.rglob("*.py")
        if (reads := wall_clock_reads(path.read_text(encoding="utf-8")))
    }
    assert set(found) == set(OF_DATES)


PLANES = "".join(chr((plane << 16) + at) for plane in range(17) for at in (0x0041, 0x0905, 0x2028, 0xFFFD))
ODD = (
    "\ufeff\u0085\u200b\u202e\ufffe\uffff\ufdd0\U0010ffff e\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467"
)


@pytest.mark.parametrize("text", [PLANES, ODD], ids=["every plane", "odd ones"])
@both_paths
async def test_text_of_every_plane_goes_through_destination_headers_and_body(
    text: str, is_fast: bool, autojump_clock: MockClock
) -> None:
    destination = f"/topic/{text}"
    async with (
        open_test_server(None, config(is_fast=is_fast)) as server,
        faulty(server),
        server.client() as client,
        client.subscribe(destination) as messages,
    ):
        await client.send(destination, text, headers={text: text}, receipt=True)
        message = await messages.receive()
        assert message.destination == destination
        assert message.headers[text] == text
        assert message.body.decode() == text
