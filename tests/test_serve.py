"""The server's nurseries: lifespan, broker, connections, and what is left of them: nothing."""

from __future__ import annotations

import gc
import re
import socket
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio
from peer import open_peer, without_heart_beats
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import Wire, handshake

from trio_stomp import (
    ConfigError,
    DestinationError,
    HandlerSignatureError,
    Message,
    PoolConfig,
    ServerConfig,
    StompApp,
    TrioStompError,
    open_server,
    serve,
)
from trio_stomp.testing import open_test_server

QUIET = without_heart_beats()


class Api:
    pass


async def test_the_lifespan_is_open_before_the_first_handler_and_until_the_last(
    autojump_clock: MockClock,
) -> None:
    app, events, gate = StompApp(), [], trio.Event()

    @app.lifespan
    async def api() -> AsyncIterator[Api]:
        events.append("open")
        yield Api()
        events.append("closed")

    @app.on_message("/app/x")
    async def x(api: Api) -> None:
        await gate.wait()
        events.append("handled")

    async with open_test_server(app, QUIET) as server, trio.open_nursery() as nursery:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/x")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.server.drain)
        await wait_all_tasks_blocked()
        assert events == ["open"]
        gate.set()
        await peer.to_end()
    assert events == ["open", "handled", "closed"]


async def test_bad_handlers_are_told_before_anything_is_opened(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.lifespan
    async def api() -> AsyncIterator[Api]:
        raise AssertionError("not reached")
        yield Api()

    @app.on_message("/app/x")
    async def x(a: int, b: int) -> None:
        pass

    with pytest.raises(HandlerSignatureError):
        async with open_server(app):
            pass


async def test_an_app_publishes_while_it_is_served_and_not_after(autojump_clock: MockClock) -> None:
    app = StompApp()
    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await app.publish("/topic/a", "x", headers={"x": "y"})
        frame = await peer.frame()
        assert (frame.body, frame.headers["x"]) == (b"x", "y")
    with pytest.raises(TrioStompError, match="not being served"):
        await app.publish("/topic/a", "x")


async def test_an_app_is_served_by_one_server_at_a_time(autojump_clock: MockClock) -> None:
    app = StompApp()
    async with open_test_server(app, QUIET):
        with pytest.raises(TrioStompError, match="being served already"):
            async with open_server(app):
                pass
    async with open_test_server(app, QUIET):
        pass


async def test_publishing_to_nobodys_destination_is_refused(autojump_clock: MockClock) -> None:
    app = StompApp()
    async with open_test_server(app, QUIET):
        with pytest.raises(DestinationError):
            await app.publish("/app/x", "x")


async def test_publish_to_user_reaches_sessions_of_that_name(autojump_clock: MockClock) -> None:
    app = StompApp()
    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/user/queue/x")
        session = next(iter(server.server._lifecycle._sessions))
        await app.publish_to_user(session, "/queue/x", "x")
        assert (await peer.frame()).body == b"x"


async def test_publishing_from_a_thread_in_real_time() -> None:
    app = StompApp()
    async with (
        open_test_server(app, QUIET) as server,
        server.client() as client,
        client.subscribe("/topic/a") as messages,
    ):
        await trio.to_thread.run_sync(app.publish_from_thread, "/topic/a", "from a thread")
        assert (await messages.receive()).text == "from a thread"


async def test_a_plain_handler_publishes_from_its_thread_in_real_time() -> None:
    app = StompApp()

    @app.on_message("/app/x")
    def x(message: Message) -> None:
        app.publish_from_thread("/topic/a", message.text)

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.say("SEND", b"x", destination="/app/x", receipt="r")
        assert [(await peer.frame()).command for _ in range(2)] == ["MESSAGE", "RECEIPT"]
        await peer.say("DISCONNECT")
        await peer.to_end()


async def test_many_tasks_publish_in_their_own_order(autojump_clock: MockClock) -> None:
    app = StompApp()
    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")

        async def publish(name: str) -> None:
            for number in range(100):
                await app.publish("/topic/a", f"{name}{number}")

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(publish, name)
        got = [(await peer.frame()).body.decode() for _ in range(300)]
        for name in "abc":
            assert [text for text in got if text[0] == name] == [f"{name}{number}" for number in range(100)]


async def test_the_configuration_sizes_pools(autojump_clock: MockClock) -> None:
    app = StompApp()
    app.pool("payments", threads=3)
    async with open_server(app, ServerConfig(pools={"payments": PoolConfig(threads=7)})) as server:
        assert server.pools["payments"].threads == 7


async def test_cancelling_closes_at_once_and_leaves_no_task(autojump_clock: MockClock) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        async with open_test_server(None, QUIET) as server:
            for _ in range(3):
                await (await open_peer(server)).subscribe("/topic/a")
            started = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() - started <= 6
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_no_task_is_left_after_hundreds_of_short_lives(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(300):
            wire = Wire(server.connect())
            if number % 3:
                await wire.stream.send_all(handshake()[: 40 * number])
            await wire.stream.aclose()
        await trio.sleep(60)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        metrics = server.statistics().metrics
        assert metrics.connections_current == 0
        assert metrics.internal_errors == 0


async def test_a_server_without_sockets_has_no_url(autojump_clock: MockClock) -> None:
    async with open_server(None) as server:
        with pytest.raises(RuntimeError):
            _ = server.url


async def test_serve_tells_its_url_and_ends_when_drained_in_real_time() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, None, ServerConfig(port=0))
        assert server.url.startswith("ws://127.0.0.1:")
        assert await server.drain(delay=0, window=0)


async def test_serve_tells_where_it_speaks_tcp_if_anywhere_in_real_time() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, None, ServerConfig(port=0, tcp_port=0))
        assert re.fullmatch(r"stomp://127\.0\.0\.1:[0-9]+", server.tcp_url)
        assert len(server.tcp_listeners) == 1
        await server.drain(delay=0, window=0)
        server = await nursery.start(serve, None, ServerConfig(port=0))
        assert (server.tcp_url, server.tcp_listeners) == (None, ())
        await server.drain(delay=0, window=0)


async def test_no_socket_is_left_where_the_tcp_port_cannot_be_had_in_real_time() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, None, ServerConfig(port=0))
        port = int(server.url.split(":")[2].removesuffix("/ws"))
        with pytest.raises(OSError, match="in use"):
            await serve(
                None, ServerConfig(port=0, tcp_port=port)
            )  # a socket that is left is a ResourceWarning
        gc.collect()  # a socket that is left is a ResourceWarning
        await server.drain(delay=0, window=0)


async def test_the_last_who_is_accepted_before_a_hand_over_is_served_in_real_time() -> None:
    for _ in range(20):  # whose turn comes first is left to chance
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, None, ServerConfig(port=0, reuse_port=True))
            await wait_all_tasks_blocked()
            address = ("127.0.0.1", urlsplit(server.url).port)
            with socket.create_connection(address) as client:  # waits in the backlog: nobody else has a turn
                client.sendall(handshake())
                nursery.start_soon(partial(server.drain, delay=0, window=0))
                client.setblocking(False)
                answer = await trio.socket.from_stdlib_socket(client).recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 ")


async def test_a_certificate_that_cannot_be_used_is_a_config_error_in_real_time() -> None:
    with pytest.raises(ConfigError, match="cannot use tls_cert"):
        await serve(None, ServerConfig(port=0, tls_cert="/nowhere", tls_key="/nowhere"))


async def test_statistics_do_not_change_afterwards(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        before = server.statistics()
        await open_peer(server)
        assert (before.sessions, server.statistics().sessions) == (0, 1)
        assert before.metrics.sessions_connected == 0
