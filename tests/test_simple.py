"""The broker: who gets what, in which order, and what becomes of those that do not keep up."""

from __future__ import annotations

import logging

import pytest
import trio
from brokering import do, publish, running, session, subscribe
from peer import Peer, gated_peer, open_peer, stomp, without_heart_beats
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp.broker.commands import (
    Answer,
    Detach,
    Publish,
    PublishToUser,
    Reply,
    Unsubscribe,
)
from trio_stomp.config import BrokerConfig, OutboxConfig
from trio_stomp.stomp.frames import Version
from trio_stomp.testing import open_test_server

# Who gets what.


@pytest.mark.parametrize(
    ("pattern", "destination", "is_hit"),
    [
        ("/topic/a", "/topic/a", True),
        ("/topic/a", "/topic/ab", False),
        ("/topic/a", "/topic/a/b", False),
        ("/topic/*", "/topic/a", True),
        ("/topic/*", "/topic/a/b", False),
        ("/topic/*/b", "/topic/a/b", True),
        ("/topic/**", "/topic/a/b", True),
        ("/topic/**", "/topic", False),
    ],
)
async def test_a_subscription_gets_what_its_destination_says(
    pattern: str, destination: str, is_hit: bool
) -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, pattern), publish(destination))
        assert who.bodies() == ([b"x"] if is_hit else [])


async def test_every_subscriber_gets_the_messages_in_order_of_publishing() -> None:
    everybody = [session(f"s{number}") for number in range(5)]
    async with running() as broker:
        await do(broker, *(subscribe(who, "/topic/a") for who in everybody))
        await do(broker, *(publish("/topic/a", b"%d" % number) for number in range(200)))
        for who in everybody:
            assert who.bodies() == [b"%d" % number for number in range(200)]


async def test_each_subscription_of_a_session_is_served() -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, "/topic/a", "1"), subscribe(who, "/topic/*", "2"))
        await do(broker, subscribe(who, "/topic/a", "3"), publish("/topic/a"))
        assert {frame.headers["subscription"] for frame in who.frames()} == {"1", "2", "3"}


async def test_message_ids_are_never_the_same() -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, "/topic/a"), *(publish("/topic/a") for _ in range(20)))
        assert len({frame.headers["message-id"] for frame in who.frames()}) == 20


async def test_nobody_gets_what_was_published_before_subscribing() -> None:
    who = session()
    async with running() as broker:
        await do(broker, publish("/topic/a"), subscribe(who, "/topic/a"))
        assert who.frames() == []


async def test_the_destination_is_where_it_was_sent_also_under_a_pattern() -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, "/topic/**"), publish("/topic/a/b"))
        assert who.frames()[0].headers["destination"] == "/topic/a/b"


async def test_a_queue_goes_to_one_in_turn() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, subscribe(one, "/queue/jobs"), subscribe(two, "/queue/jobs"))
        await do(broker, *(publish("/queue/jobs", b"%d" % number) for number in range(4)))
        assert (one.bodies(), two.bodies()) == ([b"0", b"2"], [b"1", b"3"])


# How it looks.


async def test_it_is_encoded_once_for_all_that_see_the_same() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, subscribe(one, "/topic/a"), subscribe(two, "/topic/a"), publish("/topic/a"))
        [first], [second] = one.raw(), two.raw()
        assert first is second


async def test_it_is_encoded_once_also_when_versions_and_ids_alternate() -> None:
    old = [session(f"o{number}", version=Version.V1_0) for number in range(2)]
    new = [session(f"n{number}") for number in range(2)]
    async with running() as broker:
        for which, key in ((0, "1"), (1, "1")):
            await do(broker, subscribe(old[which], "/topic/a", key), subscribe(new[which], "/topic/a", key))
        await do(broker, publish("/topic/a"))
        olds, news = [who.raw()[0] for who in old], [who.raw()[0] for who in new]
        assert olds[0] is olds[1]
        assert news[0] is news[1]


async def test_versions_stay_in_sync_whatever_is_in_the_headers() -> None:
    everybody = [session(version.value, version=version) for version in Version]
    headers = {"x:y": "a:b", "two": "lines\nhere", "cr": "a\rb"}
    async with running() as broker:
        await do(broker, *(subscribe(who, "/topic/a") for who in everybody))
        for number in range(3):
            await do(broker, publish("/topic/a", b"%d" % number, **headers))
        for who in everybody:
            frames = who.frames()
            assert [frame.body for frame in frames] == [b"0", b"1", b"2"]
            assert {frame.headers["destination"] for frame in frames} == {"/topic/a"}


async def test_a_sender_cannot_forge_what_the_server_vouches_for() -> None:
    who = session()
    forged = {"message-id": "forged", "subscription": "forged", "ack": "forged", "destination": "forged"}
    async with running() as broker:
        await do(broker, subscribe(who, "/topic/a"), Publish("/topic/a", b"x", forged))
        assert "forged" not in who.frames()[0].headers.values()


# Users.


async def test_a_user_queue_reaches_all_sessions_of_its_user_and_nobody_else() -> None:
    phone, laptop, other = session("s1", "ada"), session("s2", "ada"), session("s3", "bob")
    async with running() as broker:
        await do(broker, *(subscribe(who, "/user/queue/x") for who in (phone, laptop, other)))
        await do(broker, PublishToUser("ada", "/queue/x", b"x", {}))
        assert (phone.bodies(), laptop.bodies(), other.bodies()) == ([b"x"], [b"x"], [])


async def test_one_session_of_a_user_can_be_meant() -> None:
    phone, laptop = session("s1", "ada"), session("s2", "ada")
    async with running() as broker:
        await do(broker, *(subscribe(who, "/user/queue/x") for who in (phone, laptop)))
        await do(broker, PublishToUser("ada", "/queue/x", b"x", {}, "s2"))
        assert (phone.bodies(), laptop.bodies()) == ([], [b"x"])


async def test_what_comes_on_a_user_queue_is_called_as_it_was_subscribed_to() -> None:
    who = session("s1", "ada")
    async with running() as broker:
        await do(broker, subscribe(who, "/user/queue/x"), PublishToUser("ada", "/queue/x", b"x", {}))
        assert who.frames()[0].headers["destination"] == "/user/queue/x"


async def test_a_send_to_a_named_user_reaches_her() -> None:
    who = session("s1", "ada")
    async with running() as broker:
        await do(broker, subscribe(who, "/user/queue/x"), publish("/user/ada/queue/x"))
        assert who.bodies() == [b"x"]


@pytest.mark.parametrize("attempt", ["/user/ada/queue/x", "/queue/x-userada", "/topic/**", "/queue/**"])
async def test_nobody_else_can_subscribe_to_a_users_queue(attempt: str) -> None:
    spy = session("s2", "eve")
    async with running() as broker:
        await do(broker, subscribe(spy, attempt), PublishToUser("ada", "/queue/x", b"x", {}))
        await do(broker, publish("/user/ada/queue/x"))
        assert spy.frames() == []


# Order with what is not a message.


async def test_nothing_is_delivered_behind_an_unsubscribe() -> None:
    who = session()
    async with running() as broker:
        await do(
            broker,
            subscribe(who, "/topic/a"),
            publish("/topic/a", b"before"),
            Unsubscribe(who.subscriber, "1"),
            publish("/topic/a", b"behind"),
        )
        assert who.bodies() == [b"before"]


async def test_a_reply_comes_in_its_turn() -> None:
    who = session()
    receipt = b"RECEIPT\nreceipt-id:1\n\n\0"
    async with running() as broker:
        await do(
            broker,
            subscribe(who, "/topic/a"),
            publish("/topic/a", b"1"),
            Reply(who.subscriber, receipt),
            publish("/topic/a", b"2"),
        )
        assert [frame.command for frame in who.frames()] == ["MESSAGE", "RECEIPT", "MESSAGE"]


async def test_an_answer_goes_to_one_subscription_only() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, *(subscribe(who, "/app/a", key) for who in (one, two) for key in "12"))
        await do(broker, Answer(one.subscriber, "2", "/app/a", b"x", {}))
        assert [frame.headers["subscription"] for frame in one.frames()] == ["2"]
        assert two.frames() == []


async def test_an_answer_to_what_was_unsubscribed_is_dropped() -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, "/app/a"), Unsubscribe(who.subscriber, "1"))
        await do(broker, Answer(who.subscriber, "1", "/app/a", b"x", {}))
        assert who.frames() == []


async def test_a_late_answer_does_not_reach_another_subscription_of_the_same_id() -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, "/app/a"), Unsubscribe(who.subscriber, "1"), subscribe(who, "/app/b"))
        await do(broker, Answer(who.subscriber, "1", "/app/a", b"x", {}))
        assert who.frames() == []


async def test_detaching_forgets_everything() -> None:
    who = session("s1", "ada")
    async with running() as broker:
        for key, destination in enumerate(("/topic/a", "/topic/**", "/user/queue/x", "/queue/q")):
            await do(broker, subscribe(who, destination, str(key)))
        assert broker.subscription_count == 4
        await do(broker, Detach(who.subscriber, 1000))
        assert broker.subscription_count == 0
        assert (len(broker._topics), len(broker._users), len(broker._owned)) == (0, 0, 0)


async def test_a_subscribe_behind_its_detach_is_dropped() -> None:
    who = session()
    async with running() as broker:
        await do(broker, Detach(who.subscriber, 1000), subscribe(who, "/topic/a"))
        assert broker.subscription_count == 0


async def test_what_was_queued_before_a_detach_is_still_written() -> None:
    who = session()
    async with running() as broker:
        await do(broker, subscribe(who, "/topic/a"), publish("/topic/a"), Detach(who.subscriber, 1000))
        assert who.bodies() == [b"x"]
        assert who.subscriber.outbox.close_code == 1000


# Limits.


async def test_who_has_no_room_is_told_and_forgotten_while_others_go_on() -> None:
    slow, quick = session("slow", bytes=1024), session("quick")
    async with running() as broker:
        await do(broker, subscribe(slow, "/topic/a"), subscribe(quick, "/topic/a"))
        for _ in range(5):
            await do(broker, publish("/topic/a", bytes(300)))
        assert slow.overflows == ["slow"]
        assert not slow.subscriber.is_attached
        assert len(quick.frames()) == 5


async def test_messages_are_limited_as_bytes_are() -> None:
    slow = session("slow", messages=3)
    async with running() as broker:
        await do(broker, subscribe(slow, "/topic/a"))
        for _ in range(9):
            await do(broker, publish("/topic/a"))
        assert slow.overflows == ["slow"]


async def test_one_frame_larger_than_an_outbox_passes_when_it_is_empty() -> None:
    who = session(bytes=1024)
    async with running() as broker:
        await do(broker, subscribe(who, "/topic/a"), publish("/topic/a", bytes(5000)))
        assert who.bodies() == [bytes(5000)]
        assert not who.overflows


async def test_a_receipt_without_room_is_an_overflow_too() -> None:
    who = session(bytes=1024)
    async with running() as broker:
        await do(broker, Reply(who.subscriber, bytes(1000)))
        await do(broker, Reply(who.subscriber, bytes(1000)))
        assert who.overflows


@pytest.mark.parametrize("attempt", range(8))  # the scheduler's order is random
async def test_a_burst_in_one_batch_does_not_end_a_client_that_keeps_up(attempt: int) -> None:
    who = session(bytes=1024)
    got: list[bytes] = []

    async def write() -> None:
        while data := await who.subscriber.outbox.take():
            got.append(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async with running() as broker:
            await do(broker, subscribe(who, "/topic/a"))
            await do(broker, *(publish("/topic/a", bytes(300)) for _ in range(20)))
            assert not who.overflows
            await do(broker, Detach(who.subscriber, 1000))
    assert b"".join(got).count(b"MESSAGE\n") == 20


async def test_the_broker_lets_others_run_within_a_long_batch() -> None:
    who = session()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with (
        trio.open_nursery() as nursery,
        running(yield_offers=10, flush_messages=1000, flush_seconds=1000) as broker,
    ):
        await do(broker, subscribe(who, "/topic/a"))
        for _ in range(500):
            broker.put(publish("/topic/a"))
        nursery.start_soon(count)
        while not who.subscriber.outbox._handed:
            await trio.lowlevel.checkpoint()
        assert turns >= 500 / 10
        nursery.cancel_scope.cancel()


async def test_one_commands_trouble_stays_its_own(caplog: pytest.LogCaptureFixture) -> None:
    who = session()
    async with running() as broker:
        broken = publish("/topic/a")
        broken.headers = None  # type: ignore[assignment]
        await do(broker, subscribe(who, "/topic/a"), broken, publish("/topic/a", b"after"))
        assert who.bodies() == [b"after"]
        assert broker._metrics.internal_errors == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_session_that_was_cut_does_not_end_the_broker() -> None:
    """Its outbox is closed before its Detach has been seen; what others publish still goes to it."""
    cut, other = session("s1"), session("s2")
    async with running(flush_messages=1) as broker:
        await do(broker, subscribe(cut, "/topic/a"), subscribe(other, "/topic/a"))
        cut.subscriber.outbox.close()
        await do(broker, publish("/topic/a"), Detach(cut.subscriber, 1001), publish("/topic/a"))
        assert other.bodies() == [b"x", b"x"]
        assert broker._metrics.internal_errors == 0


async def test_messages_and_deliveries_are_counted() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, subscribe(one, "/topic/a"), subscribe(two, "/topic/a"))
        await do(broker, publish("/topic/a"), publish("/topic/nobody"))
        metrics = broker._metrics
        assert metrics.messages_published == 2
        assert metrics.messages_delivered == 2
        assert metrics.messages_unmatched == 1


async def test_run_returns_once_the_inbox_is_closed_and_empty() -> None:
    who = session()
    async with running() as broker:
        broker.put(subscribe(who, "/topic/a"))
        broker.put(publish("/topic/a"))
        broker.inbox.close()
    assert who.bodies() == [b"x"]


# Over real sessions.


async def test_a_slow_client_gets_error_and_4500_while_others_go_on(autojump_clock: MockClock) -> None:
    config = without_heart_beats(outbox=OutboxConfig(bytes=4096, write_timeout=60))
    async with open_test_server(None, config) as server:
        quick = await open_peer(server)
        await quick.subscribe("/topic/a")
        async with gated_peer(server) as (slow, gate):
            await slow.subscribe("/topic/a")
            gate.shut()
            for number in range(20):
                await quick.say("SEND", bytes(1000), destination="/topic/a", receipt=str(number))
                assert (await quick.frame()).command == "MESSAGE"
                assert (await quick.frame()).headers == {"receipt-id": str(number)}
            gate.open()
            frames = await slow.to_end()
            assert frames[-1].command == "ERROR"
            assert "too slow" in frames[-1].headers["message"]
            assert slow.close_code == 4500
        statistics = server.statistics().metrics
        assert statistics.outbox_overflows == 1
        assert statistics.limit_hits["outbox.bytes"] == 1
        assert statistics.close_codes["4500"] == 1


async def test_a_slow_client_cannot_publish_once_it_was_given_up(autojump_clock: MockClock) -> None:
    config = without_heart_beats(outbox=OutboxConfig(bytes=4096, write_timeout=60))
    async with open_test_server(None, config) as server:
        quick = await open_peer(server)
        await quick.subscribe("/topic/b")
        async with gated_peer(server) as (slow, gate):
            await slow.subscribe("/topic/a")
            gate.shut()
            for _ in range(20):
                await quick.say("SEND", bytes(1000), destination="/topic/a")
            await wait_all_tasks_blocked()
            await slow.say("SEND", b"from beyond", destination="/topic/b")
            await quick.say("SEND", b"alive", destination="/topic/b")
            assert (await quick.frame()).body == b"alive"
            gate.open()


@pytest.mark.parametrize("attempt", range(4))  # the scheduler's order is random
async def test_a_burst_of_a_client_that_reads_does_not_end_it(
    attempt: int, autojump_clock: MockClock
) -> None:
    """As many subscriptions as it takes for one batch to be larger than the outbox."""
    config = without_heart_beats(outbox=OutboxConfig(bytes=64 * 1024))
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        for number in range(10):
            await peer.subscribe("/topic/a", str(number))
        await peer.send(*(stomp("SEND", bytes(2000), destination="/topic/a") for _ in range(20)))
        got = [await peer.frame() for _ in range(200)]
        assert {frame.command for frame in got} == {"MESSAGE"}
        metrics = server.statistics().metrics
        assert metrics.messages_delivered == 200
        assert metrics.frames_out == 200 + 10 + 1, "and the RECEIPTs, and CONNECTED"


async def test_a_full_inbox_stops_the_readers(autojump_clock: MockClock) -> None:
    """Nothing is lost, nothing is refused, and that it happened is counted."""
    config = without_heart_beats(broker=BrokerConfig(inbox=4))
    async with open_test_server(None, config) as server:
        peers: list[Peer] = [await open_peer(server) for _ in range(3)]
        await peers[0].subscribe("/topic/a")
        for peer in peers:
            await peer.send(*(stomp("SEND", b"%d" % number, destination="/topic/a") for number in range(100)))
        got = [(await peers[0].frame()).body for _ in range(300)]
        assert sorted(got, key=int) == sorted(
            (b"%d" % number for number in range(100) for _ in peers), key=int
        )
        assert server.statistics().metrics.broker_inbox_full > 0
        assert server.statistics().metrics.limit_hits["broker.inbox"] > 0


async def test_mixed_versions_chat_over_real_sessions(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats()) as server:
        peers = [await open_peer(server, version) for version in Version]
        for peer in peers:
            await peer.subscribe("/topic/a")
        for number in range(3):
            await peers[2].say(
                "SEND",
                b"%d" % number,
                destination="/topic/a",
                x="a:b",
                two="c\nd",
                cr="e\rf",
                message_id="no",
            )
        for peer in peers:
            for number in range(3):
                frame = await peer.frame()
                assert frame.body == b"%d" % number
                assert frame.headers["x"] == "a:b"
                assert frame.headers["message-id"] != "no"


async def test_a_session_that_cannot_be_ended_is_no_end_of_the_broker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    slow, other = session("slow", messages=1), session("other")
    slow.subscriber.overflowed = fail
    async with running() as broker:
        await do(broker, subscribe(slow, "/topic/a"), subscribe(other, "/topic/a"))
        await do(broker, publish("/topic/a"), publish("/topic/a"), publish("/topic/a"))
        assert len(other.bodies()) == 3
        await do(broker, publish("/topic/a"))
        assert len(other.bodies()) == 1
    assert "session slow: failed to end after an overflow" in caplog.text
