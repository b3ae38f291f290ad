"""A server and its clients in one process, over memory streams: tests without sockets or waiting.

With pytest-trio's ``autojump_clock`` timeouts and heart-beats pass at once; nothing here sleeps
in real time. (The clock jumps while a worker thread runs: give a pool a runner of the test's
own for handlers that block.)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import trio
import trio.testing

from trio_stomp.app.application import StompApp
from trio_stomp.client.client import Client, open_client_by
from trio_stomp.client.reconnect import Reconnect
from trio_stomp.config import ClientConfig, ServerConfig
from trio_stomp.messages.conversion import Converter
from trio_stomp.server.serve import Server, open_server
from trio_stomp.server.statistics import ServerStatistics

__all__ = ["TestServer", "open_test_server"]

_AUTHORITY = "testserver"


class TestServer:
    """A server without sockets; made by `open_test_server`."""

    __test__ = False  # not a test case, whatever pytest thinks of its name

    def __init__(self, server: Server, nursery: trio.Nursery) -> None:
        self.server = server
        self._nursery = nursery

    def statistics(self) -> ServerStatistics:
        """The server's numbers at this moment."""
        return self.server.statistics()

    def connect(self, *, remote: str = "test") -> trio.abc.Stream:
        """A raw connection to the front door: bytes in, bytes out."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve_stream, theirs, remote)
        return ours

    def connect_tcp(self, *, remote: str = "test") -> trio.abc.Stream:
        """A raw connection that speaks STOMP from its first byte."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve_tcp_stream, theirs, remote)
        return ours

    @contextlib.asynccontextmanager
    async def client(
        self,
        *,
        login: str | None = None,
        passcode: str | None = None,
        headers: Mapping[str, str] | None = None,
        http_headers: Mapping[str, str] | None = None,
        config: ClientConfig | None = None,
        converter: Converter | None = None,
        reconnect: Reconnect | None = None,
        remote: str = "test",
    ) -> AsyncIterator[Client]:
        """A connected client, as `trio_stomp.open_client` gives one; the same errors."""

        async def dial() -> trio.abc.Stream:
            return self.connect(remote=remote)

        async with open_client_by(
            dial,
            authority=_AUTHORITY,
            resource=self.server.config.path,
            login=login,
            passcode=passcode,
            host=_AUTHORITY,
            headers=headers,
            http_headers=http_headers,
            config=config or ClientConfig(),
            converter=converter,
            reconnect=reconnect,
        ) as client:
            yield client


@contextlib.asynccontextmanager
async def open_test_server(
    app: StompApp | None = None, config: ServerConfig | None = None
) -> AsyncIterator[TestServer]:
    """Run ``app`` (None: a plain broker) for as long as the context lasts.

    Leaving drains the server, without delay; connections that are left at its deadline are cut.

    Raises:
        HandlerSignatureError: the app's handlers do not hold together.
    """
    async with open_server(app, config) as server, trio.open_nursery() as nursery:
        yield TestServer(server, nursery)
        await server.drain(delay=0, window=0)
        nursery.cancel_scope.cancel()
