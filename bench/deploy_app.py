"""The app that bench/deploy.py deploys: it records what it is sent, outside of itself."""

import os
from collections.abc import AsyncIterator

import attrs
import trio

from trio_stomp import StompApp

app = StompApp()

WORK = 0.01
"""Seconds that a request takes, so that some are always under way."""


@attrs.frozen
class Collector:
    """The benchmark's socket: what was written there has had its effect, whatever becomes of this process."""

    stream: trio.SocketStream
    lock: trio.Lock


@attrs.frozen
class Numbered:
    """A client's n-th request."""

    client: int
    number: int


@app.lifespan
async def collector() -> AsyncIterator[Collector]:
    """Connect to the collector."""
    async with await trio.open_unix_socket(os.environ["DEPLOY_COLLECTOR"]) as stream:
        yield Collector(stream, trio.Lock())


@app.on_message("/app/record")
async def record(request: Numbered, collector: Collector) -> None:
    """Take a while, then record."""
    await trio.sleep(WORK)
    async with collector.lock:
        await collector.stream.send_all(b"%d %d\n" % (request.client, request.number))
