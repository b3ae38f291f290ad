"""Reading by an epoll of our own: nothing is lost, whatever comes between an edge and its reader."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator
from random import Random

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_stomp.metrics import Metrics
from trio_stomp.transport.readiness import Readable, Readiness
from trio_stomp.transport.stream import RECEIVE_BYTES, WireStream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


@attrs.define(eq=False)
class Pair:
    """A wire that is read by readiness, and its peer."""

    wire: WireStream
    peer: socket.socket
    looking: trio.CancelScope
    metrics: Metrics

    async def pump_all(self, *, refusing: bool = False) -> bytes:
        """All that comes until the end; with ``refusing`` each piece ends a pump."""
        got = bytearray()

        def take(data: bytes) -> bool:
            got.extend(data)
            return not refusing

        while await self.wire.pump(take):
            assert refusing
        return bytes(got)


@contextlib.asynccontextmanager
async def open_pair(kind: str = "unix") -> AsyncIterator[Pair]:
    if kind == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    for end in (ours, theirs):
        end.setblocking(False)
    readiness, metrics = Readiness(), Metrics()
    with theirs:
        async with trio.open_nursery() as nursery:
            looking = trio.CancelScope()

            async def look(*, task_status: trio.TaskStatus[None]) -> None:
                with looking:
                    await readiness.run(task_status=task_status)

            await nursery.start(look)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            wire = WireStream(stream, write_timeout=10, metrics=metrics, readiness=readiness)
            yield Pair(wire, theirs, looking, metrics)
            await wire.abort()
            assert not readiness._watched
            nursery.cancel_scope.cancel()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with open_pair() as pair:
        yield pair


async def test_the_reading_task_sleeps_while_its_taker_wants_more(
    pair: Pair, autojump_clock: MockClock
) -> None:
    got: list[bytes] = []
    woken = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal woken
            woken += task is reader

    async with trio.open_nursery() as nursery:

        async def read() -> None:
            nonlocal reader
            reader = trio.lowlevel.current_task()
            await pair.wire.pump(lambda data: got.append(data) or len(got) < 4)

        reader: trio.lowlevel.Task | None = None
        nursery.start_soon(read)
        pair.peer.send(b"first")
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(Count())
        for data in (b"a", b"b"):
            pair.peer.send(data)
            await wait_all_tasks_blocked()
        assert (got, woken) == ([b"first", b"a", b"b"], 0)
        assert pair.metrics.bytes_in == pair.wire.bytes_read == 7
        pair.peer.send(b"last")
    assert got[-1] == b"last"
    assert woken == 1


@pytest.mark.parametrize("refusing", [False, True])
@pytest.mark.parametrize("when", ["before", "together", "after"])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_the_end_is_seen_whenever_it_comes(
    kind: str, when: str, refusing: bool, autojump_clock: MockClock
) -> None:
    async with open_pair(kind) as pair:
        got = b""

        async def read() -> None:
            nonlocal got
            got = await pair.pump_all(refusing=refusing)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                if when == "before":
                    pair.peer.send(b"last")
                    pair.peer.close()
                nursery.start_soon(read)
                if when != "before":
                    await wait_all_tasks_blocked()
                    pair.peer.send(b"last")
                    if when == "after":
                        await wait_all_tasks_blocked()
                    pair.peer.shutdown(socket.SHUT_WR)
        assert got == b"last"


async def test_more_than_one_read_takes_is_read_to_its_end(pair: Pair, autojump_clock: MockClock) -> None:
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * RECEIVE_BYTES)
    sizes: list[int] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            await pair.wire.pump(lambda data: sizes.append(len(data)) or sum(sizes) < 3 * RECEIVE_BYTES)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert pair.peer.send(bytes(3 * RECEIVE_BYTES)) == 3 * RECEIVE_BYTES
    assert sum(sizes) == 3 * RECEIVE_BYTES
    assert max(sizes) <= RECEIVE_BYTES


async def test_a_reset_is_a_broken_resource(autojump_clock: MockClock) -> None:
    async with open_pair("tcp") as pair, trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await pair.pump_all()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.peer.close()


async def test_what_a_taker_raises_is_its_own_tasks_and_others_are_looked_after(
    pair: Pair, autojump_clock: MockClock
) -> None:
    def fail(data: bytes) -> bool:
        raise ValueError(data)

    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(ValueError, match="one"):
                await pair.wire.pump(fail)
            assert await pair.wire.receive_some() == b"two"

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pair.peer.send(b"one")
        await wait_all_tasks_blocked()
        pair.peer.send(b"two")


async def test_what_comes_before_a_refused_taker_wakes_is_not_lost(
    pair: Pair, autojump_clock: MockClock
) -> None:
    """The looking task may have its turn twice before the reader has its one."""
    got: list[bytes] = []
    pair.wire._stop_watching()
    readable = pair.wire._readable = Readable(Readiness(), -1)  # which is told of edges by this test alone

    def refuse(data: bytes) -> bool:
        got.append(data)
        return False

    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with trio.fail_after(5):
                for _ in range(3):
                    assert await pair.wire.pump(refuse)

        pair.peer.send(b"0")
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for data in (b"1", b"2"):  # with no turn of the reader between them
            pair.peer.send(data)
            readable.edge(is_last=False)
    assert got == [b"0", b"1", b"2"]


@pytest.mark.parametrize("how", ["abort", "aclose"])
async def test_closing_wakes_the_reader(pair: Pair, how: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.pump_all()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await getattr(pair.wire, how)()


async def test_cancelling_a_reader_loses_nothing(pair: Pair, autojump_clock: MockClock) -> None:
    got: list[bytes] = []
    for number in (b"0", b"1", b"2"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.wire.pump, lambda data: got.append(data) or True)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            pair.peer.send(number)
        await wait_all_tasks_blocked()
    with trio.fail_after(1):
        assert b"".join(got) + await pair.wire.receive_some() == b"012"


async def test_readers_go_on_without_the_looking_task(pair: Pair, autojump_clock: MockClock) -> None:
    got: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            await pair.wire.pump(lambda data: got.append(data) or len(got) < 2)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pair.looking.cancel()
        await wait_all_tasks_blocked()
        pair.peer.send(b"one")
        await wait_all_tasks_blocked()
        pair.peer.send(b"two")
    assert got == [b"one", b"two"]


async def test_what_cannot_be_looked_after_is_read_by_trio(autojump_clock: MockClock) -> None:
    readiness = Readiness()
    assert readiness.watch(0) is None  # nobody looks yet
    async with open_pair() as pair:
        assert pair.wire._readable is not None
        assert pair.wire._readable._readiness.watch(1 << 20) is None  # no such socket
        assert pair.wire._readable._readiness.watch(-1) is None  # one that is closed
    ours, theirs = memory_stream_pair()
    wire = WireStream(ours, write_timeout=10, metrics=Metrics(), readiness=readiness)
    await theirs.send_all(b"x")
    await theirs.send_eof()
    got: list[bytes] = []
    assert not await wire.pump(lambda data: got.append(data) or True)
    assert got == [b"x"]


@settings(deadline=None, max_examples=60)
@given(st.integers(), st.sampled_from(["unix", "tcp"]))
def test_every_byte_arrives_once_and_in_order(seed: int, kind: str) -> None:
    """Pieces of any size at any time, a reader that stops and is cancelled at any time, and an end."""
    random = Random(seed)
    sent = random.randbytes(random.choice([10, 1000, 300_000]))
    got = bytearray()

    def take(data: bytes) -> bool:
        got.extend(data)
        return random.random() < 0.7

    async def write(peer: socket.socket) -> None:
        end = trio.SocketStream(trio.socket.from_stdlib_socket(peer.dup()))
        rest = sent
        while rest:
            size = random.choice([1, 10, 1000, 100_000])
            await end.send_all(rest[:size])
            rest = rest[size:]
            for _ in range(random.randrange(4)):
                await trio.lowlevel.checkpoint()
        await end.aclose()
        peer.close()

    async def main() -> None:
        with trio.fail_after(20):
            async with open_pair(kind) as pair, trio.open_nursery() as nursery:
                nursery.start_soon(write, pair.peer)
                is_open = True
                while is_open:
                    with trio.CancelScope() as scope:
                        if random.random() < 0.2:
                            scope.deadline = trio.current_time() + random.random() / 10_000
                        is_open = await pair.wire.pump(take, random.choice([7, 4096, RECEIVE_BYTES]))

    trio.run(main)
    assert got == sent
