"""The client, against our own server and against bytes: what it gives, raises and leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from peer import Gate, ended, open_peer, without_heart_beats
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_stomp import (
    AccessDenied,
    Client,
    ClientConfig,
    ConnectionLost,
    ConnectRefused,
    ConnectRequest,
    ConversionError,
    HandshakeRefused,
    LocalProtocolError,
    Message,
    OutboxConfig,
    ReceiptTimeout,
    ServerConfig,
    ServerError,
    StompApp,
    User,
    Version,
    open_client,
)
from trio_stomp.client.client import open_client_over
from trio_stomp.testing import TestServer, open_test_server

QUIET = without_heart_beats()


@attrs.frozen
class Said:
    text: str


@contextlib.asynccontextmanager
async def gated_client(
    server: TestServer, config: ClientConfig | None = None
) -> AsyncIterator[tuple[Client, Gate]]:
    """A client, and the gate before what it writes."""
    ours, theirs = memory_stream_pair()
    gate = Gate(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.server.serve_stream, theirs, "gated")
        async with open_client_over(
            gate, authority="h", resource="/ws", host="h", config=config or ClientConfig()
        ) as client:
            yield client, gate
        nursery.cancel_scope.cancel()


async def test_it_says_what_it_agreed_on(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        assert client.version is Version.V1_2
        assert client.session
        assert client.user_name is None


async def test_messages_arrive_in_order_as_messages(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        async with client.subscribe("/topic/a") as messages:
            for number in range(10):
                await client.send("/topic/a", str(number), headers={"x": "a:b"})
            got = [await messages.receive() for _ in range(10)]
        assert [message.text for message in got] == [str(number) for number in range(10)]
        assert (got[0].destination, got[0].headers["x"]) == ("/topic/a", "a:b")


async def test_a_subscription_with_a_type_gives_payloads(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, QUIET) as server,
        server.client() as client,
        client.subscribe("/topic/a", Said) as said,
    ):
        await client.send("/topic/a", Said("hi"))
        assert await said.receive() == Said("hi")


async def test_a_payload_that_does_not_fit_raises_and_the_next_one_comes(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, QUIET) as server,
        server.client() as client,
        client.subscribe("/topic/a", Said) as said,
    ):
        await client.send("/topic/a", {"no": "text"})
        await client.send("/topic/a", Said("hi"))
        with pytest.raises(ConversionError, match=r"required field missing @ \$\.text"):
            await said.receive()
        assert await said.receive() == Said("hi")


async def test_a_content_type_of_ones_own_wins(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, QUIET) as server,
        server.client() as client,
        client.subscribe("/topic/a") as messages,
    ):
        await client.send("/topic/a", "<a/>", headers={"content-type": "application/xml"})
        assert (await messages.receive()).content_type == "application/xml"


async def test_subscribe_is_entered_after_its_receipt(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, QUIET) as server,
        server.client() as one,
        server.client() as two,
        one.subscribe("/topic/a") as messages,
    ):
        await two.send("/topic/a", "x", receipt=True)
        assert (await messages.receive()).text == "x"


async def test_leaving_a_subscription_unsubscribes(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        async with client.subscribe("/topic/a"):
            assert server.statistics().metrics.subscriptions == 1
        await client.send("/topic/a", "x", receipt=True)
        assert server.statistics().metrics.subscriptions == 0


async def test_iterating_ends_when_the_context_was_left(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        async with client.subscribe("/topic/a") as messages:
            pass
        assert [message async for message in messages] == []


async def test_leaving_the_client_is_a_clean_close(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        async with server.client() as client, client.subscribe("/topic/a"):
            pass
        await ended(server)
        metrics = server.statistics().metrics
        assert metrics.close_codes["1000"] == 1
        assert metrics.protocol_errors == 0
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_an_exception_in_the_body_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        with pytest.raises(KeyError, match="mine"):
            async with server.client() as client, client.subscribe("/topic/a"):
                raise KeyError("mine")
        await ended(server)
        assert server.statistics().metrics.close_codes["1000"] == 1


async def test_cancelling_in_the_body_leaves_cleanly(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        with trio.move_on_after(5):
            async with server.client() as client, client.subscribe("/topic/a") as messages:
                await messages.receive()
        await ended(server)
        assert server.statistics().metrics.close_codes["1000"] == 1


# What goes wrong.


async def test_a_receipt_that_does_not_come_is_a_timeout(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/slow")
    async def slow(message: Message) -> None:
        await trio.sleep(20)

    async with open_test_server(app) as server, server.client() as client:
        started = trio.current_time()
        with pytest.raises(ReceiptTimeout, match="within 10 seconds"):
            await client.send("/app/slow", receipt=True)
        assert trio.current_time() - started == pytest.approx(10, abs=0.1)
        await trio.sleep(15)  # the receipt that comes late is dropped
        assert not client._connection._receipts


async def test_the_servers_error_wakes_everybody_with_its_text(autojump_clock: MockClock) -> None:
    async with open_test_server(StompApp(), QUIET) as server, server.client() as client:
        seen: list[str] = []

        async def read() -> None:
            async with client.subscribe("/topic/a") as messages:
                try:
                    await messages.receive()
                except ServerError as error:
                    seen.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            with pytest.raises(ServerError, match="no access to send") as raised:
                await client.send("/topic/a", "x", receipt=True)
        assert raised.value.frame.headers["receipt-id"]
        assert seen == [raised.value.message]
        with pytest.raises(ServerError):
            await client.send("/topic/a", "x")


async def test_a_refused_connect_raises_with_the_servers_text(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_connect
    async def refuse(request: ConnectRequest) -> User:
        raise ConnectRefused("members only")

    async with open_test_server(app, QUIET) as server:
        with pytest.raises(ServerError, match="members only"):
            async with server.client(login="eve", passcode="x"):
                raise AssertionError("not reached")
        await ended(server)


async def test_a_refused_handshake_tells_the_http_status(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        with pytest.raises(HandshakeRefused) as raised:
            async with server.client(http_headers={"Origin": "http://evil.example"}):
                raise AssertionError("not reached")
        assert raised.value.status == 403


async def test_a_connection_that_is_lost_wakes_everybody(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        ours, theirs = memory_stream_pair()
        woken: list[str] = []

        async def read(client: Client, destination: str) -> None:
            async with client.subscribe(destination) as messages:
                with pytest.raises(ConnectionLost):
                    await messages.receive()
            woken.append(destination)

        async with trio.open_nursery() as outer:
            outer.start_soon(server.server.serve_stream, theirs, "lost")
            async with open_client_over(
                ours, authority="h", resource="/ws", host="h", config=ClientConfig()
            ) as client:
                async with trio.open_nursery() as nursery:
                    for destination in ("/topic/a", "/topic/b"):
                        nursery.start_soon(read, client, destination)
                    await wait_all_tasks_blocked()
                    await theirs.aclose()
                with pytest.raises(ConnectionLost):
                    await client.send("/topic/a", "x")
        assert sorted(woken) == ["/topic/a", "/topic/b"]


async def test_a_drained_server_is_a_connection_lost_with_1012(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, QUIET) as server,
        server.client() as client,
        client.subscribe("/topic/a") as messages,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(server.server.drain)
        with pytest.raises(ConnectionLost) as raised:
            await messages.receive()
        assert raised.value.code == 1012


async def test_what_was_received_before_the_end_is_given_out_first(autojump_clock: MockClock) -> None:
    async with (
        open_test_server(None, QUIET) as server,
        server.client() as client,
        client.subscribe("/topic/a") as messages,
    ):
        for number in range(3):
            await client.send("/topic/a", str(number), receipt=True)
        await server.server.drain()
        assert [(await messages.receive()).text for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(ConnectionLost):
            await messages.receive()


async def test_a_header_that_cannot_be_said_is_the_callers_mistake_and_harms_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        with pytest.raises(LocalProtocolError):
            await client.send("/topic/a", "x", headers={"": "x"}, receipt=True)
        assert not client._connection._receipts
        await client.send("/topic/a", "x", receipt=True)


@pytest.mark.parametrize("url", ["http://h/ws", "ws:///ws", "h:80"])
async def test_a_url_that_is_none_is_refused(url: str, autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL"):
        async with open_client(url):
            raise AssertionError("not reached")


# Back-pressure and cancelling.


async def test_a_full_subscription_stops_the_reading_and_loses_nothing(autojump_clock: MockClock) -> None:
    config = without_heart_beats(outbox=OutboxConfig(bytes=1 << 20))
    small = ClientConfig(messages=2)
    async with (
        open_test_server(None, config) as server,
        server.client(config=small) as client,
        client.subscribe("/topic/a") as messages,
    ):
        async with server.client() as other:
            for number in range(500):
                await other.send("/topic/a", str(number))
            await other.send("/topic/a", "last", receipt=True)
        await wait_all_tasks_blocked()
        assert [(await messages.receive()).text for _ in range(501)] == [*map(str, range(500)), "last"]


async def test_leaving_a_full_subscription_lets_the_others_go_on(autojump_clock: MockClock) -> None:
    small = ClientConfig(messages=1)
    async with (
        open_test_server(None, QUIET) as server,
        server.client(config=small) as client,
        server.client() as other,
    ):
        async with client.subscribe("/topic/a"):
            for _ in range(20):
                await other.send("/topic/a", "x", receipt=True)
            await wait_all_tasks_blocked()
        async with client.subscribe("/topic/b") as messages:
            await other.send("/topic/b", "through")
            assert (await messages.receive()).text == "through"


async def test_a_send_that_is_cancelled_at_once_harms_nothing(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        for receipt in (False, True):
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.send("/topic/a", "x", receipt=receipt)
        assert not client._connection._receipts
        await client.send("/topic/a", "x", receipt=True)


async def test_a_subscribe_that_is_cancelled_at_once_harms_nothing(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, server.client() as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with client.subscribe("/topic/a"):
                raise AssertionError("not reached")
        await client.send("/topic/a", "x", receipt=True)
        assert server.statistics().metrics.protocol_errors == 0


async def test_a_subscribe_that_is_cancelled_while_it_waits_unsubscribes(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, gated_client(server) as (client, gate):
        with trio.CancelScope() as scope:
            gate.shut()
            async with trio.open_nursery() as nursery:

                async def subscribe() -> None:
                    async with client.subscribe("/topic/a"):
                        raise AssertionError("not reached")

                nursery.start_soon(subscribe)
                await wait_all_tasks_blocked()
                scope.cancel()
                gate.open()
        await client.send("/topic/a", "x", receipt=True)
        assert server.statistics().metrics.subscriptions == 0
        assert server.statistics().metrics.protocol_errors == 0


async def test_a_send_that_is_cancelled_while_its_frame_is_written_sends_it_whole(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(None, QUIET) as server, gated_client(server) as (client, gate):
        other = await open_peer(server)
        await other.subscribe("/topic/a")
        gate.shut()
        with trio.move_on_after(1):
            await client.send("/topic/a", "one", receipt=True)
        gate.open()
        await client.send("/topic/a", "two", receipt=True)
        assert [(await other.frame()).body for _ in range(2)] == [b"one", b"two"]


class Deaf(trio.socket.SocketType):
    """A socket that connects to a host that does not answer."""

    def __init__(self) -> None:
        self.is_closed = False

    def setsockopt(self, *_: object) -> None:  # type: ignore[override]
        pass

    async def connect(self, address: object) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        self.is_closed = True


class DeafNetwork(trio.abc.SocketFactory):
    """Hands out such sockets."""

    def __init__(self) -> None:
        self.made: list[Deaf] = []

    def socket(self, *_: object) -> Deaf:  # type: ignore[override]
        self.made.append(Deaf())
        return self.made[-1]


async def test_a_host_that_does_not_answer_is_given_up_in_time(autojump_clock: MockClock) -> None:
    network = DeafNetwork()
    trio.socket.set_custom_socket_factory(network)
    started = trio.current_time()
    with pytest.raises(ConnectionLost, match="did not answer within 3 seconds"):
        async with open_client("ws://127.0.0.1:1/ws", config=ClientConfig(connect_timeout=3)):
            raise AssertionError("not reached")
    assert trio.current_time() - started == 3
    assert [deaf.is_closed for deaf in network.made] == [True]


async def test_a_server_that_does_not_answer_connect_is_given_up_in_time(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_connect
    async def slow(request: ConnectRequest) -> User:
        await trio.sleep_forever()
        raise AssertionError("not reached")

    async with open_test_server(app, QUIET) as server:
        started = trio.current_time()
        with pytest.raises(ConnectionLost, match="no CONNECTED within 10 seconds"):
            async with server.client():
                raise AssertionError("not reached")
        assert trio.current_time() - started <= 20
        await ended(server)


async def test_a_refusal_of_a_handler_is_a_server_error(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x")
    async def x(message: Message) -> None:
        raise AccessDenied("not yours")

    async with open_test_server(app, QUIET) as server, server.client() as client:
        with pytest.raises(ServerError, match="not yours"):
            await client.send("/app/x", receipt=True)


async def test_defaults_are_the_configurations(autojump_clock: MockClock) -> None:
    async with open_test_server(None, ServerConfig()) as server, server.client() as client:
        assert client._connection.protocol.heart_beat.send == 10.0


async def test_a_peer_that_stops_reading_does_not_hang_the_client_for_ever(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server, gated_client(server) as (client, gate):
        gate.shut()
        await client.send("/topic/a", "the writer takes it, and waits")
        with pytest.raises(ConnectionLost):
            await client.send("/topic/a", "nobody takes it")
