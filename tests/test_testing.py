"""The test server: what users' tests stand on."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import Wire

from trio_stomp import (
    Connected,
    ConnectRequest,
    HandlerSignatureError,
    Reconnect,
    ServerConfig,
    ServerError,
    StompApp,
    User,
)
from trio_stomp.testing import open_test_server


async def test_two_clients_chat(autojump_clock: MockClock) -> None:
    async with (
        open_test_server() as server,
        server.client() as ada,
        server.client() as bob,
        bob.subscribe("/topic/a", str) as messages,
    ):
        await ada.send("/topic/a", "hello")
        assert await messages.receive() == "hello"


async def test_hours_pass_at_once(autojump_clock: MockClock) -> None:
    async with open_test_server() as server, server.client() as client:
        await trio.sleep(2 * 3600)
        await client.send("/topic/a", receipt=True)


async def test_login_headers_and_address_reach_the_app(autojump_clock: MockClock) -> None:
    app, seen = StompApp(), []

    @app.on_connect
    async def who(request: ConnectRequest) -> User:
        seen.append(request)
        return User("ada")

    async with (
        open_test_server(app) as server,
        server.client(
            login="l", passcode="p", headers={"x": "1"}, http_headers={"Cookie": "c=1"}, remote="10.0.0.1:5"
        ) as client,
    ):
        assert client.user_name == "ada"
        [request] = seen
        assert (request.login, request.passcode, request.headers["x"]) == ("l", "p", "1")
        assert (request.http_headers["cookie"], request.remote) == ("c=1", "10.0.0.1:5")


async def test_a_raw_connection_speaks_http(autojump_clock: MockClock) -> None:
    async with open_test_server() as server:
        wire = Wire(server.connect())
        await wire.stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await wire.read_to_end()).endswith(b"ok\n")


async def test_the_path_is_the_configurations(autojump_clock: MockClock) -> None:
    async with open_test_server(None, ServerConfig(path="/stomp")) as server, server.client() as client:
        await client.send("/topic/a", receipt=True)


async def test_bad_handlers_are_told_on_entering(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x")
    async def x(a: int, b: int) -> None:
        pass

    with pytest.raises(HandlerSignatureError):
        async with open_test_server(app):
            raise AssertionError("not reached")


async def test_a_client_comes_back_when_it_is_asked_to(autojump_clock: MockClock) -> None:
    app, logins = StompApp(), []

    @app.on_connect
    async def who(request: ConnectRequest) -> User:
        logins.append((request.login, request.remote))
        return User("ada")

    async with (
        open_test_server(app) as server,
        server.client(login="l", remote="10.0.0.1:5", reconnect=Reconnect()) as client,
    ):
        with pytest.raises(ServerError):
            await client.send("/nowhere", receipt=True)
        assert isinstance(await client.events.receive(), Connected)
        while not isinstance(await client.events.receive(), Connected):
            pass
        assert logins == [("l", "10.0.0.1:5")] * 2


async def test_nothing_is_left_of_it(autojump_clock: MockClock) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_test_server() as server:
        server.connect()
        async with server.client() as client, client.subscribe("/topic/a"):
            pass
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before
