"""A client's connection: heart-beats, receipts in the table, and one reason for its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from peer import Gate
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_stomp import Client, ClientConfig, ConnectionLost, OutboxConfig, ServerConfig, StompConfig
from trio_stomp.client.client import open_client_over
from trio_stomp.stomp.frames import Frame
from trio_stomp.testing import TestServer, open_test_server

EAGER = ServerConfig(
    stomp=StompConfig(heart_beat_send=1, heart_beat_receive=1), outbox=OutboxConfig(write_timeout=100)
)
EAGER_CLIENT = ClientConfig(heart_beat_send=1, heart_beat_receive=1)


@contextlib.asynccontextmanager
async def client_of_gated_server(
    server: TestServer, config: ClientConfig = EAGER_CLIENT
) -> AsyncIterator[tuple[Client, Gate]]:
    """A client, and the gate before what the server writes to it."""
    ours, theirs = memory_stream_pair()
    gate = Gate(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.server.serve_stream, gate, "gated")
        async with open_client_over(ours, authority="h", resource="/ws", host="h", config=config) as client:
            yield client, gate
        gate.open()
        nursery.cancel_scope.cancel()


async def test_a_server_that_falls_silent_is_a_lost_connection(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, EAGER) as server,
        client_of_gated_server(server) as (client, gate),
        client.subscribe("/topic/a") as messages,
    ):
        gate.shut()
        started = trio.current_time()
        with pytest.raises(ConnectionLost, match="no heart-beat"):
            await messages.receive()
        assert 1.8 <= trio.current_time() - started <= 2.2


async def test_heart_beats_keep_both_sides_alive(autojump_clock: MockClock) -> None:
    async with open_test_server(None, EAGER) as server, server.client(config=EAGER_CLIENT) as client:
        await trio.sleep(100)
        await client.send("/topic/a", receipt=True)
        assert server.statistics().metrics.heart_beats_missed == 0


async def test_no_heart_beats_are_sent_when_none_were_agreed(autojump_clock: MockClock) -> None:
    config = ClientConfig(heart_beat_send=0, heart_beat_receive=0)
    async with open_test_server(None, EAGER) as server, server.client(config=config) as client:
        await wait_all_tasks_blocked()
        before = server.statistics().metrics.bytes_in, server.statistics().metrics.bytes_out
        await trio.sleep(100)
        assert (server.statistics().metrics.bytes_in, server.statistics().metrics.bytes_out) == before
        await client.send("/topic/a", receipt=True)


async def test_time_in_which_we_do_not_read_is_not_the_servers_fault(autojump_clock: MockClock) -> None:
    """And our own heart-beats go on meanwhile."""
    config = ClientConfig(heart_beat_send=1, heart_beat_receive=1, messages=1)
    async with (
        open_test_server(None, EAGER) as server,
        server.client(config=config) as client,
        server.client() as other,
        client.subscribe("/topic/a") as messages,
    ):
        for number in range(50):
            await other.send("/topic/a", str(number), receipt=True)
        await trio.sleep(30)
        assert [(await messages.receive()).text for _ in range(50)] == [str(number) for number in range(50)]


async def test_receipts_are_told_apart(autojump_clock: MockClock) -> None:
    async with open_test_server(None, EAGER) as server, server.client() as client:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(lambda: client.send("/topic/a", "x", receipt=True))
        assert not client._connection._receipts


class Spawned(trio.abc.Instrument):
    """Counts the tasks that are started."""

    def __init__(self) -> None:
        self.count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_waiting_for_a_receipt_starts_no_task(autojump_clock: MockClock) -> None:
    async with open_test_server(None, EAGER) as server, server.client() as client:
        spawned = Spawned()
        trio.lowlevel.add_instrument(spawned)
        for _ in range(3):
            await client.send("/topic/a", "x", receipt=True)
        trio.lowlevel.remove_instrument(spawned)
        assert spawned.count == 0


async def test_a_receipt_that_came_before_the_end_counts(autojump_clock: MockClock) -> None:
    async with open_test_server(None, EAGER) as server, server.client() as client:
        connection = client._connection
        with connection.expect_receipt() as early, connection.expect_receipt() as late:
            await connection._act(Frame("RECEIPT", {"receipt-id": early}))
            connection._end(ConnectionLost("gone"))
            await connection.wait_receipt(early)
            with pytest.raises(ConnectionLost, match="gone"):
                await connection.wait_receipt(late)


@pytest.mark.parametrize("call", ["receipt", "next", "send"])
async def test_who_is_cancelled_with_the_connection_is_not_told_that_it_has_ended(
    call: str, autojump_clock: MockClock
) -> None:
    """Both come in one pass of the scheduler when a scope round all of it is cancelled."""
    async with (
        open_test_server(None, EAGER) as server,
        server.client() as client,
        client.subscribe("/topic/a") as messages,
        trio.open_nursery() as nursery,
    ):
        connection, scope, gate = client._connection, trio.CancelScope(), trio.Event()

        async def use() -> None:
            with scope, connection.expect_receipt() as receipt:
                if call == "receipt":
                    await connection.wait_receipt(receipt)
                elif call == "next":
                    await messages.receive()
                else:
                    await gate.wait()
                    await client.send("/topic/a")

        nursery.start_soon(use)
        await wait_all_tasks_blocked()
        gate.set()
        connection._end(ConnectionLost("gone"))
        scope.cancel()
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught


async def test_the_first_reason_for_the_end_stays(autojump_clock: MockClock) -> None:
    async with open_test_server(None, EAGER) as server, server.client() as client:
        connection = client._connection
        await server.server.drain()
        await wait_all_tasks_blocked()
        first = connection.failure
        assert isinstance(first, ConnectionLost)
        assert first.code == 1012
        connection._end(ConnectionLost("another"))
        assert connection.failure is first


async def test_subscribing_after_the_end_says_why_it_ended(autojump_clock: MockClock) -> None:
    async with open_test_server(None, EAGER) as server, server.client() as client:
        await server.server.drain()
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionLost):
            async with client.subscribe("/topic/a"):
                raise AssertionError("not reached")
