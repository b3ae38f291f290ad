"""Acknowledgements and transactions as a session sees them: what is answered when, and what is refused."""

from __future__ import annotations

import json
import math

import pytest
import trio
from peer import Peer, open_peer, stomp
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import BrokerConfig, Message, ServerConfig, StompApp, StompConfig
from trio_stomp.stomp.frames import Version
from trio_stomp.testing import TestServer, open_test_server

STOMP = {"heart_beat_send": 0.0, "heart_beat_receive": 0.0}
QUIET = ServerConfig(stomp=StompConfig(**STOMP))


def small(**limits: float) -> ServerConfig:
    return ServerConfig(stomp=StompConfig(**STOMP | limits))  # type: ignore[arg-type]


async def receipts(peer: Peer, *frames: bytes) -> list[str]:
    """Send all at once; the ids of the RECEIPTs that come, until none is due any more."""
    await peer.send(*frames, stomp("SEND", destination="/topic/nobody", receipt="last"))
    found = []
    while (frame := await peer.frame()).headers.get("receipt-id") != "last":
        found.append(frame.headers.get("receipt-id", frame.command))
    return found


async def refusal(peer: Peer, *frames: bytes) -> str:
    """What the server says before it closes."""
    await peer.send(*frames)
    *_, error = await peer.to_end()
    assert error.command == "ERROR"
    return error.headers["message"]


async def delivered(server: TestServer, *destinations: str) -> Peer:
    listener = await open_peer(server)
    for number, destination in enumerate(destinations):
        await listener.subscribe(destination, str(number))
    return listener


async def test_each_frame_of_a_transaction_is_confirmed_when_it_is_taken(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        listener, peer = await delivered(server, "/topic/a"), await open_peer(server)
        send = stomp("SEND", b"held", destination="/topic/a", transaction="t", receipt="send")
        assert await receipts(peer, stomp("BEGIN", transaction="t", receipt="begin"), send) == [
            "begin",
            "send",
        ]
        await peer.say("SEND", b"first", destination="/topic/a")
        assert await receipts(peer, stomp("COMMIT", transaction="t", receipt="commit")) == ["commit"]
        first, held = await listener.frame(), await listener.frame()
        assert (first.body, held.body) == (b"first", b"held")
        assert not {"transaction", "receipt"} & held.headers.keys()


@pytest.mark.parametrize("end", ["abort", "disconnect", "lost"])
async def test_what_is_not_committed_has_no_effect(end: str, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        listener = await delivered(server, "/topic/a", "/queue/q")
        peer = await open_peer(server)
        await peer.send(
            stomp("BEGIN", transaction="t"),
            stomp("SEND", destination="/topic/a", transaction="t"),
            stomp("SEND", destination="/queue/q", transaction="t"),
        )
        if end == "abort":
            assert await receipts(peer, stomp("ABORT", transaction="t", receipt="abort")) == ["abort"]
        elif end == "disconnect":
            await peer.say("DISCONNECT", receipt="bye")
            assert [frame.command for frame in await peer.to_end()] == ["RECEIPT"]
        else:
            await peer.wire.stream.aclose()
        await wait_all_tasks_blocked()
        assert await receipts(listener) == []
        assert server.statistics().metrics.transactions_aborted == 1


async def test_a_transaction_name_can_be_used_again(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        begin, abort = stomp("BEGIN", transaction="t"), stomp("ABORT", transaction="t")
        assert await receipts(peer, begin, abort, begin, stomp("COMMIT", transaction="t", receipt="c")) == [
            "c"
        ]
        assert "begun already" in await refusal(peer, begin, begin)


async def test_an_ack_in_a_transaction_counts_at_its_commit(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.send(stomp("SUBSCRIBE", id="1", destination="/queue/q", ack="client-individual"))
        await peer.say("SEND", destination="/queue/q")
        ack = (await peer.frame()).headers["ack"]
        in_it = stomp("ACK", id=ack, transaction="t", receipt="ack")
        assert await receipts(peer, stomp("BEGIN", transaction="t"), in_it) == ["ack"]
        assert server.statistics().metrics.messages_unacked == 1
        assert await receipts(peer, stomp("ABORT", transaction="t"), stomp("BEGIN", transaction="u")) == []
        assert server.statistics().metrics.messages_unacked == 1
        in_it = stomp("ACK", id=ack, transaction="u")
        assert await receipts(peer, in_it, stomp("COMMIT", transaction="u", receipt="commit")) == ["commit"]
        assert server.statistics().metrics.messages_unacked == 0


@pytest.mark.parametrize("version", [Version.V1_0, Version.V1_1])
async def test_before_1_2_the_message_is_named(version: Version, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server, version)
        await peer.say("SUBSCRIBE", id="1", destination="/queue/q", ack="client")
        await peer.say("SEND", destination="/queue/q")
        message = await peer.frame()
        assert "ack" not in message.headers
        named = {"message_id": message.headers["message-id"]}
        if version is Version.V1_1:
            named["subscription"] = "1"
        await peer.say("ACK", receipt="a", **named)
        assert (await peer.frame()).headers == {"receipt-id": "a"}
        assert server.statistics().metrics.messages_unacked == 0


async def test_a_second_ack_in_one_read_is_refused_behind_the_first(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.send(stomp("SUBSCRIBE", id="1", destination="/queue/q", ack="client"))
        await peer.say("SEND", destination="/queue/q")
        ack = stomp("ACK", id=(await peer.frame()).headers["ack"], receipt="a")
        await peer.send(ack, ack)
        receipt, error = await peer.to_end()
        assert (receipt.command, error.command) == ("RECEIPT", "ERROR")
        assert error.headers["receipt-id"] == "a"
        assert peer.close_code == 1002


@pytest.mark.parametrize(
    ("limit", "frames", "text"),
    [
        (
            "transactions",
            [stomp("BEGIN", transaction=name) for name in "ab"],
            "more than 1 open transactions",
        ),
        (
            "transaction_frames",
            [stomp("BEGIN", transaction="a"), *[stomp("SEND", destination="/topic/a", transaction="a")] * 2],
            "more than 1 frames in a transaction",
        ),
        (
            "transaction_bytes",
            [stomp("BEGIN", transaction="a"), stomp("SEND", b"xx", destination="/topic/a", transaction="a")],
            "more than 1 bytes in open transactions",
        ),
    ],
    ids=["transactions", "frames", "bytes"],
)
async def test_a_transaction_is_bounded(
    limit: str, frames: list[bytes], text: str, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, small(**{limit: 1})) as server:
        peer = await open_peer(server)
        assert text in await refusal(peer, *frames)
        assert peer.close_code == 1008
        assert server.statistics().metrics.limit_hits[f"stomp.{limit}"] == 1


async def test_open_transactions_are_bounded_in_bytes_together(autojump_clock: MockClock) -> None:
    frames = [
        frame
        for name in "abc"
        for frame in (
            stomp("BEGIN", transaction=name),
            stomp("SEND", b"x" * 400, destination="/topic/a", transaction=name),
        )
    ]
    async with open_test_server(None, small(transaction_bytes=1000)) as server:
        peer = await open_peer(server)
        await peer.send(*frames[:4], stomp("ABORT", transaction="a"), *frames[4:])
        assert await refusal(peer, *frames[:2]) == "more than 1000 bytes in open transactions"


async def test_a_handler_cannot_be_part_of_a_transaction(autojump_clock: MockClock) -> None:
    app, called = StompApp(), []

    @app.on_message("/app/do")
    async def do(message: Message) -> None:
        called.append(message)

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        send = stomp("SEND", destination="/app/do", transaction="t")
        assert "cannot be in a transaction" in await refusal(peer, stomp("BEGIN", transaction="t"), send)
        assert not called


async def test_a_commit_that_has_no_room_ends_the_session_and_nothing_else(autojump_clock: MockClock) -> None:
    config = ServerConfig(stomp=StompConfig(**STOMP), broker=BrokerConfig(queue_messages=1))  # type: ignore[arg-type]
    async with open_test_server(None, config) as server:
        listener, peer = await delivered(server, "/topic/a"), await open_peer(server)
        send = stomp("SEND", destination="/queue/q", transaction="t")
        first = stomp("SEND", b"no", destination="/topic/a", transaction="t")
        commit = stomp("COMMIT", transaction="t", receipt="c")
        assert "holds 1 messages" in await refusal(
            peer, stomp("BEGIN", transaction="t"), first, send, send, commit
        )
        assert await receipts(listener) == []


async def test_a_full_queue_is_told_on_the_error_queue_and_the_session_goes_on(
    autojump_clock: MockClock,
) -> None:
    config = ServerConfig(stomp=StompConfig(**STOMP), broker=BrokerConfig(queue_messages=1))  # type: ignore[arg-type]
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        await peer.subscribe("/user/queue/errors")
        send = stomp("SEND", destination="/queue/q", receipt="r")
        assert await receipts(peer, send) == ["r"]
        await peer.send(send)
        told = await peer.frame()
        problem = json.loads(told.body)
        assert (problem["code"], problem["destination"]) == ("overloaded", "/queue/q")
        assert told.headers["receipt-id"] == "r"
        assert told.headers["correlation-id"] == problem["correlation_id"]
        assert await receipts(peer) == []


async def test_a_full_queue_ends_who_could_not_be_told_otherwise(autojump_clock: MockClock) -> None:
    config = ServerConfig(stomp=StompConfig(**STOMP), broker=BrokerConfig(queue_messages=1))  # type: ignore[arg-type]
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        assert "holds 1 messages" in await refusal(peer, *[stomp("SEND", destination="/queue/q")] * 2)
        assert peer.close_code == 1008


@pytest.mark.parametrize(("asked", "given"), [("2", 2), ("0", 3), ("9", 3), (None, 1)])
async def test_prefetch_count_is_what_was_asked_for_within_the_limit(
    asked: str | None, given: int, autojump_clock: MockClock
) -> None:
    broker = BrokerConfig(prefetch=1, prefetch_max=3)
    async with open_test_server(None, ServerConfig(stomp=StompConfig(**STOMP), broker=broker)) as server:  # type: ignore[arg-type]
        peer = await open_peer(server)
        more = {} if asked is None else {"prefetch_count": asked}
        await peer.say("SUBSCRIBE", id="1", destination="/queue/q", ack="client", **more)
        assert await receipts(peer, *[stomp("SEND", destination="/queue/q")] * 5) == ["MESSAGE"] * given
        assert server.statistics().metrics.limit_hits["broker.prefetch_max"] == (asked in ("0", "9"))


async def test_a_slow_reader_gets_a_queue_at_its_own_speed(autojump_clock: MockClock) -> None:
    """Ten times what its outbox holds waits for it; nothing overflows, nothing is lost."""
    async with open_test_server(None, QUIET) as server:
        peer, count = await open_peer(server), 80
        body = b"x" * 64 * 1024
        for _ in range(count):
            await peer.say("SEND", body, destination="/queue/q")
        with trio.fail_after(math.inf):
            await peer.say("SUBSCRIBE", id="1", destination="/queue/q")
            for _ in range(count):
                assert (await peer.frame()).body == body
        assert server.statistics().metrics.outbox_overflows == 0
