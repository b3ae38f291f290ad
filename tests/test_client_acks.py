"""Acknowledgements of the client: what goes out, what is refused before it does, and what a loss means."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from peer import without_heart_beats
from returning import FAILING, HALF, SILENT, At, Recorder, Scripted, coming_back, scripted, until_connected
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import (
    ConnectionLost,
    ConversionError,
    LocalProtocolError,
    ReceiptTimeout,
    ReceivedMessage,
    Reconnect,
    ServerError,
    Subscription,
)
from trio_stomp.client.received import Arrival, Ledger
from trio_stomp.stomp.frames import Frame
from trio_stomp.testing import open_test_server

QUIET = without_heart_beats()
INDIVIDUAL = "client-individual"


@attrs.frozen
class Job:
    number: int


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """A server to come back to."""
    async with open_test_server(None, QUIET) as server:
        yield At(server)


async def take(messages: Subscription, count: int) -> list[ReceivedMessage]:
    return [await messages.receive() for _ in range(count)]


# What goes out.


@pytest.mark.parametrize(
    ("version", "own"),
    [
        ("1.0", {"message-id": "m2", "subscription": "s1"}),
        ("1.1", {"message-id": "m2", "subscription": "s1"}),
        ("1.2", {"id": "a2"}),
    ],
)
async def test_ack_and_nack_name_the_message_as_the_version_does(
    version: str, own: dict[str, str], autojump_clock: MockClock
) -> None:
    recorder = Recorder(version)
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        _, second, third = await take(messages, 3)
        await client.ack(second)
        if version == "1.0":
            with pytest.raises(LocalProtocolError, match=r"there is no NACK in STOMP 1\.0"):
                await client.nack(third)
        else:
            await client.nack(third)
    said = recorder.said()
    assert said[0] == ("ACK", own)
    assert [command for command, _ in said] == (["ACK"] if version == "1.0" else ["ACK", "NACK"])


async def test_with_a_receipt_it_returns_when_the_server_vouches_for_it(autojump_clock: MockClock) -> None:
    recorder = Recorder(mute=["NACK"])
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        first, second, _ = await take(messages, 3)
        await client.ack(first, receipt=True)
        assert recorder.commands[-1] == "ACK"
        before = trio.current_time()
        with pytest.raises(ReceiptTimeout):
            await client.nack(second, receipt=True)
        assert trio.current_time() - before == 10


async def test_subscribing_says_mode_and_prefetch(autojump_clock: MockClock) -> None:
    recorder = Recorder(count=0)
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=INDIVIDUAL, prefetch=7, headers={"x": "y"}),
        client.subscribe("/queue/b", headers={"ack": "client"}),
        client.subscribe("/queue/c"),
    ):
        pass
    asked = [frame.headers for frame in recorder.frames if frame.command == "SUBSCRIBE"]
    assert [headers["ack"] for headers in asked] == [INDIVIDUAL, "client", "auto"]
    assert [headers.get("prefetch-count") for headers in asked] == ["7", None, None]
    assert asked[0]["x"] == "y"


@pytest.mark.parametrize(
    ("ack", "prefetch", "error", "text"),
    [
        ("client", 0, ValueError, "prefetch 0, expected 1 or more"),
        ("auto", 5, ValueError, "prefetch 5 with ack 'auto'"),
        ("later", None, LocalProtocolError, "ack 'later', expected one of auto, client, client-individual"),
    ],
)
async def test_a_mode_or_prefetch_that_makes_no_sense_is_refused(
    ack: str, prefetch: int | None, error: type[Exception], text: str, autojump_clock: MockClock
) -> None:
    recorder = Recorder()
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        with pytest.raises(error, match=text):
            async with client.subscribe("/queue/a", ack=ack, prefetch=prefetch):
                raise AssertionError("not reached")
    assert recorder.commands == ["DISCONNECT"]


# What a message says.


async def test_a_message_says_whether_it_was_redelivered(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome()
        await server.answer()
        await server.publish(b"1")
        await server.publish(b"2", redelivered="true")
        await server.publish(b"3", redelivered="false")
        await server.frame()

    async with (
        coming_back(scripted(script), reconnect=None) as (client, _),
        client.subscribe("/topic/a") as messages,
    ):
        assert [message.redelivered for message in await take(messages, 3)] == [False, True, False]


async def test_a_typed_subscription_that_acknowledges_gives_messages_with_payloads(
    at: At, autojump_clock: MockClock
) -> None:
    """One that does not fit must be had, else it could not be given back."""
    async with (
        at.server.client() as client,
        client.subscribe("/queue/a", Job, ack=INDIVIDUAL) as messages,
    ):
        await client.send("/queue/a", {"number": "none"})
        await client.send("/queue/a", Job(7))
        bad, good = await take(messages, 2)
        assert good.payload == Job(7)
        with pytest.raises(ConversionError, match=r"@ \$\.number"):
            _ = bad.payload
        await client.nack(bad)
        assert (await messages.receive()).redelivered


async def test_without_a_type_the_payload_is_the_body(at: At, autojump_clock: MockClock) -> None:
    async with at.server.client() as client, client.subscribe("/topic/a") as messages:
        await client.send("/topic/a", {"number": 7})
        assert (await messages.receive()).payload == b'{"number":7}'


# What is refused, and not sent.


async def test_what_acknowledges_by_itself_is_not_acknowledged(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/topic/a") as messages,
    ):
        message = await messages.receive()
        for acknowledge in (client.ack, client.nack):
            with pytest.raises(LocalProtocolError, match="'/topic/a', which acknowledges by itself"):
                await acknowledge(message, receipt=True)
    assert recorder.said() == []


async def test_each_is_acknowledged_once(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=INDIVIDUAL) as messages,
    ):
        first, second, third = await take(messages, 3)
        await client.ack(third)
        await client.nack(second)
        for message, acknowledge in ((third, client.ack), (third, client.nack), (second, client.ack)):
            with pytest.raises(LocalProtocolError, match=r"message 'm[23]' is acknowledged already"):
                await acknowledge(message)
        await client.ack(first)
    assert [headers["id"] for _, headers in recorder.said()] == ["a3", "a2", "a1"]


async def test_in_mode_client_one_is_about_all_that_came_before(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        first, second, third = await take(messages, 3)
        await client.ack(second)
        for message in (first, second):
            with pytest.raises(LocalProtocolError, match="acknowledged already, or one that came after it"):
                await client.nack(message)
        await client.nack(third)
    assert [headers["id"] for _, headers in recorder.said()] == ["a2", "a3"]


async def test_in_mode_client_another_subscription_is_not_concerned(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack="client") as one,
        client.subscribe("/queue/b", ack="client") as two,
    ):
        await client.ack((await take(one, 3))[2])
        await client.ack(await two.receive())
    assert len(recorder.said()) == 2


async def test_after_unsubscribing_there_is_nothing_to_acknowledge(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        async with client.subscribe("/queue/a", ack="client") as messages:
            message = await messages.receive()
        with pytest.raises(LocalProtocolError, match="subscription 's1', which there is not any more"):
            await client.ack(message)
    assert recorder.said() == []


async def test_another_clients_message_is_not_ours_to_acknowledge(at: At, autojump_clock: MockClock) -> None:
    async with (
        at.server.client() as ada,
        at.server.client() as eve,
        ada.subscribe("/queue/a", ack="client") as messages,
        eve.subscribe("/queue/b", ack="client"),
    ):
        await ada.send("/queue/a", "x")
        message = await messages.receive()
        with pytest.raises(LocalProtocolError, match="came on another connection"):
            await eve.ack(message)
        await ada.ack(message, receipt=True)


async def test_a_message_that_the_server_gave_no_ack_id_cannot_be_acknowledged(
    autojump_clock: MockClock,
) -> None:
    """Spring's simple broker takes no notice of ack modes."""

    async def script(server: Scripted) -> None:
        await server.welcome()
        await server.answer()
        await server.publish(b"1")
        assert (await server.frame()).command == "UNSUBSCRIBE"

    async with (
        coming_back(scripted(script), reconnect=None) as (client, _),
        client.subscribe("/topic/a", ack="client") as messages,
    ):
        with pytest.raises(LocalProtocolError, match="cannot be acknowledged: it has no 'ack' header"):
            await client.ack(await messages.receive())


@pytest.mark.parametrize("ack", ["client", INDIVIDUAL])
async def test_an_ack_that_was_cancelled_before_it_was_sent_can_be_had_again(
    ack: str, autojump_clock: MockClock
) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=ack) as messages,
    ):
        first, second, _ = await take(messages, 3)
        await client.ack(first)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.ack(second, receipt=True)
        assert scope.cancelled_caught
        with pytest.raises(LocalProtocolError):
            await client.ack(first)
        await client.ack(second)
    assert [headers["id"] for _, headers in recorder.said()] == ["a1", "a2"]


# With a server of ours: what comes again, and when.


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_what_was_acknowledged_does_not_come_again(
    version: str, at: At, autojump_clock: MockClock
) -> None:
    headers = {"accept-version": version}
    async with at.server.client(headers=headers) as ada:
        async with ada.subscribe("/queue/a", ack="client") as messages:
            for number in range(4):
                await ada.send("/queue/a", f"{number}")
            got = await take(messages, 4)
            await ada.ack(got[1], receipt=True)
        async with ada.subscribe("/queue/a") as messages:
            again = await take(messages, 2)
            assert [(message.text, message.redelivered) for message in again] == [("2", True), ("3", True)]
    assert at.server.statistics().metrics.protocol_errors == 0


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_what_is_given_back_comes_again_and_can_be_acknowledged(
    version: str, at: At, autojump_clock: MockClock
) -> None:
    headers = {"accept-version": version}
    async with (
        at.server.client(headers=headers) as ada,
        ada.subscribe("/queue/a", ack=INDIVIDUAL) as messages,
    ):
        for number in range(3):
            await ada.send("/queue/a", f"{number}")
        _, second, _ = await take(messages, 3)
        await ada.nack(second)
        again = await messages.receive()
        assert (again.text, again.redelivered) == ("1", True)
        with pytest.raises(LocalProtocolError):
            await ada.ack(second)
        await ada.ack(again, receipt=True)
    assert at.server.statistics().metrics.protocol_errors == 0


async def test_prefetch_is_how_many_come_unacknowledged(at: At, autojump_clock: MockClock) -> None:
    async with at.server.client() as ada, ada.subscribe("/queue/a", ack="client", prefetch=2) as messages:
        for number in range(5):
            await ada.send("/queue/a", f"{number}", receipt=True)
        _, second = await take(messages, 2)
        with trio.move_on_after(100) as scope:
            await messages.receive()
        assert scope.cancelled_caught
        await ada.ack(second)
        assert [message.text for message in await take(messages, 2)] == ["2", "3"]


async def test_a_large_prefetch_never_keeps_a_receipt_behind_what_nobody_reads(
    at: At, autojump_clock: MockClock
) -> None:
    config = attrs.evolve(SILENT, messages=2)
    async with (
        at.server.client() as ada,
        at.server.client(config=config) as client,
        client.subscribe("/queue/a", ack="client", prefetch=50) as messages,
    ):
        for number in range(50):
            await ada.send("/queue/a", f"{number}", receipt=True)
        first = await messages.receive()
        await client.ack(first, receipt=True)


# What a loss means.


async def test_after_a_loss_the_old_message_is_void_and_comes_again(
    at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/queue/a", ack="client") as messages:
        await client.send("/queue/a", "x", receipt=True)
        old = await messages.receive()
        await at.cut()
        before = trio.current_time()
        with pytest.raises(LocalProtocolError, match="came on another connection"):
            await client.ack(old)
        assert trio.current_time() == before  # nothing to wait for
        await until_connected(client, 2)
        with pytest.raises(LocalProtocolError, match="came on another connection"):
            await client.ack(old)
        new = await messages.receive()
        assert (new.text, new.redelivered) == ("x", True)
        await client.ack(new, receipt=True)
        assert at.server.statistics().metrics.protocol_errors == 0


async def test_what_nobody_had_read_before_a_loss_is_had_once(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/queue/a", ack=INDIVIDUAL) as messages:
        for number in range(3):
            await client.send("/queue/a", f"{number}", receipt=True)
        await client.ack(await messages.receive(), receipt=True)
        await at.cut()
        await client.send("/queue/a", "3", receipt=True)
        got = await take(messages, 3)
        assert [(message.text, message.redelivered) for message in got] == [
            ("1", True),
            ("2", True),
            ("3", False),
        ]
        for message in got:
            await client.ack(message, receipt=True)


async def test_a_full_subscription_does_not_hold_up_what_comes_again(
    at: At, autojump_clock: MockClock
) -> None:
    """The reader waits for room in it when the writer finds the connection lost."""
    small = attrs.evolve(SILENT, messages=2)
    async with (
        at.server.client() as ada,
        coming_back(at, config=small) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        for number in range(5):
            await ada.send("/queue/a", f"{number}", receipt=True)
        await wait_all_tasks_blocked()
        at.gates[0].shut()
        await client.send("/topic/b", "the writer takes it, and the write times out")
        await until_connected(client, 2)
        with trio.fail_after(100):
            assert [message.text for message in await take(messages, 5)] == ["0", "1", "2", "3", "4"]


async def test_without_reconnect_an_ack_after_the_end_says_why_it_ended(
    at: At, autojump_clock: MockClock
) -> None:
    async with (
        coming_back(at, reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        await client.send("/queue/a", "x", receipt=True)
        message = await messages.receive()
        await at.cut()
        with pytest.raises(ConnectionLost, match="ABNORMAL"):
            await client.ack(message)


@pytest.mark.parametrize("reconnect", [HALF, None])
async def test_an_ack_whose_receipt_is_lost_is_not_known(
    reconnect: Reconnect | None, autojump_clock: MockClock
) -> None:
    recorder = Recorder(until="ACK")
    async with (
        coming_back(scripted(recorder), scripted(Recorder()), reconnect=reconnect) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        message = await messages.receive()
        with pytest.raises(ConnectionLost, match="before the RECEIPT, whether it was done is not known"):
            await client.ack(message, receipt=True)


async def test_an_ack_that_was_not_written_before_the_loss_was_not_sent(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with (
        coming_back(at, reconnect=FAILING) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        await client.send("/queue/a", "x", receipt=True)
        message = await messages.receive()
        at.gates[0].shut()
        await client.send("/topic/b", "in the writer's hands")
        nursery.start_soon(at.cut_soon)
        with pytest.raises(LocalProtocolError, match="came on another connection"):
            await client.ack(message)


async def test_an_ack_that_the_server_refuses_is_its_error(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome()
        await server.answer()
        await server.publish(b"1", ack="a1")
        await server.refuse("never heard of it")

    async with (
        coming_back(scripted(script), scripted(Recorder())) as (client, _),
        client.subscribe("/topic/a", ack="client") as messages,
    ):
        with pytest.raises(ServerError, match="never heard of it"):
            await client.ack(await messages.receive(), receipt=True)


# The ledger, where transactions overlap.


def arrivals(ledger: Ledger, count: int) -> list[Arrival]:
    return [ledger.enter(Frame("MESSAGE", {"message-id": f"m{number}"}), "here") for number in range(count)]


def is_free(ledger: Ledger, arrival: Arrival) -> bool:
    """Whether it could be acknowledged; changes nothing."""
    try:
        with ledger.settling(arrival, None):
            raise KeyError
    except KeyError:
        return True
    except LocalProtocolError:
        return False


def settle(ledger: Ledger, arrival: Arrival, transaction: str | None) -> None:
    with ledger.settling(arrival, transaction):
        pass


@pytest.mark.parametrize(
    ("ended", "free"),
    [
        ("", "00001"),
        ("+a", "00001"),
        ("-a", "00001"),
        ("+a -b", "00111"),
        ("-a +b", "00001"),
        ("-b -a", "11111"),
        ("-b +a", "00111"),
        ("+b -a", "00001"),
    ],
)
def test_in_mode_client_two_transactions_reach_as_far_as_the_farthest_that_was_not_aborted(
    ended: str, free: str
) -> None:
    ledger = Ledger(is_cumulative=True)
    got = arrivals(ledger, 5)
    settle(ledger, got[1], "a")
    settle(ledger, got[3], "b")
    for end in ended.split():
        (ledger.commit if end[0] == "+" else ledger.abort)(end[1])
    assert "".join("01"[is_free(ledger, arrival)] for arrival in got) == free


@pytest.mark.parametrize(("ended", "free"), [("", "1001"), ("+a", "1001"), ("-a", "1101"), ("-b", "1011")])
def test_one_by_one_each_transaction_has_its_own(ended: str, free: str) -> None:
    ledger = Ledger(is_cumulative=False)
    got = arrivals(ledger, 4)
    settle(ledger, got[1], "a")
    settle(ledger, got[2], "b")
    for end in ended.split():
        (ledger.commit if end[0] == "+" else ledger.abort)(end[1])
    assert "".join("01"[is_free(ledger, arrival)] for arrival in got) == free


@pytest.mark.parametrize("is_cumulative", [True, False])
def test_what_fails_while_it_is_settled_in_a_transaction_is_not(is_cumulative: bool) -> None:
    ledger = Ledger(is_cumulative=is_cumulative)
    first, second = arrivals(ledger, 2)
    settle(ledger, first, "a")
    with pytest.raises(KeyError), ledger.settling(second, "a"):
        raise KeyError
    assert (is_free(ledger, first), is_free(ledger, second)) == (False, True)
    ledger.abort("a")
    assert is_free(ledger, first)


@pytest.mark.parametrize("is_cumulative", [True, False])
def test_what_fails_after_its_transaction_was_aborted_is_free_as_all_of_it(is_cumulative: bool) -> None:
    ledger = Ledger(is_cumulative=is_cumulative)
    first, second = arrivals(ledger, 2)
    settle(ledger, first, "a")
    with pytest.raises(RuntimeError), ledger.settling(second, "a"):  # noqa: PT012
        ledger.abort("a")
        raise RuntimeError
    assert is_free(ledger, first)
    assert is_free(ledger, second)
