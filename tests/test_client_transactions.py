"""Transactions of the client: as a whole or not at all, and never twice."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import pytest
import trio
from peer import Gate, without_heart_beats
from returning import FAILING, HALF, At, Recorder, Scripted, Target, coming_back, scripted, until_connected
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import (
    Client,
    ConnectionLost,
    LocalProtocolError,
    ReceiptTimeout,
    ReceivedMessage,
    ServerError,
    StompApp,
    Transaction,
)
from trio_stomp.testing import open_test_server

QUIET = without_heart_beats()
INDIVIDUAL = "client-individual"


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """A server to come back to."""
    async with open_test_server(None, QUIET) as server:
        yield At(server)


async def test_all_of_it_goes_out_between_begin_and_commit(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=INDIVIDUAL) as messages,
    ):
        async with client.transaction() as transaction:
            await transaction.send("/queue/b", "hi", headers={"x": "y"})
            await transaction.ack(await messages.receive())
            await transaction.nack(await messages.receive(), receipt=True)
            await client.ack(await messages.receive(), transaction=transaction)
        assert recorder.commands[-1] == "COMMIT"
    text = "text/plain;charset=utf-8"
    sent = {"destination": "/queue/b", "content-type": text, "x": "y", "content-length": "2"}
    assert recorder.said() == [
        ("BEGIN", {"transaction": "t1"}),
        ("SEND", {**sent, "transaction": "t1"}),
        ("ACK", {"id": "a1", "transaction": "t1"}),
        ("NACK", {"id": "a2", "transaction": "t1"}),
        ("ACK", {"id": "a3", "transaction": "t1"}),
        ("COMMIT", {"transaction": "t1"}),
    ]


async def test_leaving_waits_for_the_commits_receipt(autojump_clock: MockClock) -> None:
    recorder = Recorder(mute=["COMMIT"])
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        before = trio.current_time()
        with pytest.raises(ReceiptTimeout):
            async with client.transaction():
                pass
        assert trio.current_time() - before == 10
    assert recorder.commands == ["BEGIN", "COMMIT", "DISCONNECT"]  # what is committed is not aborted


async def test_an_exception_aborts_it_and_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async def work(client: Client) -> None:
        async with client.transaction() as transaction:
            await transaction.send("/queue/b", "hi")
            raise KeyError("mine")

    recorder = Recorder()
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        with pytest.raises(KeyError, match="mine"):
            await work(client)
        await client.send("/queue/b")
    assert recorder.commands == ["BEGIN", "SEND", "ABORT", "SEND", "DISCONNECT"]


async def test_cancelling_aborts_it(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        with trio.move_on_after(1) as scope:
            async with client.transaction():
                await trio.sleep_forever()
        assert scope.cancelled_caught
    assert recorder.said()[-1] == ("ABORT", {"transaction": "t1"})


async def test_cancelling_while_it_is_committed_does_not_abort_what_was_sent(
    autojump_clock: MockClock,
) -> None:
    recorder = Recorder(mute=["COMMIT"])
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        with trio.move_on_after(1) as scope:
            async with client.transaction():
                pass
        assert scope.cancelled_caught
        await client.send("/queue/b")
    assert recorder.commands == ["BEGIN", "COMMIT", "SEND", "DISCONNECT"]


def gated(recorder: Recorder, gates: list[Gate]) -> Target:
    """A server behind a gate for what the client writes."""

    async def target(nursery: trio.Nursery) -> trio.abc.Stream:
        gates.append(Gate(await scripted(recorder)(nursery)))
        return gates[-1]

    return target


async def test_a_commit_that_was_cancelled_before_it_was_sent_is_an_abort(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    recorder, gates = Recorder(), list[Gate]()
    async with coming_back(gated(recorder, gates), reconnect=None) as (client, _):
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await wait_all_tasks_blocked()
                scope.cancel()
                await wait_all_tasks_blocked()
                gates[0].open()

            async with client.transaction():
                await wait_all_tasks_blocked()
                gates[0].shut()
                await client.send("/topic/a", "in the writer's hands")
                nursery.start_soon(cancel)
        assert scope.cancelled_caught
    assert recorder.commands == ["BEGIN", "SEND", "ABORT", "DISCONNECT"]


async def test_aborting_takes_the_close_timeout_at_most(autojump_clock: MockClock) -> None:
    gates: list[Gate] = []

    async def work(client: Client) -> None:
        async with client.transaction():
            await wait_all_tasks_blocked()
            gates[0].shut()
            await client.send("/topic/a", "in the writer's hands")
            raise KeyError

    async with coming_back(gated(Recorder(), gates), reconnect=None) as (client, _):
        before = trio.current_time()
        with pytest.raises(KeyError):
            await work(client)
        assert trio.current_time() - before == 5
        gates[0].open()


async def test_a_loss_while_it_is_aborted_does_not_hide_why_it_is(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def work(client: Client) -> None:
        async with client.transaction():
            await wait_all_tasks_blocked()
            at.gates[0].shut()
            await client.send("/topic/a", "in the writer's hands")
            nursery.start_soon(at.cut_soon)
            raise KeyError("mine")

    async with coming_back(at) as (client, _):
        with pytest.raises(KeyError, match="mine"):
            await work(client)


@pytest.mark.parametrize("ack", ["client", INDIVIDUAL])
async def test_nothing_is_kept_of_those_that_have_ended(ack: str, autojump_clock: MockClock) -> None:
    async with (
        coming_back(scripted(Recorder(count=20)), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=ack) as messages,
    ):
        for number in range(20):
            with contextlib.suppress(KeyError):
                async with client.transaction() as transaction:
                    await transaction.ack(await messages.receive())
                    if number % 2:
                        raise KeyError
        ledger = messages._feed._ledger
        assert ledger._held == {}
        assert set(ledger._up_to) <= {None}


async def test_a_begin_that_was_cancelled_before_it_was_sent_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    recorder = Recorder()
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with client.transaction():
                raise AssertionError("not reached")
        assert client._connection.protocol.transactions == set()
    assert recorder.commands == ["DISCONNECT"]


async def test_two_at_once_are_told_apart(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.transaction() as one,
        client.transaction() as two,
    ):
        await two.send("/queue/two")
        await one.send("/queue/one")
    assert one.name != two.name
    sends = [headers for command, headers in recorder.said() if command == "SEND"]
    assert [(headers["destination"], headers["transaction"]) for headers in sends] == [
        ("/queue/two", two.name),
        ("/queue/one", one.name),
    ]


# What is refused, and not sent.


async def test_after_its_end_nothing_can_be_done_with_it(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=INDIVIDUAL) as messages,
    ):
        message = await messages.receive()
        async with client.transaction() as transaction:
            pass
        with pytest.raises(LocalProtocolError, match="there is no transaction 't1'"):
            await transaction.send("/queue/b", "hi")
        with pytest.raises(LocalProtocolError, match="there is no transaction 't1'"):
            await transaction.ack(message)
        await client.ack(message)
    assert [command for command, _ in recorder.said()] == ["BEGIN", "COMMIT", "ACK"]


@pytest.mark.parametrize("ack", ["client", INDIVIDUAL])
async def test_what_it_acknowledges_is_acknowledged_unless_it_is_aborted(
    ack: str, autojump_clock: MockClock
) -> None:
    async def fail(client: Client, message: ReceivedMessage) -> None:
        async with client.transaction() as transaction:
            await transaction.ack(message)
            with pytest.raises(LocalProtocolError, match="acknowledged already"):
                await client.ack(message)
            raise KeyError

    recorder = Recorder()
    async with (
        coming_back(scripted(recorder), reconnect=None) as (client, _),
        client.subscribe("/queue/a", ack=ack) as messages,
    ):
        message = await messages.receive()
        with pytest.raises(KeyError):
            await fail(client, message)
        async with client.transaction() as transaction:
            await transaction.ack(message)
        with pytest.raises(LocalProtocolError, match="acknowledged already"):
            await client.ack(message)
    assert [command for command, _ in recorder.said()] == ["BEGIN", "ACK", "ABORT", "BEGIN", "ACK", "COMMIT"]


async def test_it_is_aborted_when_a_subscription_that_it_acknowledges_has_ended(
    autojump_clock: MockClock,
) -> None:
    """The server has given the messages back by then, and would end the connection at COMMIT."""

    async def work(client: Client) -> None:
        async with (
            client.transaction() as transaction,
            client.subscribe("/queue/a", ack="client") as messages,
        ):
            await transaction.ack(await messages.receive())

    recorder = Recorder()
    async with coming_back(scripted(recorder), reconnect=None) as (client, _):
        with pytest.raises(LocalProtocolError, match="messages of subscription 's1', which has ended"):
            await work(client)
    assert [command for command, _ in recorder.said()] == ["BEGIN", "ACK", "ABORT"]


async def test_another_clients_message_is_not_for_ours(at: At, autojump_clock: MockClock) -> None:
    async with (
        at.server.client() as ada,
        at.server.client() as eve,
        ada.subscribe("/queue/a", ack="client") as messages,
    ):
        await ada.send("/queue/a", "x")
        message = await messages.receive()
        async with eve.transaction() as transaction:
            with pytest.raises(LocalProtocolError, match="came on another connection"):
                await ada.ack(message, transaction=transaction)
        await ada.ack(message, receipt=True)


# With a server of ours.


async def test_nobody_sees_any_of_it_before_its_end_and_then_all_in_order(
    at: At, autojump_clock: MockClock
) -> None:
    async with (
        at.server.client() as ada,
        at.server.client() as eve,
        eve.subscribe("/queue/b") as messages,
    ):
        async with ada.transaction() as transaction:
            for number in range(3):
                await transaction.send("/queue/b", f"{number}")
            await ada.send("/queue/b", "outside", receipt=True)
            await wait_all_tasks_blocked()
        await ada.send("/queue/b", "after")
        assert [(await messages.receive()).text for _ in range(5)] == ["outside", "0", "1", "2", "after"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_a_job_and_its_result_change_places_as_a_whole(
    version: str, at: At, autojump_clock: MockClock
) -> None:
    async with at.server.client(headers={"accept-version": version}) as worker:
        await worker.send("/queue/jobs", "job")

        async def work(*, fails: bool) -> bool:
            async with (
                worker.subscribe("/queue/jobs", ack="client") as jobs,
                worker.transaction() as transaction,
            ):
                job = await jobs.receive()
                await transaction.send("/queue/results", job.text + " done")
                await transaction.ack(job)
                if fails:
                    raise KeyError
            return bool(job.redelivered)

        with pytest.raises(KeyError):
            await work(fails=True)
        assert await work(fails=False)
        async with worker.subscribe("/queue/results") as results:
            assert (await results.receive()).text == "job done"
        statistics = at.server.statistics()
        assert statistics.metrics.transactions_aborted == 1
        assert statistics.metrics.protocol_errors == 0


async def test_a_frame_that_the_server_refuses_is_its_error(autojump_clock: MockClock) -> None:
    async def work(client: Client) -> None:
        async with client.transaction() as transaction:
            await transaction.send("/topic/secret", "x")
            await wait_all_tasks_blocked()
            await transaction.send("/topic/secret", "y")

    async with open_test_server(StompApp(), QUIET) as server, coming_back(At(server)) as (client, _):
        with pytest.raises(ServerError, match="no access to send"):
            await work(client)


async def test_an_ack_that_waits_while_the_server_refuses_is_told_its_error(
    autojump_clock: MockClock,
) -> None:
    """Whatever the ERROR was about: without the connection there is no transaction."""

    async def script(server: Scripted) -> None:
        await server.welcome()
        await server.answer()
        await server.publish(b"1", ack="a1")
        for _ in range(3):
            await server.frame()
        await server.say("ERROR", message="go away", receipt_id="another")

    async with (
        coming_back(scripted(script), scripted(Recorder())) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        message = await messages.receive()

        async def work() -> None:
            async with client.transaction() as transaction:
                await transaction.send("/queue/b", "x")
                await transaction.ack(message, receipt=True)

        with pytest.raises(ServerError, match="go away"):
            await work()


async def test_a_commit_that_the_server_refuses_is_its_error(at: At, autojump_clock: MockClock) -> None:
    async with (
        coming_back(at) as (client, _),
        client.subscribe("/queue/a", ack="client") as messages,
    ):
        for number in range(2):
            await client.send("/queue/a", f"{number}")
        first, second = [await messages.receive() for _ in range(2)]

        async def work() -> None:
            async with client.transaction() as transaction:
                await transaction.ack(first)
                await client.ack(second)  # which is about the first one too

        with pytest.raises(ServerError, match="no unacknowledged message"):
            await work()


# What a loss means.


async def use(transaction: Transaction) -> None:
    await transaction.send("/queue/b", "again")


async def do_nothing(transaction: Transaction) -> None:
    pass


@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.parametrize("then", [use, do_nothing])
async def test_a_loss_is_the_end_of_it_and_nothing_is_repeated(
    then: Callable[[Transaction], Awaitable[None]], comes_back: bool, at: At, autojump_clock: MockClock
) -> None:
    recorder = Recorder(until="SEND")
    options = {} if comes_back else {"reconnect": None}

    async def work(client: Client) -> None:
        async with client.transaction() as transaction:
            await transaction.send("/queue/b", "x")
            if comes_back:
                await until_connected(client, 2)
            else:
                await wait_all_tasks_blocked()
            await then(transaction)

    async with coming_back(scripted(recorder), at, **options) as (client, _):
        text = "transaction 't1' is lost with its connection, nothing of it was done"
        with pytest.raises(ConnectionLost, match=text):
            await work(client)
        if comes_back:
            await client.send("/topic/a", receipt=True)
    metrics = at.server.statistics().metrics
    assert (metrics.messages_queued, metrics.transactions_aborted, metrics.protocol_errors) == (0, 0, 0)


async def test_what_a_lost_connection_had_given_is_void_within_a_new_transaction(
    at: At, autojump_clock: MockClock
) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/queue/a", ack="client") as messages:
        await client.send("/queue/a", "x", receipt=True)
        old = await messages.receive()
        await at.cut()
        async with client.transaction() as transaction:
            with pytest.raises(LocalProtocolError, match="came on another connection"):
                await transaction.ack(old)
            await transaction.ack(await messages.receive())
    assert at.server.statistics().metrics.protocol_errors == 0


async def test_without_reconnect_too_a_commit_whose_receipt_is_lost_is_not_known(
    autojump_clock: MockClock,
) -> None:
    async with coming_back(scripted(Recorder(until="COMMIT")), reconnect=None) as (client, _):
        with pytest.raises(ConnectionLost, match="before the RECEIPT, whether it was done is not known"):
            async with client.transaction():
                pass


async def test_a_commit_whose_receipt_is_lost_is_not_known_and_not_repeated(
    autojump_clock: MockClock,
) -> None:
    recorder, second = Recorder(until="COMMIT"), Recorder()
    async with coming_back(scripted(recorder), scripted(second)) as (client, _):
        with pytest.raises(ConnectionLost, match="before the RECEIPT, whether it was done is not known"):
            async with client.transaction() as transaction:
                await transaction.send("/queue/b", "x")
        await client.send("/topic/a", receipt=True)
    assert second.commands == ["SEND", "DISCONNECT"]


@pytest.mark.parametrize("ack", ["client", INDIVIDUAL])
async def test_each_job_has_one_result_whatever_is_cut(ack: str, at: At, autojump_clock: MockClock) -> None:
    """Workers whose connections are lost all the time, in the middle of whatever they do."""
    chance, jobs = random.Random(7), 60
    begun = done = 0

    async def work(client: Client) -> None:
        nonlocal begun, done
        async with client.subscribe("/queue/jobs", ack=ack, prefetch=5) as messages:
            async for job in messages:
                with contextlib.suppress(LocalProtocolError, ConnectionLost):
                    begun += 1
                    async with client.transaction() as transaction:
                        await trio.sleep(chance.random() / 10)
                        await transaction.ack(job)
                        await trio.sleep(chance.random() / 10)
                        await transaction.send("/queue/results", job.text)
                        await trio.sleep(chance.random() / 10)
                    done += 1

    async def cut() -> None:
        while done < jobs:
            await trio.sleep(chance.random() / 10)
            await at.cut(chance.choice((-1, -2, -3)))

    quick = attrs.evolve(HALF, initial=0.1, maximum=0.2)
    async with (
        at.server.client() as boss,
        boss.subscribe("/queue/results") as results,
        coming_back(at, reconnect=quick) as (ada, _),
        coming_back(at, reconnect=quick) as (eve, _),
        trio.open_nursery() as nursery,
    ):
        for number in range(jobs):
            await boss.send("/queue/jobs", f"{number}", receipt=True)
        nursery.start_soon(work, ada)
        nursery.start_soon(work, eve)
        nursery.start_soon(cut)
        with trio.fail_after(300):
            got = [(await results.receive()).text for _ in range(jobs)]
        with trio.move_on_after(10):
            got.append((await results.receive()).text)
        nursery.cancel_scope.cancel()
    assert sorted(got, key=int) == [f"{number}" for number in range(jobs)]
    assert begun > jobs * 1.2
    assert at.server.statistics().metrics.protocol_errors == 0


async def test_beginning_waits_for_a_connection(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at) as (client, _), client.subscribe("/queue/b") as messages:
        await at.cut()
        async with client.transaction() as transaction:
            await transaction.send("/queue/b", "x")
        assert (await messages.receive()).text == "x"


async def test_beginning_fails_when_sends_do(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, reconnect=FAILING) as (client, _):
        await at.cut()
        with pytest.raises(ConnectionLost, match="not connected, nothing was sent"):
            async with client.transaction():
                raise AssertionError("not reached")


async def test_who_is_cancelled_with_the_connection_is_not_told_that_it_was_lost(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with coming_back(at, reconnect=None) as (client, _):
        scope = trio.CancelScope()

        async def work(client: Client) -> None:
            with scope:
                async with client.transaction():
                    await trio.sleep_forever()

        nursery.start_soon(work, client)
        await wait_all_tasks_blocked()
        client._connection._end(ConnectionLost("gone"))
        scope.cancel()
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught
