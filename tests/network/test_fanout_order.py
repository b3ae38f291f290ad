"""Fan-out over real sockets: everything arrives, at everybody, in each publisher's order."""

from __future__ import annotations

import attrs
import trio
from network.support import PATIENCE, serving

from trio_stomp import Client, open_client

SUBSCRIBERS = 10
PUBLISHERS = 3
MESSAGES = 2000
"""In all, from all publishers together."""
DESTINATION = "/topic/fanout"


@attrs.frozen
class Numbered:
    publisher: int
    number: int


async def collect(client: Client, into: list[Numbered], *, task_status: trio.TaskStatus[None]) -> None:
    async with client.subscribe(DESTINATION, Numbered) as messages:
        task_status.started()
        while len(into) < MESSAGES:
            into.append(await messages.receive())


async def publish(client: Client, publisher: int, count: int) -> None:
    for number in range(count - 1):
        await client.send(DESTINATION, Numbered(publisher, number))
    await client.send(DESTINATION, Numbered(publisher, count - 1), receipt=True)


async def test_nothing_is_lost_and_each_publishers_order_is_kept() -> None:
    shares = [MESSAGES // PUBLISHERS + (each < MESSAGES % PUBLISHERS) for each in range(PUBLISHERS)]
    received: list[list[Numbered]] = [[] for _ in range(SUBSCRIBERS)]

    async def subscriber(
        url: str, into: list[Numbered], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with open_client(url) as client:
            await collect(client, into, task_status=task_status)

    async def publisher(url: str, number: int, count: int) -> None:
        async with open_client(url) as client:
            await publish(client, number, count)

    with serving() as server, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for into in received:
                await nursery.start(subscriber, server.url, into)
            for number, count in enumerate(shares):
                nursery.start_soon(publisher, server.url, number, count)

    for messages in received:
        assert len(messages) == MESSAGES
        for number, count in enumerate(shares):
            assert [each.number for each in messages if each.publisher == number] == [*range(count)]
    # One destination has one order: every subscriber saw the publishers' messages interleaved alike.
    assert all(messages == received[0] for messages in received)
