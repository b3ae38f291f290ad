"""What goes on over lost connections: subscriptions and sends; what is told, and what is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from peer import Gate, without_heart_beats
from returning import (
    FAILING,
    SILENT,
    At,
    Scripted,
    Target,
    answering,
    coming_back,
    hang,
    mute,
    refuse,
    scripted,
    seen,
    until_connected,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import (
    Client,
    ClientConfig,
    Connected,
    ConnectionLost,
    Disconnected,
    DrainConfig,
    HandshakeRefused,
    LocalProtocolError,
    Message,
    ReceiptTimeout,
    Reconnect,
    Retrying,
    ServerError,
    State,
    StompApp,
    Subscription,
    Version,
)
from trio_stomp.stomp.frames import Frame, encode
from trio_stomp.testing import TestServer, open_test_server

QUIET = without_heart_beats()


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """A server to come back to."""
    async with open_test_server(None, QUIET) as server:
        yield At(server)


def held_after_connected(seconds: float) -> Target:
    """A server that goes after so long, until when nothing that the client writes arrives."""

    async def target(nursery: trio.Nursery) -> trio.abc.Stream:
        async def serve(server: Scripted) -> None:
            await server.frame()
            gate.shut()
            await server.say("CONNECTED", version="1.2")
            await trio.sleep(seconds)

        gate = Gate(await scripted(serve)(nursery))
        return gate

    return target


# Subscriptions.


async def test_a_subscription_goes_on_with_the_same_id_and_headers(autojump_clock: MockClock) -> None:
    asked: list[dict[str, str]] = []

    async def first(server: Scripted) -> None:
        await server.welcome()
        asked.append(dict((await server.answer()).headers))

    async def second(server: Scripted) -> None:
        await server.welcome()
        asked.append(dict((await server.frame()).headers))
        await server.publish(b"x")
        await server.frame()

    async with (
        coming_back(scripted(first), scripted(second)) as (client, _),
        client.subscribe("/topic/a", headers={"selector": "x > 1"}) as messages,
    ):
        assert (await messages.receive()).text == "x"
    for headers in asked:
        assert headers.pop("receipt")
    assert asked == [{"id": "s1", "destination": "/topic/a", "ack": "auto", "selector": "x > 1"}] * 2


async def test_iterating_does_not_notice_a_loss_and_misses_what_was_sent_meanwhile(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    got: list[str] = []

    async def read(messages: Subscription) -> None:
        async for message in messages:
            got.append(message.text)
        got.append("end")

    async with at.server.client() as ada, coming_back(at) as (client, _):
        async with client.subscribe("/topic/a") as messages:
            nursery.start_soon(read, messages)
            await until_connected(client)
            for number in range(3):
                await ada.send("/topic/a", f"{number}", receipt=True)
                await at.cut()
                await ada.send("/topic/a", "missed", receipt=True)
                await until_connected(client)
            await ada.send("/topic/a", "last", receipt=True)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
    assert got == ["0", "1", "2", "last", "end"]


async def test_messages_that_had_arrived_are_kept(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/topic/a") as messages:
        for number in range(3):
            await client.send("/topic/a", f"{number}", receipt=True)
        await at.cut()
        await client.send("/topic/a", "3", receipt=True)
        assert [(await messages.receive()).text for _ in range(4)] == ["0", "1", "2", "3"]


async def test_a_full_subscription_keeps_what_had_arrived_and_does_not_hold_up_the_next_connection(
    at: At, autojump_clock: MockClock
) -> None:
    """The reader waits for room in it when the writer finds the connection lost."""
    small = attrs.evolve(SILENT, messages=2)
    async with (
        at.server.client() as ada,
        coming_back(at, config=small) as (client, _),
        client.subscribe("/topic/a") as messages,
    ):
        for number in range(5):
            await ada.send("/topic/a", f"{number}", receipt=True)
        await wait_all_tasks_blocked()
        at.gates[0].shut()
        await client.send("/topic/b", "the writer takes it, and the write times out")
        await until_connected(client, 2)
        await ada.send("/topic/a", "new", receipt=True)
        assert [(await messages.receive()).text for _ in range(4)] == ["0", "1", "2", "new"]


async def test_leaving_a_subscription_while_there_is_no_connection_forgets_it(
    at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at) as (client, _):
        async with client.subscribe("/topic/a"), client.subscribe("/topic/b"):
            await at.cut()
            assert at.subscriptions == 0
        await client.send("/topic/a", receipt=True)
        assert at.subscriptions == 1  # to the server's notices
        assert at.server.statistics().metrics.protocol_errors == 0


async def test_subscribing_waits_for_the_connection(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at) as (client, _):
        await at.cut()
        async with client.subscribe("/topic/a") as messages:
            await client.send("/topic/a", "x")
            assert (await messages.receive()).text == "x"


async def test_a_subscribe_without_its_receipt_is_asked_for_again(at: At, autojump_clock: MockClock) -> None:
    async def halfway(server: Scripted) -> None:
        await server.welcome()
        assert (await server.frame()).command == "SUBSCRIBE"

    async with (
        coming_back(scripted(halfway), at) as (client, dial),
        client.subscribe("/topic/a") as messages,
    ):
        assert at.subscriptions == 2  # with the notices
        await client.send("/topic/a", "x")
        assert (await messages.receive()).text == "x"
        assert len(dial.times) == 2


@pytest.mark.parametrize("names_it", [True, False])
async def test_a_subscribe_that_is_refused_raises_and_is_not_asked_for_again(
    names_it: bool, at: At, autojump_clock: MockClock
) -> None:
    """RabbitMQ does not say what its ERROR is about: it may be this one."""

    async def refusing(server: Scripted) -> None:
        await server.welcome()
        if names_it:
            await server.refuse("no such queue")
        else:
            await server.frame()
            await server.say("ERROR", message="no such queue")

    async with coming_back(scripted(refusing), at) as (client, _):
        with pytest.raises(ServerError, match="no such queue"):
            async with client.subscribe("/queue/none"):
                raise AssertionError("not reached")
        await client.send("/topic/a", receipt=True)
        assert at.subscriptions == 1


async def test_a_subscription_that_the_next_server_refuses_ends_and_the_others_go_on(
    at: At, autojump_clock: MockClock
) -> None:
    async def first(server: Scripted) -> None:
        await server.welcome()
        await server.answer()
        await server.answer()
        await server.publish(b"x")

    async def second(server: Scripted) -> None:
        await server.welcome()
        await server.refuse("not any more")

    async with (
        coming_back(scripted(first), scripted(second), at) as (client, dial),
        client.subscribe("/topic/a") as refused,
        client.subscribe("/topic/b") as messages,
    ):
        assert (await refused.receive()).text == "x"
        with pytest.raises(ServerError, match="not any more"):
            await refused.receive()
        await client.send("/topic/b", "y")
        assert (await messages.receive()).text == "y"
        assert len(dial.times) == 3


async def test_a_subscription_that_the_next_version_has_not_ends_and_the_others_go_on(
    autojump_clock: MockClock,
) -> None:
    async def first(server: Scripted) -> None:
        await server.welcome()
        await server.answer()
        await server.answer()

    async def second(server: Scripted) -> None:
        await server.welcome(version="1.0")
        await server.publish(b"y", (await server.frame()).headers["id"], "/topic/b")
        await server.frame()

    async with (
        coming_back(scripted(first), scripted(second)) as (client, _),
        client.subscribe("/topic/a", headers={"ack": "client-individual"}) as refused,
        client.subscribe("/topic/b") as messages,
    ):
        with pytest.raises(LocalProtocolError, match="client-individual"):
            await refused.receive()
        assert (await messages.receive()).text == "y"
        assert client.version is Version.V1_0


async def test_a_connection_that_is_lost_while_it_subscribes_is_followed_by_another(
    at: At, autojump_clock: MockClock
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        client, dial = await stack.enter_async_context(coming_back(at, held_after_connected(1), at))
        for name in "abc":
            await stack.enter_async_context(client.subscribe(f"/topic/{name}"))
        await at.cut()
        await client.send("/topic/a", receipt=True)
        assert at.subscriptions == 4
        assert len(dial.times) == 3


async def test_a_connection_that_ends_with_its_beginning_is_followed_by_another(
    at: At, autojump_clock: MockClock
) -> None:
    """CONNECTED and ERROR in one message: it has ended when the client takes it over."""

    async def brief(server: Scripted) -> None:
        await server.frame()
        both = Frame("CONNECTED", {"version": "1.2"}, b""), Frame("ERROR", {"message": "go"}, b"")
        await server.websocket.send_message(b"".join(encode(frame, Version.V1_0) for frame in both))

    async with coming_back(at, scripted(brief), at) as (client, _), client.subscribe("/topic/a") as messages:
        await at.cut()
        await client.send("/topic/a", "x")
        assert (await messages.receive()).text == "x"
        assert Disconnected(1006, "go") in await seen(client, 7)


async def test_leaving_a_subscription_while_the_connection_subscribes_forgets_it(
    at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at, held_after_connected(1), at) as (client, dial):
        async with client.subscribe("/topic/a"), client.subscribe("/topic/b"):
            await at.cut()
            await trio.sleep(0.3)
            assert len(dial.times) == 2
            await wait_all_tasks_blocked()
        await client.send("/topic/a", receipt=True)
        assert at.subscriptions == 1
        assert at.server.statistics().metrics.protocol_errors == 0


# Sends.


async def test_sends_wait_and_go_out_in_order_after_the_subscriptions(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/topic/a") as messages:
        await at.cut()
        for number in range(50):
            nursery.start_soon(client.send, "/topic/a", f"{number}")
            await wait_all_tasks_blocked()
        assert [(await messages.receive()).text for _ in range(50)] == [f"{number}" for number in range(50)]


async def test_a_send_that_comes_while_others_still_go_out_goes_after_them(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/topic/a") as messages:
        await at.cut()
        for number in range(10):
            nursery.start_soon(client.send, "/topic/a", f"{number}")
            await wait_all_tasks_blocked()
        await until_connected(client, 2)
        await client.send("/topic/a", "after")
        assert [(await messages.receive()).text for _ in range(11)][-1] == "after"


async def test_a_send_with_a_receipt_waits_and_is_done_once(autojump_clock: MockClock) -> None:
    app, done = StompApp(), []

    @app.on_message("/app/do")
    async def do(message: Message) -> None:
        done.append(message.text)

    async with open_test_server(app, QUIET) as server, coming_back(at := At(server)) as (client, _):
        await at.cut()
        await client.send("/app/do", "once", receipt=True)
        assert done == ["once"]


async def test_sends_may_fail_instead(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, reconnect=FAILING) as (client, _):
        await at.cut()
        before = trio.current_time()
        for receipt in (False, True):
            with pytest.raises(ConnectionLost, match="not connected, nothing was sent: ABNORMAL") as raised:
                await client.send("/topic/a", receipt=receipt)
            assert raised.value.code == 1006
        with pytest.raises(ConnectionLost, match="not connected"):
            async with client.subscribe("/topic/a"):
                raise AssertionError("not reached")
        assert trio.current_time() == before
        await until_connected(client, 2)
        await client.send("/topic/a", receipt=True)


async def test_sends_that_fail_say_why_it_was_given_up(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, answering("403 no"), reconnect=FAILING) as (client, _):
        await at.cut()
        await seen(client, 4)
        with pytest.raises(HandshakeRefused, match="403"):
            await client.send("/topic/a")


async def test_a_subscribe_without_its_receipt_fails_when_sends_do(autojump_clock: MockClock) -> None:
    async def halfway(server: Scripted) -> None:
        await server.welcome()
        await server.frame()

    async with coming_back(scripted(halfway), reconnect=FAILING) as (client, _):
        with pytest.raises(ConnectionLost, match="not connected"):
            async with client.subscribe("/topic/a"):
                raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (ClientConfig(waiting=3), r"3 sends wait already, expected less than 3 \(ClientConfig.waiting\)"),
        (ClientConfig(waiting_bytes=400), "bytes of sends wait already, expected at most 400 with this"),
    ],
)
async def test_no_more_sends_wait_than_there_is_room_for(
    config: ClientConfig, text: str, at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at, config=config) as (client, _), trio.open_nursery() as nursery:
        await at.cut()
        for _ in range(3):
            nursery.start_soon(client.send, "/topic/a", b"x" * 80)
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionLost, match=text):
            await client.send("/topic/a", b"x" * 80)
        assert not client.is_connected


async def test_a_waiting_send_that_is_cancelled_is_taken_out(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    narrow = attrs.evolve(SILENT, waiting=2)
    async with coming_back(at, config=narrow) as (client, _), client.subscribe("/topic/a") as messages:
        await at.cut()
        for _ in range(10):
            with trio.move_on_after(0.01) as scope:
                await client.send("/topic/a", "cancelled", receipt=True)
            assert scope.cancelled_caught
        nursery.start_soon(client.send, "/topic/a", "one")
        await wait_all_tasks_blocked()
        await client.send("/topic/a", "two", receipt=True)
        assert [(await messages.receive()).text for _ in range(2)] == ["one", "two"]


async def test_a_receipt_that_a_lost_connection_owes_is_an_error_and_the_frame_is_not_sent_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    app, done = StompApp(), []

    @app.on_message("/app/do")
    async def do(message: Message) -> None:
        done.append(message.text)
        await trio.sleep(1)

    async with open_test_server(app, QUIET) as server, coming_back(at := At(server)) as (client, _):
        nursery.start_soon(at.cut_soon)
        with pytest.raises(ConnectionLost, match="before the RECEIPT, whether it was done is not known") as e:
            await client.send("/app/do", "once", receipt=True)
        assert e.value.code == 1006
        await client.send("/app/do", "twice", receipt=True)
        assert done == ["once", "twice"]


async def test_a_frame_that_was_not_written_yet_goes_out_on_the_next_connection(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/topic/a") as messages:
        at.gates[0].shut()
        await client.send("/topic/a", "in the writer's hands")
        nursery.start_soon(client.send, "/topic/a", "not written")
        await wait_all_tasks_blocked()
        await at.cut()
        assert (await messages.receive()).text == "not written"


async def test_a_frame_that_was_not_written_yet_fails_when_sends_do(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with coming_back(at, reconnect=FAILING) as (client, _):
        await wait_all_tasks_blocked()
        at.gates[0].shut()
        await client.send("/topic/a", "in the writer's hands")
        nursery.start_soon(at.cut_soon)
        with pytest.raises(ConnectionLost, match="nothing was sent"):
            await client.send("/topic/a", "x", receipt=True)


async def test_waiting_sends_survive_a_connection_that_goes_before_they_are_written(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with (
        at.server.client() as ada,
        ada.subscribe("/topic/a") as messages,
        coming_back(at, held_after_connected(1), at) as (client, dial),
    ):
        await at.cut()
        for number in range(5):
            nursery.start_soon(client.send, "/topic/a", f"{number}")
            await wait_all_tasks_blocked()
        # The first one is in the writer's hands when the second connection goes.
        assert [(await messages.receive()).text for _ in range(4)] == ["1", "2", "3", "4"]
        assert len(dial.times) == 3


async def test_a_frame_that_is_not_legal_raises_when_its_turn_comes(
    at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at) as (client, _):
        await at.cut()
        with pytest.raises(LocalProtocolError):
            await client.send("/topic/a", "x", headers={"": "x"})
        assert client.is_connected
        await client.send("/topic/a", "x", receipt=True)


async def test_a_refused_frame_is_a_server_error_for_its_sender_only(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def refusing(server: Scripted) -> None:
        await server.welcome()
        await server.frame()
        await server.refuse("not yours")

    async with coming_back(scripted(refusing), at) as (client, _):

        async def other() -> None:
            with pytest.raises(ConnectionLost, match="not known: not yours") as raised:
                await client.send("/topic/a", receipt=True)
            assert isinstance(raised.value.__cause__, ServerError)

        nursery.start_soon(other)
        await wait_all_tasks_blocked()
        with pytest.raises(ServerError, match="not yours"):
            await client.send("/topic/secret", receipt=True)
        await client.send("/topic/open", receipt=True)
        assert Disconnected(1006, "not yours") in await seen(client, 3)


async def test_no_receipt_in_time_is_a_timeout_with_reconnect_too(autojump_clock: MockClock) -> None:
    async def forgetful(server: Scripted) -> None:
        await server.welcome()
        await trio.sleep_forever()

    async with coming_back(scripted(forgetful)) as (client, _):
        with pytest.raises(ReceiptTimeout):
            await client.send("/topic/a", receipt=True)
        assert client.is_connected


# Events.


async def test_unread_events_are_dropped_from_the_oldest_on(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, config=attrs.evolve(SILENT, events=2)) as (client, _):
        await at.cut()
        await client.send("/topic/a", receipt=True)
        assert client.events.dropped == 2
        assert await seen(client, 2) == [Retrying(1, 0.25, "ABNORMAL_CLOSURE"), Connected(1, 0.25)]


async def test_events_end_when_the_client_is_left(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    heard: list[object] = []

    async def listen(client: Client) -> None:
        heard.extend([event async for event in client.events])
        heard.append("end")

    async with coming_back(at) as (client, _):
        nursery.start_soon(listen, client)
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert heard == [Connected(1, 0.0), "end"]


async def test_what_others_say_is_one_short_printable_line(autojump_clock: MockClock) -> None:
    async def rude(server: Scripted) -> None:
        await server.welcome()
        await server.websocket.aclose(4000, "a\nb\x1b[31m" + "c" * 100)

    async def worse(server: Scripted) -> None:
        await server.welcome()
        await server.say("ERROR", message="d" * 1000)

    async with coming_back(scripted(rude), scripted(worse)) as (client, _):
        assert (await seen(client, 2))[1] == Disconnected(4000, "a b?[31m" + "c" * 100)
        await until_connected(client)
        assert await seen(client, 1) == [Disconnected(1006, "d" * 200)]


# Leaving.


@contextlib.asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """At its end no more tasks live than at its start."""
    await wait_all_tasks_blocked()
    tasks = trio.lowlevel.current_statistics().tasks_living
    yield
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def stuck_at_connect(nursery: trio.Nursery) -> trio.abc.Stream:
    """A server that does not answer CONNECT."""

    async def stuck(server: Scripted) -> None:
        await trio.sleep_forever()

    return await scripted(stuck)(nursery)


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("target", [refuse, hang, mute, stuck_at_connect])
async def test_leaving_while_there_is_no_connection_ends_at_once(
    target: Target, is_cancelled: bool, at: At, autojump_clock: MockClock
) -> None:
    async with leaving_nothing():
        with trio.CancelScope() as scope:
            async with coming_back(at, target) as (client, dial):
                await at.cut()
                await seen(client, 3)  # the last: it tries again
                await trio.sleep(0.3)
                assert len(dial.times) == 2
                await wait_all_tasks_blocked()
                assert not client.is_connected
                before = trio.current_time()
                if is_cancelled:
                    scope.cancel()
        assert trio.current_time() == before


async def test_leaving_when_the_connection_has_just_ended_ends_at_once(
    at: At, autojump_clock: MockClock
) -> None:
    async with leaving_nothing(), coming_back(at) as (client, dial):
        await wait_all_tasks_blocked()
        client._connection._end(ConnectionLost("gone"))  # nobody has been told yet
    assert len(dial.times) == 1


async def test_without_reconnect_a_send_right_after_the_end_says_why(
    at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at, reconnect=None) as (client, _):
        await wait_all_tasks_blocked()
        client._connection._end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost, match=r"^gone$"):
            await client.send("/topic/a")


async def test_leaving_while_connected_is_a_clean_close(at: At, autojump_clock: MockClock) -> None:
    async with leaving_nothing(), coming_back(at) as (client, _), client.subscribe("/topic/a"):
        await wait_all_tasks_blocked()
    assert at.server.statistics().metrics.close_codes["1000"] == 1
    assert at.server.statistics().metrics.protocol_errors == 0


async def test_leaving_wakes_who_still_waits(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    woken: list[str] = []

    async def wait(client: Client) -> None:
        with pytest.raises(ConnectionLost, match="the client is closed"):
            await client.send("/topic/a")
        woken.append("send")

    async def read(client: Client) -> None:
        async with client.subscribe("/topic/a") as messages:
            with pytest.raises(ConnectionLost, match="the client is closed"):
                await messages.receive()
        woken.append("subscription")

    async with coming_back(at, refuse) as (client, _):
        nursery.start_soon(read, client)
        await wait_all_tasks_blocked()
        await at.cut()
        nursery.start_soon(wait, client)
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert sorted(woken) == ["send", "subscription"]


async def test_leaving_with_a_full_subscription_of_another_task_is_a_clean_close(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    small = attrs.evolve(SILENT, messages=1)

    async def hold(client: Client) -> None:
        async with client.subscribe("/topic/a"):
            await trio.sleep_forever()

    async with at.server.client() as ada, coming_back(at, config=small) as (client, _):
        nursery.start_soon(hold, client)
        await wait_all_tasks_blocked()
        for _ in range(10):
            await ada.send("/topic/a", "x", receipt=True)
        before = trio.current_time()
    assert trio.current_time() == before


async def test_cancelling_ends_the_attempts_at_a_first_connection(autojump_clock: MockClock) -> None:
    async with leaving_nothing():
        with trio.move_on_after(100) as scope:
            async with coming_back(refuse):
                raise AssertionError("not reached")
        assert scope.cancelled_caught


async def test_an_exception_in_the_body_comes_out_as_it_is(at: At, autojump_clock: MockClock) -> None:
    async def body() -> None:
        async with coming_back(at, refuse) as (client, _):
            await at.cut()
            assert not client.is_connected
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await body()


# With a real drain.

CLIENTS, WINDOW = 50, 10


class Work:
    """Clients that send with receipts, one after the other, and what became of it."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.unknown: list[str] = []
        self.done: list[str] = []
        self.heard = [0] * CLIENTS
        self.times: list[float] = []
        self.seconds: list[float] = []
        self.end = trio.Event()

    def app(self) -> StompApp:
        """An app that does what the clients ask for."""
        app = StompApp()

        @app.on_message("/app/do")
        async def do(message: Message) -> None:
            await trio.sleep(0.05)
            self.done.append(message.text)

        @app.on_message("/app/tell", send_to="/topic/news")
        async def tell(message: Message) -> str:
            return "news"

        return app

    async def run(self, number: int, target: Target, *, task_status: trio.TaskStatus[None]) -> None:
        """One client's life: it loses its connection once."""
        async with (
            coming_back(target, reconnect=Reconnect()) as (client, dial),
            client.subscribe("/topic/news") as news,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._listen, number, news)
            nursery.start_soon(self._send, number, client)
            task_status.started()
            self.seconds.append((await until_connected(client, 2)).seconds)
            self.times.append(dial.times[1])
            await self.end.wait()
            assert len(dial.times) == 2
            nursery.cancel_scope.cancel()

    async def _listen(self, number: int, news: Subscription) -> None:
        async for _ in news:
            self.heard[number] += 1

    async def _send(self, number: int, client: Client) -> None:
        count = 0
        while True:
            name = f"{number}-{(count := count + 1)}"
            try:
                await client.send("/app/do", name, receipt=True)
                self.acknowledged.append(name)
            except ConnectionLost:
                self.unknown.append(name)
            await trio.sleep(0.3)


async def test_fifty_clients_leave_a_draining_server_spread_and_lose_nothing_that_was_acknowledged(
    autojump_clock: MockClock,
) -> None:
    work = Work()
    draining = without_heart_beats(drain=DrainConfig(delay=1, window=WINDOW))
    async with (
        open_test_server(work.app(), draining) as old,
        open_test_server(work.app(), QUIET) as new,
        trio.open_nursery() as nursery,
    ):

        async def balancer(nursery: trio.Nursery) -> trio.abc.Stream:
            ready: TestServer = next(server for server in (old, new) if server.server.state is State.READY)
            return await At(ready)(nursery)

        for number in range(CLIENTS):
            await nursery.start(work.run, number, balancer)
        await trio.sleep(1)
        start = trio.current_time() + 1
        assert await old.server.drain()
        await trio.sleep(2)
        async with new.client() as ada:
            await ada.send("/app/tell", receipt=True)
        await wait_all_tasks_blocked()
        work.end.set()

    times = sorted(work.times)
    assert len(times) == CLIENTS
    assert start <= times[0] <= times[-1] <= start + WINDOW + 0.1
    most = max(sum(first <= time < first + 1 for time in times) for first in times)  # in any second
    assert most <= 1.3 * CLIENTS / WINDOW
    assert max(work.seconds) < 0.01
    assert work.heard == [1] * CLIENTS
    assert len(work.acknowledged) > CLIENTS * WINDOW
    assert set(work.acknowledged) <= set(work.done)
    assert len(set(work.done)) == len(work.done)
    assert len(work.unknown) <= CLIENTS
