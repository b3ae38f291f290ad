"""Queues: one consumer in turn, messages that wait, and what becomes of those that are not acknowledged."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from brokering import Session, do, publish, running, session, subscribe
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_stomp.broker.commands import (
    Acknowledge,
    Command,
    Commit,
    Detach,
    Publish,
    Request,
    Subscribe,
    Unsubscribe,
)
from trio_stomp.broker.delivery import Delivery
from trio_stomp.broker.queues import Queues
from trio_stomp.broker.subscriptions import Subscription
from trio_stomp.broker.window import Parcel, Window
from trio_stomp.config import BrokerConfig
from trio_stomp.errors import OverloadedError, RemoteProtocolError
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.frames import Frame, Version


def consume(
    who: Session,
    destination: str = "/queue/q",
    *,
    ack: str = "client-individual",
    prefetch: int = 100,
    key: str = "1",
) -> Subscribe:
    return Subscribe(who.subscriber, key, key, destination, ack, prefetch)


def request(who: Session, receipt: bytes | None = None) -> Request:
    return Request(who.subscriber, Frame("ACK"), receipt)


def ack(who: Session, frame: Frame, *, is_taken: bool = True) -> Acknowledge:
    if who.subscriber.encoding.version is Version.V1_2:
        return Acknowledge(request(who), frame.headers["ack"], None, is_taken)
    return Acknowledge(request(who), frame.headers["message-id"], frame.headers.get("subscription"), is_taken)


def nack(who: Session, frame: Frame) -> Acknowledge:
    return ack(who, frame, is_taken=False)


def send(who: Session, body: bytes = b"x", destination: str = "/queue/q") -> Publish:
    return Publish(destination, body, {}, request(who, b"RECEIPT\nreceipt-id:r\n\n\0"))


def jobs(count: int, destination: str = "/queue/q") -> list[Command]:
    return [publish(destination, b"%d" % number) for number in range(count)]


def again(frames: list[Frame]) -> list[tuple[bytes, str | None]]:
    return [(frame.body, frame.headers.get("redelivered")) for frame in frames]


# What waits.


async def test_what_comes_before_the_first_consumer_waits_in_order() -> None:
    who = session()
    async with running() as broker:
        await do(broker, *jobs(3))
        assert broker.queued_count == 3
        await do(broker, subscribe(who, "/queue/q"))
        assert who.bodies() == [b"0", b"1", b"2"]
        assert broker.queued_count == 0


async def test_what_waits_is_for_a_pattern_too() -> None:
    who = session()
    async with running() as broker:
        await do(broker, *jobs(2, "/queue/a"), *jobs(1, "/queue/b"), *jobs(1, "/queue/b/c"))
        await do(broker, subscribe(who, "/queue/*"))
        assert Counter(who.bodies()) == {b"0": 2, b"1": 1}
        assert broker.queued_count == 1


async def test_a_consumer_of_a_pattern_and_one_of_the_queue_take_turns() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, subscribe(one, "/queue/**"), subscribe(two, "/queue/q"), *jobs(4))
        assert sorted([len(one.bodies()), len(two.bodies())]) == [2, 2]


async def test_what_nobody_takes_is_lost_with_the_broker_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as broker:
        await do(broker, *jobs(2))
    assert "2 messages in queues are lost" in caplog.text


@pytest.mark.parametrize(
    ("limit", "messages", "text"),
    [
        ({"queue_messages": 2}, [b"a", b"b"], "holds 2 messages"),
        ({"queue_bytes": 10}, [b"a" * 6, b"b" * 4], "holds 10 of 10 bytes"),
        ({"kept_bytes": 10}, [b"a" * 6, b"b" * 4], "all hold 10 bytes at most"),
    ],
    ids=["messages", "bytes", "all"],
)
async def test_a_full_queue_refuses_and_tells_its_sender(
    limit: dict[str, int], messages: list[bytes], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    who = session()
    async with running(**limit) as broker:
        await do(broker, *(send(who, body) for body in messages))
        assert len(who.frames()) == len(messages)
        await do(broker, send(who), send(who))
        assert who.frames() == []  # a RECEIPT is not given for what failed
        assert [type(error) for error in who.refusals] == [OverloadedError] * 2
        assert text in str(who.refusals[0])
        metrics = broker._metrics
        assert metrics.messages_refused == 2
        [name] = limit
        assert metrics.limit_hits[f"broker.{name}"] == 2
        assert caplog.text.count("messages are refused") == 1
        await do(broker, subscribe(who, "/queue/q"), send(who))
        assert len(who.frames()) == len(messages) + 2


async def test_no_more_queues_than_set_are_kept() -> None:
    who = session()
    async with running(queues=1) as broker:
        await do(broker, send(who), send(who), send(who, destination="/queue/other"))
        assert "1 queues hold messages" in str(who.refusals[0])
        assert broker.queued_count == 2


async def test_one_larger_than_a_queue_passes_alone() -> None:
    who = session()
    async with running(queue_bytes=10, kept_bytes=10) as broker:
        await do(broker, send(who, b"x" * 100), send(who))
        assert broker.queued_count == 1
        assert len(who.refusals) == 1


async def test_what_the_application_publishes_to_a_full_queue_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(queue_messages=1) as broker:
        await do(broker, *jobs(3))
        assert broker._metrics.messages_refused == 2
        assert "refused" in caplog.text


async def test_a_queue_that_was_half_empty_warns_again(caplog: pytest.LogCaptureFixture) -> None:
    who = session()
    async with running(queue_messages=2) as broker:
        await do(broker, consume(who, prefetch=9), *jobs(3))
        first, second = who.frames()
        await do(broker, ack(who, first), *jobs(2))
        assert caplog.text.count("messages are refused") == 2
        await do(broker, ack(who, second), *jobs(2))
        assert caplog.text.count("messages are refused") == 3


async def test_the_whole_brokers_limit_warns_again_when_half_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    who = session()
    async with running(kept_bytes=2) as broker:
        await do(broker, consume(who), *jobs(4))
        assert caplog.text.count("messages are refused") == 1
        frames = who.frames()
        await do(broker, *(ack(who, frame) for frame in frames), *jobs(3))
        assert caplog.text.count("messages are refused") == 2


# A consumer that is slow.


async def test_what_has_no_room_in_an_outbox_waits_until_there_is() -> None:
    who = session(bytes=2048)
    async with running() as broker:
        await do(
            broker, subscribe(who, "/queue/q"), *(publish("/queue/q", b"%03d" % n * 50) for n in range(40))
        )
        taken: list[bytes] = []
        outbox = who.subscriber.outbox
        while len(taken) < 40:
            bodies = who.bodies()
            assert 0 < len(bodies) <= 10
            taken += bodies
            assert outbox.on_room is not None or len(taken) == 40
            if outbox.on_room is not None:
                on_room, outbox.on_room = outbox.on_room, None
                on_room()
            await do(broker)
        assert taken == [b"%03d" % number * 50 for number in range(40)]
        assert not who.overflows


async def test_a_slow_consumer_leaves_its_turn_to_another() -> None:
    slow, quick = session("slow", bytes=1024), session("quick", bytes=1 << 20)
    async with running() as broker:
        await do(broker, subscribe(slow, "/queue/q"), subscribe(quick, "/queue/q"))
        await do(broker, *(publish("/queue/q", b"x" * 100) for _ in range(50)))
        assert 1 <= len(slow.bodies()) <= 5
        assert broker.queued_count == 0
        assert not slow.overflows


async def test_a_slow_consumer_that_leaves_is_forgotten() -> None:
    slow = session("slow", bytes=1024)
    async with running() as broker:
        await do(broker, subscribe(slow, "/queue/q"), *(publish("/queue/q", b"x" * 100) for _ in range(9)))
        assert slow.subscriber.outbox.on_room is not None
        await do(broker, Unsubscribe(slow.subscriber, "1"))
        slow.subscriber.outbox.on_room()
        await do(broker)
        kept = broker.queued_count
        assert kept >= 4
        await do(broker, Detach(slow.subscriber, 1000))
        assert broker.queued_count == kept


# Acknowledgements.


@pytest.mark.parametrize("version", list(Version))
async def test_a_consumer_has_as_many_unacknowledged_as_it_asked_for(version: Version) -> None:
    who = session(version=version)
    mode = "client" if version is Version.V1_0 else "client-individual"
    async with running() as broker:
        await do(broker, consume(who, ack=mode, prefetch=2), *jobs(4))
        first, second = who.frames()
        assert ("ack" in first.headers) == (version is Version.V1_2)
        assert (broker.queued_count, broker.unacked_count) == (4, 2)
        await do(broker, ack(who, first))
        assert who.bodies() == [b"2"]
        await do(broker, ack(who, second))
        assert who.bodies() == [b"3"]
        assert broker.queued_count == 2
        assert broker._metrics.messages_acknowledged == 2
        assert not who.refusals


@pytest.mark.parametrize(("mode", "left"), [("client", 1), ("client-individual", 2)])
async def test_an_ack_in_client_mode_is_about_all_before_it(mode: str, left: int) -> None:
    who = session()
    async with running() as broker:
        await do(broker, consume(who, ack=mode), *jobs(3))
        await do(broker, ack(who, who.frames()[1]))
        assert broker.queued_count == left


@pytest.mark.parametrize(("mode", "back"), [("client", [b"0", b"1"]), ("client-individual", [b"1"])])
async def test_a_nack_gives_back_and_it_comes_again(mode: str, back: list[bytes]) -> None:
    who = session()
    async with running() as broker:
        await do(broker, consume(who, ack=mode), *jobs(3))
        frames = who.frames()
        await do(broker, nack(who, frames[1]))
        second = who.frames()
        assert again(second) == [(body, "true") for body in back]
        assert {frame.headers["message-id"] for frame in second} < {
            frame.headers["message-id"] for frame in frames
        }
        assert not {frame.headers["ack"] for frame in second} & {frame.headers["ack"] for frame in frames}
        assert broker._metrics.messages_returned == broker._metrics.messages_redelivered == len(back)


async def test_what_is_given_back_goes_to_who_has_waited_longest() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, consume(one), consume(two), *jobs(2))
        (mine,), (_,) = one.frames(), two.frames()
        await do(broker, nack(one, mine))
        assert again(one.frames() + two.frames()) == [(b"0", "true")]


@pytest.mark.parametrize("how", ["session", "subscription", "overflow"])
async def test_a_lost_consumer_gives_back_in_order_before_what_waits(how: str) -> None:
    lost, other = session("lost", bytes=4096), session("other")
    async with running() as broker:
        await do(broker, consume(lost, prefetch=3), *jobs(5))
        assert lost.bodies() == [b"0", b"1", b"2"]
        if how == "session":
            await do(broker, Detach(lost.subscriber, 1006))
        elif how == "subscription":
            await do(broker, Unsubscribe(lost.subscriber, "1"))
        else:
            await do(
                broker,
                subscribe(lost, "/topic/t", "2"),
                *(publish("/topic/t", b"x" * 2000) for _ in range(3)),
            )
            assert lost.overflows
        await do(broker, subscribe(other, "/queue/q"))
        assert again(other.frames()) == [
            (b"0", "true"),
            (b"1", "true"),
            (b"2", "true"),
            (b"3", None),
            (b"4", None),
        ]
        assert (broker.queued_count, broker.unacked_count) == (0, 0)


async def test_what_several_give_back_is_in_its_old_order() -> None:
    one, two, late = session("s1"), session("s2"), session("late")
    async with running() as broker:
        await do(broker, consume(one), consume(two), *jobs(6))
        assert (one.bodies(), two.bodies()) == ([b"0", b"2", b"4"], [b"1", b"3", b"5"])
        await do(broker, Unsubscribe(two.subscriber, "1"), Unsubscribe(one.subscriber, "1"))
        one.frames()
        await do(broker, Detach(one.subscriber, 1000), subscribe(late, "/queue/q"))
        assert late.bodies() == [b"%d" % number for number in range(6)]


async def test_unacknowledged_bytes_are_bounded_but_for_one_that_is_larger() -> None:
    who = session()
    async with running(unacked_bytes=10) as broker:
        await do(
            broker, consume(who), publish("/queue/q", b"x" * 50), publish("/queue/q"), publish("/queue/q")
        )
        (first,) = who.frames()
        await do(broker, ack(who, first))
        assert len(who.frames()) == 2


async def test_a_full_window_leaves_its_turn_to_another_and_comes_back() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, consume(one, prefetch=1), consume(two, prefetch=2), *jobs(3))
        (mine,) = one.frames()
        assert len(two.frames()) == 2
        await do(broker, ack(one, mine), *jobs(1))
        assert one.bodies() == [b"0"]


async def test_an_ack_of_another_sessions_message_is_refused() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, consume(one), *jobs(1))
        (frame,) = one.frames()
        await do(broker, Acknowledge(request(two, b"r"), frame.headers["ack"], None, True))
        assert isinstance(two.refusals[0], RemoteProtocolError)
        assert (two.frames(), broker.unacked_count) == ([], 1)


@pytest.mark.parametrize("version", [Version.V1_0, Version.V1_1, Version.V1_2])
async def test_the_second_ack_of_a_message_is_refused(version: Version) -> None:
    who = session(version=version)
    async with running() as broker:
        await do(broker, consume(who, ack="client"), subscribe(who, "/topic/a", "2"), *jobs(1))
        (frame,) = who.frames()
        await do(broker, ack(who, frame), ack(who, frame))
        assert "no unacknowledged message" in str(who.refusals[0])


async def test_stomp_1_0_names_the_message_alone() -> None:
    who = session(version=Version.V1_0)
    async with running() as broker:
        await do(broker, consume(who, "/queue/a", key="1"), consume(who, "/queue/b", key="2"))
        await do(broker, *jobs(1, "/queue/b"))
        (frame,) = who.frames()
        await do(broker, Acknowledge(request(who, b""), frame.headers["message-id"], None, True))
        assert not who.refusals
        assert broker.unacked_count == 0


async def test_who_fails_at_a_refusal_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    who = session()

    def fail(frame: Frame, error: Exception) -> None:
        raise ValueError("no")

    who.subscriber.refused = fail
    async with running() as broker:
        await do(
            broker,
            Acknowledge(request(who), "1-1", None, True),
            subscribe(who, "/topic/a"),
            publish("/topic/a"),
        )
        assert who.bodies() == [b"x"]
        assert broker._metrics.internal_errors == 1


# On topics.


async def test_a_topic_gives_each_its_copy_and_a_nack_repeats_one() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, consume(one, "/topic/t"), consume(two, "/topic/t"), publish("/topic/t"))
        (mine,), (_,) = one.frames(), two.frames()
        await do(broker, nack(one, mine))
        assert again(one.frames()) == [(b"x", "true")]
        assert two.frames() == []


async def test_a_topics_messages_wait_behind_a_full_window_in_order() -> None:
    who = session()
    async with running() as broker:
        await do(broker, consume(who, "/topic/t", prefetch=1), *jobs(4, "/topic/t"))
        (first,) = who.frames()
        await do(broker, nack(who, first))
        (first,) = who.frames()
        assert again([first]) == [(b"0", "true")]
        for body in (b"1", b"2", b"3"):
            await do(broker, ack(who, first))
            (first,) = who.frames()
            assert again([first]) == [(body, None)]


@pytest.mark.parametrize(
    ("limits", "limit"), [({"messages": 3}, "outbox.messages"), ({"bytes": 1024}, "outbox.bytes")]
)
async def test_too_many_behind_a_window_are_an_overflow(limits: dict[str, int], limit: str) -> None:
    who = session(**limits)
    seen: list[str] = []
    who.subscriber.overflowed = seen.append
    async with running() as broker:
        await do(broker, consume(who, "/topic/t", prefetch=1), publish("/topic/t"))
        who.frames()
        await do(broker, *(publish("/topic/t", b"x" * 300) for _ in range(5)))
        assert seen == [limit]
        assert broker.subscription_count == 0
        assert broker._metrics.outbox_overflows == 1


async def test_too_much_unacknowledged_in_all_windows_of_a_session_together_is_an_overflow() -> None:
    who, other = session("s1"), session("s2")
    seen: list[str] = []
    who.subscriber.overflowed = seen.append
    message = publish("/topic/t", b"x" * 300)
    async with running(session_unacked_bytes=2000) as broker:
        await do(broker, subscribe(other, "/topic/t"))
        await do(broker, *(consume(who, "/topic/t", key=str(key), prefetch=2) for key in range(3)))
        for _ in range(5):  # what is acknowledged does not count, what is given back does not count twice
            await do(broker, message)
            first, *others = who.frames()
            await do(broker, nack(who, first))
            await do(broker, *(ack(who, frame) for frame in (*who.frames(), *others)))
        await do(broker, message, message)
        await do(broker, Unsubscribe(who.subscriber, "0"), message)
        assert (len(who.frames()), seen) == (6, [])
        await do(broker, message)
        assert seen == ["broker.session_unacked_bytes"]
        assert not broker._settling._held
        await do(broker, message)
        assert (broker.subscription_count, len(other.frames())) == (1, 10)


async def test_nothing_of_a_topic_counts_any_more_when_all_is_acknowledged_or_its_session_has_ended() -> None:
    one, two = session("s1"), session("s2")
    async with running() as broker:
        await do(broker, consume(one, "/topic/t"), consume(two, "/topic/t", prefetch=1), *jobs(3, "/topic/t"))
        assert len(broker._settling._held) == 2
        await do(broker, *(ack(one, frame) for frame in one.frames()))
        await do(broker, Detach(two.subscriber, 1000))
        assert not broker._settling._held


# Transactions.


async def test_a_commit_is_carried_out_in_one_piece_and_in_order() -> None:
    who, other = session("who"), session("other")
    async with running() as broker:
        await do(broker, consume(who), subscribe(other, "/topic/t"), *jobs(1))
        (frame,) = who.frames()
        commands = [publish("/topic/t", b"1"), ack(who, frame), publish("/topic/t", b"2")]
        await do(broker, Commit(request(who, b"RECEIPT\nreceipt-id:r\n\n\0"), commands))
        assert other.bodies() == [b"1", b"2"]
        assert who.frames()[0].command == "RECEIPT"
        assert (broker.queued_count, broker._metrics.transactions_committed) == (0, 1)


@pytest.mark.parametrize("obstacle", ["unknown", "twice", "covered", "queue", "queues"])
async def test_a_commit_that_cannot_be_whole_does_nothing(obstacle: str) -> None:
    who, other = session("who"), session("other")
    async with running(queue_messages=3, queues=1) as broker:
        mode = "client" if obstacle == "covered" else "client-individual"
        await do(broker, consume(who, ack=mode), subscribe(other, "/topic/t"), *jobs(2))
        first, second = who.frames()
        last: dict[str, list[Any]] = {
            "unknown": [Acknowledge(request(who), "1-99", None, True)],
            "twice": [ack(who, first), nack(who, first)],
            "covered": [ack(who, second), ack(who, first)],
            "queue": [publish("/queue/q"), publish("/queue/q")],
            "queues": [publish("/queue/q"), publish("/queue/other")],
        }
        await do(broker, Commit(request(who, b"R"), [publish("/topic/t"), *last[obstacle]]))
        assert len(who.refusals) == 1
        assert (who.frames(), other.frames()) == ([], [])
        assert (broker.queued_count, broker.unacked_count) == (2, 2)
        assert broker._metrics.transactions_committed == 0


# All of it together, against a model that knows no turns and no windows.


@given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "take", "ack", "nack", "leave", "join"]), st.integers(0, 2))
    )
)
@settings(max_examples=200)
def test_nothing_is_lost_or_doubled_and_the_order_is_kept(steps: list[tuple[str, int]]) -> None:
    """One queue, three consumers with windows of two: each message is with one consumer, waiting, or done."""
    given_out: list[tuple[Subscription, Parcel]] = []
    sessions = [session(f"s{number}") for number in range(3)]
    for who in sessions:
        who.subscriber.outbox.close()

    def hand(subscription: Subscription, parcel: Parcel) -> None:
        assert subscription.window is not None
        subscription.window.give(parcel)
        assert len(subscription.window.unacked) <= 2
        given_out.append((subscription, parcel))

    queues = Queues(BrokerConfig(), Metrics(), "/", hand=hand, wake=lambda subscriber: None)
    consumers: dict[int, Subscription] = {}
    published, done = 0, set()

    def number_of(parcel: Parcel) -> int:
        return int(parcel.delivery.message_id)

    for step, which in steps:
        consumer = consumers.get(which)
        if step == "publish":
            queues.publish("/queue/q", Delivery("/queue/q", str(published), {}, b""))
            published += 1
        elif step == "join" and consumer is None:
            window = Window(str(which), b"", Version.V1_1, is_cumulative=False, prefetch=2, max_bytes=1 << 20)
            consumer = Subscription(sessions[which].subscriber, "1", "/queue/q", None, window)
            consumers[which] = consumer
            queues.join(consumer)
        elif consumer is None:
            continue
        elif step == "leave":
            del consumers[which]
            queues.leave(consumer)
            assert consumer.window is not None
            queues.give_back(list(consumer.window.unacked.values()))
        elif consumer.window is not None and consumer.window.unacked and step in ("ack", "nack"):
            parcels = consumer.window.settle(next(iter(consumer.window.unacked)))
            if step == "ack":
                done |= {number_of(parcel) for parcel in parcels}
                queues.done(parcels)
            else:
                queues.give_back(parcels)
            queues.has_window(consumer)
        held = [
            number_of(parcel)
            for consumer in consumers.values()
            if consumer.window is not None
            for parcel in consumer.window.unacked.values()
        ]
        queue = queues._queues.get("/queue/q")
        waiting = [] if queue is None else [number_of(parcel) for parcel in queue.waiting]
        assert waiting == sorted(waiting)
        assert sorted([*held, *waiting, *done]) == list(range(published))
        assert queues.message_count == len(held) + len(waiting)
        if waiting:  # then nobody who is there could take one
            assert all(each.window is not None and not each.window.is_open for each in consumers.values())
