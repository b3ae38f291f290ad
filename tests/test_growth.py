"""What one message costs does not depend on how many others are there: counted, not timed.

Bytecodes between two moments, with few and with many others connected; bench/growth.py measures what C code
does as well.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import h11
import pytest
import trio_websocket
from peer import Peer, open_peer
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.connection import Connection

from trio_stomp import Client, ConnectRequest, StompApp, User
from trio_stomp.testing import TestServer, open_test_server

FEW, MANY = 5, 80
IDLE_KIB = 38
"""Of one with a subscription over memory streams, its client and what coverage counts included: 26 to 31."""
OTHERS_MAY_COST = 1.02
"""Trio's own tables of tasks and deadlines are no lists, but not quite flat."""

app = StompApp()
app.allow_send("/topic/**", "/queue/**")
app.allow_subscribe("/topic/**", "/queue/**")


@app.on_connect
async def come(request: ConnectRequest) -> User:
    return User("guest")  # thousands may be one user


@app.on_message("/app/echo", send_to_user="/queue/echo", broadcast=False)
async def echo(message: str) -> str:
    return message


@attrs.define
class Count:
    """Of bytecodes."""

    total: int = 0


@contextlib.contextmanager
def counting() -> Iterator[Count]:
    """Count what runs in this thread, tasks that were there before as well."""
    count, before = Count(), sys.gettrace()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count.total += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


@contextlib.asynccontextmanager
async def others(server: TestServer, count: int) -> AsyncIterator[None]:
    """So many clients that have subscribed to topics, patterns and queues, and say nothing."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            client = await stack.enter_async_context(server.client())
            own = (f"/topic/{number}", f"/topic/{number}/*", f"/queue/{number}", "/user/queue/echo")
            for destination in own:
                await stack.enter_async_context(client.subscribe(destination))
        await wait_all_tasks_blocked()
        yield


async def answers(server: TestServer, client: Client) -> None:
    async with client.subscribe("/user/queue/echo") as replies:
        for _ in range(5):
            await client.send("/app/echo", "hello")
            await replies.receive()


async def publishes(server: TestServer, client: Client) -> None:
    async with client.subscribe("/topic/mine") as messages:
        for _ in range(5):
            await client.send("/topic/mine", "hello")
            await messages.receive()


async def queues(server: TestServer, client: Client) -> None:
    async with client.subscribe("/queue/mine", ack="client-individual") as messages:
        for _ in range(5):
            await client.send("/queue/mine", "hello")
            await client.ack(await messages.receive())


async def comes_and_goes(server: TestServer, client: Client) -> None:
    for _ in range(2):
        async with server.client() as another, another.subscribe("/topic/mine"):
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()


Work = Callable[[TestServer, Client], Awaitable[None]]


async def counted(work: Work, count: int) -> int:
    async with open_test_server(app) as server, others(server, count), server.client() as client:
        await work(server, client)  # what is made at the first time is left out
        await wait_all_tasks_blocked()
        with counting() as found:
            await work(server, client)
            await wait_all_tasks_blocked()
    return found.total


@pytest.mark.parametrize("work", [answers, publishes, queues, comes_and_goes])
async def test_what_it_costs_does_not_depend_on_how_many_others_there_are(
    work: Work, autojump_clock: MockClock
) -> None:
    few, many = await counted(work, FEW), await counted(work, MANY)
    assert many <= few * OTHERS_MAY_COST, f"{few} bytecodes beside {FEW} others, {many} beside {MANY}"


async def test_an_idle_connection_keeps_little_and_nothing_of_the_libraries(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(app) as server:

        async def connect(count: int) -> list[Peer]:
            peers = [await open_peer(server) for _ in range(count)]
            for peer in peers:
                await peer.subscribe("/topic/mine")
            await wait_all_tasks_blocked()
            gc.collect()
            return peers

        def libraries() -> int:
            kinds = (h11.Connection, trio_websocket.WebSocketConnection, Connection)
            return sum(isinstance(one, kinds) for one in gc.get_objects())

        first, had = await connect(5), libraries()  # what is made at the first time is left out
        tracemalloc.start()
        try:
            peers = await connect(MANY)
            kib = tracemalloc.get_traced_memory()[0] / len(peers) / 1024
        finally:
            tracemalloc.stop()
        assert kib < IDLE_KIB
        assert libraries() == had
        assert first
